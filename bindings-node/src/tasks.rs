//! Where futures of the core that JavaScript waits for are polled: one thread, started with the first of them.

use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;

use tokio::sync::mpsc::{unbounded_channel, UnboundedSender};
use unstale::{Error, ErrorKind, Result};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs `task` to its end. The core's futures never block, so one thread serves any number.
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    static SENDER: OnceLock<std::result::Result<UnboundedSender<Task>, String>> = OnceLock::new();
    let failed = |why: &dyn std::fmt::Display| Error::new(ErrorKind::Internal, format!("cannot run tasks: {why}"));
    match SENDER.get_or_init(|| start().map_err(|e| e.to_string())) {
        Ok(sender) => sender.send(Box::pin(task)).map_err(|e| failed(&e)),
        Err(why) => Err(failed(why)),
    }
}

fn start() -> std::io::Result<UnboundedSender<Task>> {
    let (sender, mut receiver) = unbounded_channel::<Task>();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    std::thread::Builder::new().name("unstale-tasks".into()).spawn(move || {
        runtime.block_on(async {
            while let Some(task) = receiver.recv().await {
                tokio::spawn(task);
            }
        });
    })?;
    Ok(sender)
}
