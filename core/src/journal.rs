//! `outbox_dir`: what an outbox holds, in a file that outlives the process. The only module that writes files.
//!
//! One append-only file per client start and topic, locked while its process lives, so that whoever can lock it may take
//! it up. An addition is written before it may be sent and before its caller goes on: a process killed a moment later
//! loses nothing. That it is on the disk, in case the machine goes down, is the business of one thread per client, which
//! syncs what has gathered meanwhile.
//!
//! A file that cannot be written costs durability and never an invalidation: it waits in memory and is sent as usual.

mod directory;
mod format;
mod held;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::outbox::Outbox;

pub(crate) use directory::{Directory, Left};
#[cfg(unix)]
pub(crate) use held::forked;

use format::Header;
use held::Held;

/// A file is begun again when it is twice as long as what it had to hold the last time, but not below this.
const LEAST_TO_SHRINK: u64 = 1 << 20;
/// A file that could not be written is tried again after this, with the next addition.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One stream's file. Nothing is there until there is something to write.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: Arc<Directory>,
    path: PathBuf,
    header: Header,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<Arc<Held>>,
    /// Bytes known to be good.
    length: u64,
    /// The file begun again, until it is safe on the disk and takes the name.
    successor: Option<Successor>,
    shrink_above: u64,
    /// When writing last failed; what was added since is not in the file.
    failed: Option<Instant>,
    /// The directory does not have the file's name on the disk yet.
    unnamed: bool,
    /// The thread that syncs knows of it.
    queued: bool,
    ended: bool,
}

#[derive(Debug)]
struct Successor {
    file: Arc<Held>,
    length: u64,
    /// What of that there was to hold when it was begun.
    held: u64,
}

/// Whether records are to be synced: an addition is a promise, an acknowledgement only saves sending again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    Soon,
    No,
}

impl Journal {
    /// Appends records of `outbox`, which must stay locked meanwhile: the order in the file is that of the numbers.
    pub fn append(&self, records: &[Vec<u8>], outbox: &Outbox, sync: Sync) {
        let mut state = self.inner.state.lock();
        let waits = state.failed.is_some_and(|at| at.elapsed() < RETRY_AFTER);
        if records.is_empty() || state.ended || waits {
            return;
        }
        let began = self.inner.write(&mut state, records, outbox);
        if (began || sync == Sync::Soon) && !state.queued {
            state.queued = true;
            self.inner.directory.sync_soon(self);
        }
    }

    /// The end of it: deletes the file, or leaves it for whoever takes it up.
    pub fn end(&self, delete: bool, outbox: &Outbox) {
        let inner = &*self.inner;
        let mut state = inner.state.lock();
        if state.ended {
            return;
        }
        if !delete && state.failed.is_some() {
            inner.write(&mut state, &[], outbox);
        }
        state.ended = true;
        inner.drop_successor(&mut state);
        let Some(file) = state.file.take() else { return };
        // Without the directory's lock at worst somebody takes up a file in which all is acknowledged.
        let _alone = inner.directory.alone();
        let done = if delete { fs::remove_file(&inner.path) } else { file.file.sync_data() };
        match done {
            Ok(()) => inner.directory.mended(&inner.path),
            Err(e) => inner.directory.failed(&inner.path, &e),
        }
        file.release();
    }

    /// Puts on the disk what is in the file. On the thread for that.
    fn sync(&self) {
        let inner = &*self.inner;
        let (file, successor, unnamed) = {
            let mut state = inner.state.lock();
            state.queued = false;
            let unnamed = std::mem::take(&mut state.unnamed);
            (state.file.clone(), state.successor.as_ref().map(|s| s.file.clone()), unnamed)
        };
        let done = file.map_or(Ok(()), |file| file.file.sync_data()).and_then(|()| match &successor {
            Some(successor) => successor.file.sync_data().and_then(|()| inner.succeed(successor)),
            None if unnamed => inner.directory.sync(),
            None => Ok(()),
        });
        if let Err(e) = done {
            inner.fail(&mut inner.state.lock(), &e);
        }
    }
}

