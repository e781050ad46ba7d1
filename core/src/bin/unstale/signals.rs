//! Ctrl-C and `kill`: the first asks the command to end cleanly, a second one ends it at once.

use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver};

use crate::failure::Failure;

/// Something arrives here when the user or the system wants this process to end.
///
/// Call it before other threads start: they inherit the mask that leaves the signals to one thread. That thread only
/// waits for signals, so nothing here runs in a signal handler.
#[cfg(unix)]
pub fn stop_requests() -> Result<UnboundedReceiver<()>, Failure> {
    let (sender, receiver) = unbounded_channel();
    // SAFETY: an all-zero `sigset_t` is a valid value to pass to `sigemptyset`, which then initialises it; the
    // pointers are to a local that outlives the calls.
    let set = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGINT);
        libc::sigaddset(&mut set, libc::SIGTERM);
        if libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
            return Err(Failure::Work("cannot prepare to be ended by a signal".into()));
        }
        set
    };
    let wait = move || loop {
        let mut signal = 0;
        // SAFETY: both pointers are to initialised locals; the signals of the set are blocked in this thread, as
        // `sigwait` requires, because it inherited the mask.
        if unsafe { libc::sigwait(&set, &mut signal) } != 0 {
            return;
        }
        if sender.is_closed() || ASKED.swap(true, std::sync::atomic::Ordering::Relaxed) {
            std::process::exit(128 + signal);
        }
        let _ = sender.send(());
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(wait)
        .map_err(|e| Failure::Work(format!("cannot start a thread: {e}")))?;
    Ok(receiver)
}

#[cfg(unix)]
static ASKED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Elsewhere the system's default ends the process; nothing ever arrives here.
#[cfg(not(unix))]
pub fn stop_requests() -> Result<UnboundedReceiver<()>, Failure> {
    let (sender, receiver) = unbounded_channel();
    std::mem::forget(sender);
    Ok(receiver)
}
