//! A file that is this process's alone while it lives: an advisory lock that ends with the process, however it ends.
//!
//! The lock belongs to the open file, which a forked child inherits: a child that outlives its parent would keep the
//! parent's files from whoever takes them up. So the child lets go of them as it is born.

use std::fs::File;
use std::io;
#[cfg(unix)]
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, Ordering};

/// The descriptors of the files held. More than that are still locked, but a forked child keeps them, too.
static DESCRIPTORS: [AtomicI32; 512] = [const { AtomicI32::new(FREE) }; 512];
const FREE: i32 = -1;

/// A locked file.
#[derive(Debug)]
pub struct Held {
    pub file: File,
    slot: Option<&'static AtomicI32>,
    process: u32,
}

impl Held {
    /// Locks `file`; `None` when another open file has the lock, here or in another process.
    pub fn lock(file: File) -> io::Result<Option<Held>> {
        #[cfg(unix)]
        let descriptor = file.as_raw_fd();
        #[cfg(not(unix))]
        let descriptor = FREE;
        let claim =
            |slot: &&AtomicI32| slot.compare_exchange(FREE, descriptor, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        // Known before it is locked: a child forked in between would else keep the lock.
        let held = Held { slot: DESCRIPTORS.iter().find(claim), process: std::process::id(), file };
        Ok(lock(&held.file)?.then_some(held))
    }

    /// Lets others have the lock, whoever still has the file open.
    pub fn release(&self) {
        if self.process == std::process::id() {
            unlock(&self.file);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
        // In a forked child the slot is the child's own.
        if let Some(slot) = self.slot.filter(|_| self.process == std::process::id()) {
            slot.store(FREE, Ordering::Release);
        }
    }
}

/// Locks `file` for this process; false when another has it. The standard library's own came with Rust 1.89.
#[cfg(unix)]
pub fn lock(file: &File) -> io::Result<bool> {
    // SAFETY: `file` is open for the whole call, and flock touches no memory of ours.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        e if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        e => Err(e),
    }
}

/// So `outbox_dir` is refused there.
#[cfg(not(unix))]
pub fn lock(_: &File) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Gives the lock back. Closing the file would not do: a child forked meanwhile has it open, too.
pub fn unlock(file: &File) {
    #[cfg(unix)]
    // SAFETY: as above.
    unsafe {
        libc::flock(file.as_raw_fd(), libc::LOCK_UN);
    }
    #[cfg(not(unix))]
    let _ = file;
}

/// In a forked child, before anything else: what was held there are the parent's files.
#[cfg(unix)]
pub fn forked() {
    // SAFETY: open, dup2, fcntl and close may be called between fork and exec; the path is a C string. The descriptors
    // stay open, as something harmless, because values that own them are still around.
    unsafe {
        let nothing = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        for slot in &DESCRIPTORS {
            let descriptor = slot.swap(FREE, Ordering::AcqRel);
            if descriptor != FREE && nothing >= 0 && libc::dup2(nothing, descriptor) >= 0 {
                libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
        if nothing >= 0 {
            libc::close(nothing);
        }
    }
}
