//! `unstale`, the command-line tool: a development broker, invalidations by hand, a look at what travels, and
//! a doctor for connections.

mod broker;
mod connection;
mod decode;
mod describe;
mod doctor;
mod failure;
mod invalidate;
mod output;
mod signals;
mod watch;

use std::process::ExitCode;

use clap::{ColorChoice, Parser, Subcommand};

use failure::Failure;
use output::Output;

/// Keep the in-process caches of many services fresh: invalidate, watch, debug.
#[derive(Parser)]
#[command(name = "unstale", version, max_term_width = 110, after_help = EXAMPLES)]
struct Arguments {
    /// When to colour: on a terminal (auto; the variable NO_COLOR turns it off), always, or never.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    color: ColorChoice,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Broker(broker::Arguments),
    Invalidate(invalidate::Arguments),
    Watch(watch::Arguments),
    Decode(decode::Arguments),
    Doctor(doctor::Arguments),
}

const EXAMPLES: &str = "\
Examples:
  unstale broker
  unstale watch --url mqtt://localhost
  unstale invalidate --url mqtt://localhost --namespace users user:42
  unstale decode '{\"v\":1,\"keys\":[\"user:42\"]}'
  unstale doctor mqtt://localhost

Exit codes:
  0   done; `invalidate`: the broker has accepted everything
  1   failed: a malformed payload, a port that is taken, unwritable output,
      `doctor`: something is wrong
  2   wrong usage: an argument, an option, an environment variable
  13  Connect: the broker cannot be reached, or took the connection away
  14  Auth: the broker refused the credentials, or a topic to them
  15  Tls: the handshake failed, or a certificate or key cannot be used
  16  Timeout: the broker did not confirm in time; it may have the message
  19  Internal: a fault in this tool; please report it

Options of the client may also come from the environment (UNSTALE_URL,
UNSTALE_USERNAME, UNSTALE_PASSWORD, UNSTALE_SIGNING_KEY, ...) or from the
URL's query (mqtt://host?keep_alive=10s).";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.color);
    let result = match arguments.command {
        Command::Broker(arguments) => broker::run(&arguments, &output),
        Command::Invalidate(arguments) => invalidate::run(&arguments, &output),
        Command::Watch(arguments) => watch::run(&arguments, &output),
        Command::Decode(arguments) => decode::run(&arguments, &output),
        Command::Doctor(arguments) => doctor::run(&arguments, &output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Reported | Failure::ReaderGone) {
                output.failure(&failure);
            }
            ExitCode::from(failure.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        super::Arguments::command().debug_assert();
    }
}
