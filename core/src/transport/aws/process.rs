//! The program that a profile names with `credential_process` ("AWS SDKs and Tools Reference Guide", "Process credential
//! provider"): a program of somebody else's, which may print nothing, hang, or leave others running.

use std::fmt::Display;
use std::io::Read;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use super::credentials::{failed, from_json, Credentials};
use crate::error::Result;

/// Between two looks whether the program has ended. What it prints is waited for without looking.
const LOOK: Duration = Duration::from_millis(5);
/// More than credentials need.
const MOST: u64 = 256 * 1024;

/// Runs the program and reads what it prints.
pub(super) fn run(command: &str, deadline: Instant) -> Result<Credentials> {
    let bad = |why: &dyn Display| failed(format_args!("`credential_process` {why}; run it by hand to see"));
    let mut child = shell(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| bad(&e))?;
    let printed = child.stdout.take().map(read).transpose().map_err(|e| bad(&e));
    let ended = match &printed {
        Ok(Some(printed)) => wait(&mut child, printed, deadline),
        _ => None,
    };
    let Some((text, status)) = ended else {
        end(child);
        printed?;
        return Err(bad(&"did not end in time"));
    };
    if !status.success() {
        return Err(bad(&format_args!("failed ({status})")));
    }
    from_json(&text, "SessionToken").ok_or_else(|| bad(&"did not print JSON with AccessKeyId and SecretAccessKey"))
}

/// The command, to be run in a group of its own: so all that it starts can be ended.
fn shell(command: &str) -> Command {
    let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let mut shell = Command::new(shell);
    shell.args([flag, command]);
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut shell, 0);
    shell
}

/// Reads on a thread, which ends with the last process that could still print.
fn read(output: ChildStdout) -> std::io::Result<Receiver<String>> {
    let (printed, text) = mpsc::channel();
    thread::Builder::new().name("unstale-aws".into()).spawn(move || {
        let mut text = String::new();
        let read = output.take(MOST).read_to_string(&mut text);
        let _ = printed.send(read.map_or(String::new(), |_| text));
    })?;
    Ok(text)
}

/// What was printed, and how the program ended; nothing if that takes too long.
fn wait(child: &mut Child, printed: &Receiver<String>, deadline: Instant) -> Option<(String, ExitStatus)> {
    let left = || deadline.saturating_duration_since(Instant::now());
    let text = printed.recv_timeout(left()).ok()?;
    loop {
        if let Some(status) = child.try_wait().ok()? {
            return Some((text, status));
        }
        if left().is_zero() {
            return None;
        }
        thread::sleep(LOOK.min(left()));
    }
}

/// Ends the program and what it started. It may be one that this process may not end (`sudo`), or hang in the kernel, so
/// nobody waits for it here.
fn end(mut child: Child) {
    #[cfg(unix)]
    // SAFETY: no memory is involved. A group that has nobody any more is an error, and its number is not another's as long
    // as the program was not waited for, or something of it still prints.
    unsafe {
        libc::kill(-(child.id() as libc::pid_t), libc::SIGKILL);
    }
    let _ = child.kill();
    let _ = thread::Builder::new().name("unstale-aws".into()).spawn(move || child.wait());
}