impl Inner {
    /// Writes `records`, or all of `outbox` where the file does not have the rest. True when it was begun again.
    fn write(&self, state: &mut State, records: &[Vec<u8>], outbox: &Outbox) -> bool {
        let done = if state.failed.is_some() || state.length == 0 {
            self.mend(state, &outbox.snapshot())
        } else {
            append(state, &self.bytes(false, records))
        };
        match done {
            Ok(()) => {
                if state.failed.take().is_some() {
                    self.directory.mended(&self.path);
                }
            }
            Err(e) => {
                self.fail(state, &e);
                return false;
            }
        }
        if state.length <= state.shrink_above.max(LEAST_TO_SHRINK) || state.successor.is_some() {
            return false;
        }
        match self.begin_again(&outbox.snapshot()) {
            Ok(successor) => {
                state.successor = Some(successor);
                true
            }
            Err(e) => {
                // The file itself is whole; it may grow meanwhile.
                state.shrink_above = 2 * state.length;
                self.directory.failed(&self.path, &e);
                false
            }
        }
    }

    /// Writes everything behind what is known to be good. The file is made where there is none.
    fn mend(&self, state: &mut State, snapshot: &[Vec<u8>]) -> io::Result<()> {
        match &state.file {
            Some(file) => file.file.set_len(state.length)?,
            None => {
                state.file = Some(Arc::new(self.directory.create(&self.path)?));
                state.unnamed = true;
            }
        }
        append(state, &self.bytes(state.length == 0, snapshot))
    }

    /// A new file with what there is to hold now. It takes the name once it is on the disk; until then additions go to both.
    fn begin_again(&self, snapshot: &[Vec<u8>]) -> io::Result<Successor> {
        let file = self.directory.create(&self.successor_path())?;
        let bytes = self.bytes(true, snapshot);
        write_at_once(&file, &bytes)?;
        let held = bytes.len() as u64;
        Ok(Successor { file: Arc::new(file), length: held, held })
    }

    /// The successor is on the disk, and becomes the file.
    fn succeed(&self, synced: &Arc<Held>) -> io::Result<()> {
        let mut state = self.state.lock();
        // It may have been given up meanwhile.
        let Some(successor) = state.successor.take_if(|s| Arc::ptr_eq(&s.file, synced)) else { return Ok(()) };
        let alone = self.directory.alone()?;
        fs::rename(self.successor_path(), &self.path)?;
        state.file = Some(successor.file);
        state.length = successor.length;
        state.shrink_above = 2 * successor.held;
        drop((state, alone));
        self.directory.mended(&self.path);
        self.directory.sync()
    }

    fn drop_successor(&self, state: &mut State) {
        if state.successor.take().is_some() {
            let _ = fs::remove_file(self.successor_path());
        }
    }

    fn fail(&self, state: &mut State, error: &io::Error) {
        self.drop_successor(state);
        state.failed = Some(Instant::now());
        self.directory.failed(&self.path, error);
    }

    fn successor_path(&self) -> PathBuf {
        self.path.with_extension(directory::SUCCESSOR)
    }

    fn bytes(&self, with_header: bool, records: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        if with_header {
            format::append_header(&mut bytes, &self.header);
        }
        records.iter().for_each(|record| format::append(&mut bytes, record));
        bytes
    }
}

fn append(state: &mut State, bytes: &[u8]) -> io::Result<()> {
    let Some(file) = &state.file else { return Ok(()) };
    write_at_once(file, bytes)?;
    state.length += bytes.len() as u64;
    if let Some(successor) = &mut state.successor {
        write_at_once(&successor.file, bytes)?;
        successor.length += bytes.len() as u64;
    }
    Ok(())
}

/// One write, so that a process killed meanwhile leaves whole records or a torn last one.
fn write_at_once(held: &Held, bytes: &[u8]) -> io::Result<()> {
    match (&held.file as &File).write(bytes)? {
        written if written == bytes.len() => Ok(()),
        _ => Err(io::Error::from(io::ErrorKind::StorageFull)),
    }
}

#[cfg(test)]
mod tests;
