//! `aws-standin --config FILE [--report FILE]`: prints its ports as one JSON line, then serves until stdin ends or SIGTERM.
//! `aws-standin --certificates FOLDER`: writes certificates for the TLS ports, and ends.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut config = None;
    let mut report = None;
    let mut certificates = None;
    let mut is_wrong = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        match (name.as_str(), arguments.next()) {
            ("--config", Some(path)) => config = Some(path),
            ("--report", Some(path)) => report = Some(path),
            ("--certificates", Some(folder)) => certificates = Some(folder),
            _ => is_wrong = true,
        }
    }
    let outcome = match (config, certificates) {
        (Some(config), None) if !is_wrong => unstale_standin::run(&config, report.as_deref()),
        (None, Some(folder)) if !is_wrong => unstale_standin::certificates::write(folder.as_ref()),
        _ => {
            eprintln!("usage: aws-standin --config FILE [--report FILE] | --certificates FOLDER");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("aws-standin: {problem}");
            ExitCode::FAILURE
        }
    }
}
