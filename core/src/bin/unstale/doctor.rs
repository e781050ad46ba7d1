//! `unstale doctor`: the way to a broker and back, one check after the other, and in words what is wrong and how to mend it.

mod broker;
mod clock;
mod network;
mod report;

use unstale::message;

use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::Output;

use report::{Report, Verdict};

/// Find out why a service cannot use a broker, or what it will trip over.
///
/// Looks up the host, connects, logs in, subscribes, publishes and measures, with the options that the services have. Other clients
/// notice nothing but empty messages, which they ignore; all else goes to a topic of the doctor's own.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The broker's URL; the same as --url.
    #[arg(value_name = "URL", conflicts_with = "url")]
    broker: Option<String>,

    #[command(flatten)]
    connection: Connection,

    /// A namespace that the services use; may be repeated. Default: the cache without a namespace.
    #[arg(short, long = "namespace", value_name = "NAME")]
    namespaces: Vec<String>,

    /// One JSON object with all checks.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  unstale doctor mqtt://localhost
  unstale doctor mqtts://broker.example.com --username me --ca-file ca.pem --namespace users
  unstale doctor awsiot://abc-ats.iot.eu-central-1.amazonaws.com --cert-file c.pem --key-file k.pem
  unstale doctor mqtt://localhost --json | jq '.checks[] | select(.verdict != \"ok\")'

Exit code 0 when nothing is wrong (warnings allowed), 1 when something is.";

pub fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let config = arguments.connection.config_for(arguments.broker.as_deref())?;
    for namespace in &arguments.namespaces {
        message::check_namespace(namespace)?;
    }
    let mut report = Report::new(output, arguments.json);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Work(format!("cannot start: {e}")))?;
    runtime.block_on(async {
        report.add(network::options(&config))?;
        let (check, addresses) = network::resolve(&config);
        let mut reachable = check.verdict != Verdict::Failed;
        report.add(check)?;
        if reachable {
            let check = network::connect(&config, &addresses);
            reachable = check.verdict != Verdict::Failed;
            report.add(check)?;
        }
        if reachable {
            report.add(clock::check(&config, &addresses))?;
            broker::check(&config, &arguments.namespaces, &mut report).await?;
        }
        Ok::<(), Failure>(())
    })?;
    report.end()
}
