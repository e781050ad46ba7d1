//! `unstale decode`: what a payload means, or why it is malformed.

use std::io::{IsTerminal, Read};

use unstale::message::SigningKeys;

use crate::describe::Reading;
use crate::failure::Failure;
use crate::output::Output;

/// Explain a payload: what it invalidates, or why caches cannot read it.
///
/// Reads the same way as the caches do, without a broker.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The payload; "-" or none reads it from standard input, byte for byte.
    #[arg(value_name = "PAYLOAD")]
    payload: Option<String>,

    /// The payload is written in hexadecimal, spaces allowed.
    #[arg(long)]
    hex: bool,

    /// Check the signature, as that of a message on this topic; the keys come from UNSTALE_SIGNING_KEY.
    #[arg(long, value_name = "TOPIC")]
    on: Option<String>,

    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  unstale decode user:42
  unstale decode '{\"v\":1,\"src\":\"a\",\"seq\":7,\"tags\":[\"vip\"]}'
  mosquitto_sub -t 'cache/invalidate/#' -C 1 -N | unstale decode --json
  UNSTALE_SIGNING_KEY=2026-11:00… unstale decode --on cache/invalidate/users '{…,\"sig\":\"2026-11:ab…\"}'
  unstale decode --hex '7b 22 76 22 3a 32 7d'

Exit codes: 0 it can be read, 1 it is malformed or its signature is refused, 2 wrong usage.";

pub fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let mut payload = match arguments.payload.as_deref() {
        Some(text) if text != "-" => text.as_bytes().to_vec(),
        _ => {
            if std::io::stdin().is_terminal() {
                output.note("reading the payload from the terminal; Ctrl-D ends it");
            }
            let mut bytes = Vec::new();
            std::io::stdin()
                .read_to_end(&mut bytes)
                .map_err(|e| Failure::Work(format!("cannot read the standard input: {e}")))?;
            bytes
        }
    };
    if arguments.hex {
        payload = from_hex(&payload)?;
    }
    let keys = arguments.on.as_ref().map(|_| keys()).transpose()?;
    let reading = Reading::of(&payload).checked(arguments.on.as_deref().unwrap_or_default(), keys.as_ref());
    if arguments.json {
        output.line(&serde_json::Value::Object(reading.json()).to_string())?;
    } else {
        for line in reading.paragraph(output.pen()) {
            output.line(&line)?;
        }
    }
    if reading.malformed().is_some() || reading.refused().is_some() {
        return Err(Failure::Reported);
    }
    Ok(())
}

/// From the environment, where other users of this machine cannot see them.
fn keys() -> Result<SigningKeys, Failure> {
    let keys = std::env::var("UNSTALE_SIGNING_KEY")
        .map_err(|_| Failure::Usage("--on needs the keys, in the variable UNSTALE_SIGNING_KEY".into()))?;
    Ok(SigningKeys::parse(keys.split(','))?)
}

fn from_hex(text: &[u8]) -> Result<Vec<u8>, Failure> {
    let digits = text
        .iter()
        .filter(|b| !b.is_ascii_whitespace())
        .map(|&b| {
            char::from(b)
                .to_digit(16)
                .ok_or_else(|| Failure::Usage(format!("--hex: {:?} is not a hexadecimal digit", char::from(b))))
        })
        .collect::<Result<Vec<u32>, _>>()?;
    if digits.len() % 2 != 0 {
        return Err(Failure::Usage("--hex: an odd number of digits; every byte needs two".into()));
    }
    Ok(digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}
