//! The folder of a client's journals: what it may be, who may change it, what dead processes left in it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::format::{self, Content, Header, Unreadable};
use super::held::{self, Held};
use super::{Inner, Journal, State};
use crate::error::{Error, Result};
use crate::message::Message;

const FILE: &str = "outbox";
pub(super) const SUCCESSOR: &str = "successor";
const SET_ASIDE: &str = "corrupt";
/// Nobody keeps the folder locked longer than for a few calls.
const LOCK_WITHIN: Duration = Duration::from_secs(1);
/// A failure is logged at most this often.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// Syncs are this far apart, so that a busy client shares them.
const SYNC_EVERY: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// The folder itself, for its lock: files are made, renamed, deleted and taken up under it.
    lock: Mutex<File>,
    next: AtomicU64,
    syncing: Option<Sender<Journal>>,
    trouble: Mutex<Trouble>,
    process: u32,
}

#[derive(Debug, Default)]
struct Trouble {
    errors: BTreeMap<PathBuf, String>,
    logged: Option<Instant>,
}

/// What a dead process left.
#[derive(Debug)]
pub(crate) struct Left {
    pub journal: Journal,
    pub src: Arc<str>,
    pub topic: String,
    pub namespace: String,
    pub records: Vec<Message>,
}

/// The folder's lock; given back when dropped.
pub(super) struct Alone<'a>(MutexGuard<'a, File>);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        held::unlock(&self.0);
    }
}

impl Directory {
    /// The folder `path`, made if it is missing.
    ///
    /// # Errors
    /// `Config` when files cannot be made in it.
    pub fn open(path: &Path, src: &str) -> Result<Arc<Directory>> {
        let refused = |e| {
            Error::config(format!(
                "option `outbox_dir` is {}, where no file can be made: {e}; name a folder that this process may write to, or leave the option out",
                path.display()
            ))
        };
        let lock = usable(path, src).map_err(refused)?;
        let (syncing, journals) = channel();
        std::thread::Builder::new()
            .name("unstale-outbox".into())
            .spawn(move || sync_all(&journals))
            .map_err(|e| Error::internal(format!("no thread could be started: {e}")))?;
        let directory = Directory {
            path: path.to_owned(),
            lock: Mutex::new(lock),
            next: AtomicU64::new(1),
            syncing: Some(syncing),
            trouble: Mutex::default(),
            process: std::process::id(),
        };
        // Some network file systems know no locks.
        directory.alone().map(drop).map_err(refused)?;
        Ok(Arc::new(directory))
    }

    /// A journal for one stream of the client `src`.
    pub fn journal(self: &Arc<Self>, src: &str, topic: &str, namespace: &str) -> Journal {
        // Not the namespace: some file systems do not tell "Users" from "users".
        let name = format!("{src}-{}.{FILE}", self.next.fetch_add(1, Ordering::Relaxed));
        self.with(self.path.join(name), Header::new(src, topic, namespace), State::default())
    }

    fn with(self: &Arc<Self>, path: PathBuf, header: Header, state: State) -> Journal {
        Journal { inner: Arc::new(Inner { directory: self.clone(), path, header, state: Mutex::new(state) }) }
    }

    /// Takes up what dead processes left. Files that cannot be used stay, and are told of.
    pub fn take_up(self: &Arc<Self>) -> Vec<Left> {
        let abandoned = self.abandoned().unwrap_or_else(|e| {
            self.failed(&self.path, &e);
            Vec::new()
        });
        abandoned.into_iter().filter_map(|(path, held)| self.read(path, held)).collect()
    }

    /// The files whose processes are dead, locked.
    fn abandoned(&self) -> io::Result<Vec<(PathBuf, Held)>> {
        let _alone = self.alone()?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let extension = path.extension().and_then(|e| e.to_str());
            if !matches!(extension, Some(FILE | SUCCESSOR)) {
                continue;
            }
            let held = match OpenOptions::new().read(true).append(true).open(&path).and_then(Held::lock) {
                Ok(Some(held)) => held,
                Ok(None) => continue,
                Err(e) => {
                    tracing::warn!(target: "unstale", "{} cannot be taken up: {e}", path.display());
                    continue;
                }
            };
            if extension == Some(SUCCESSOR) {
                // It never took the name, so the file has all that it has.
                fs::remove_file(&path)?;
            } else {
                found.push((path, held));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    fn read(self: &Arc<Self>, path: PathBuf, held: Held) -> Option<Left> {
        let mut bytes = Vec::new();
        if let Err(e) = (&held.file).read_to_end(&mut bytes) {
            tracing::warn!(target: "unstale", "{} cannot be read: {e}", path.display());
            return None;
        }
        match format::read(&bytes) {
            Ok(content) => self.adopt(path, held, content, bytes.len() as u64),
            Err(Unreadable::Newer(version)) => {
                tracing::warn!(target: "unstale", "{} has format {version}, which a later version of this library wrote; it stays", path.display());
                None
            }
            // Its process died between making it and writing to it.
            Err(Unreadable::Damaged(_)) if bytes.is_empty() => fs::remove_file(path).err().and(None),
            Err(Unreadable::Damaged(why)) => {
                let aside = path.with_extension(format!("{FILE}.{SET_ASIDE}"));
                let done = fs::rename(&path, &aside);
                tracing::warn!(target: "unstale", "{} is no outbox: {why}; set aside as {} ({done:?})", path.display(), aside.display());
                None
            }
        }
    }

    fn adopt(self: &Arc<Self>, path: PathBuf, held: Held, content: Content, length: u64) -> Option<Left> {
        if content.valid < length {
            tracing::warn!(target: "unstale", "{} ends with {} bytes that were not written whole, and are ignored", path.display(), length - content.valid);
            // What is appended must follow what can be read.
            if let Err(e) = held.file.set_len(content.valid) {
                self.failed(&path, &e);
                return None;
            }
        }
        let state = State {
            file: Some(Arc::new(held)),
            length: content.valid,
            shrink_above: 2 * content.valid,
            ..State::default()
        };
        let header = content.header;
        Some(Left {
            src: header.src.as_str().into(),
            topic: header.topic.clone(),
            namespace: header.namespace.clone(),
            journal: self.with(path, header, state),
            records: content.records,
        })
    }

    /// Makes and locks a file. What had the name is of a process that is dead, or this one's own.
    pub(super) fn create(&self, path: &Path) -> io::Result<Held> {
        let _alone = self.alone()?;
        let file = private().append(true).create(true).open(path)?;
        let held = Held::lock(file)?.ok_or(io::ErrorKind::WouldBlock)?;
        held.file.set_len(0)?;
        Ok(held)
    }

    /// Waits for the folder's lock.
    pub(super) fn alone(&self) -> io::Result<Alone<'_>> {
        let end = Instant::now() + LOCK_WITHIN;
        let file = self.lock.lock();
        while !held::lock(&file)? {
            if Instant::now() >= end {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "another process keeps the folder locked"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Alone(file))
    }

    /// Puts names on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.lock.lock().sync_all()
    }

    pub(super) fn sync_soon(&self, journal: &Journal) {
        if let Some(syncing) = &self.syncing {
            let _ = syncing.send(journal.clone());
        }
    }

    pub(super) fn failed(&self, path: &Path, error: &io::Error) {
        let mut trouble = self.trouble.lock();
        trouble.errors.insert(path.to_owned(), format!("{}: {error}", path.display()));
        if trouble.logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            trouble.logged = Some(Instant::now());
            tracing::warn!(
                target: "unstale",
                "`outbox_dir`: {}: {error}; invalidations are sent as usual, but would not survive this process", path.display()
            );
        }
    }

    pub(super) fn mended(&self, path: &Path) {
        self.trouble.lock().errors.remove(path);
    }

    /// Why what is unsent would not survive this process, if it would not.
    pub fn error(&self) -> Option<String> {
        self.trouble.lock().errors.values().next().cloned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // A forked child: the thread is not there, and may have been inside the queue.
            std::mem::forget(self.syncing.take());
        }
    }
}

/// The folder, opened; it exists afterwards and a file can be made in it.
fn usable(path: &Path, src: &str) -> io::Result<File> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    builder.mode(0o700);
    builder.recursive(true).create(path)?;
    let directory = File::open(path)?;
    let probe = path.join(format!("{src}.probe"));
    private().write(true).create_new(true).open(&probe)?;
    fs::remove_file(&probe)?;
    Ok(directory)
}

/// Keys and tags are nobody else's business.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    options.mode(0o600);
    options
}

/// The thread that syncs. Ends with the last journal of the client.
fn sync_all(journals: &Receiver<Journal>) {
    while let Ok(journal) = journals.recv() {
        journal.sync();
        journals.try_iter().for_each(|journal| journal.sync());
        std::thread::sleep(SYNC_EVERY);
    }
}
