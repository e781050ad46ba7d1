//! Log records, delivered to a callback on a thread of their own: so it may call the library, whatever the library was
//! doing when it logged.

use std::ffi::{c_char, c_void, CString};
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockWriteGuard};
use std::thread::{self, JoinHandle};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::{Event, Level, Metadata, Subscriber};
use unstale_core::{Error, ErrorKind, Result};

use crate::error::{invalid, unstale_result};
use crate::panic::boundary;
use crate::subscription::Userdata;
use crate::value::unstale_free_fn;

/// How grave a log record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum unstale_log_level {
    /// Nothing is logged; the default.
    UNSTALE_LOG_OFF = 0,
    /// Something does not work and will not by itself.
    UNSTALE_LOG_ERROR = 1,
    /// Something deserves attention, e.g. the connection was lost.
    UNSTALE_LOG_WARN = 2,
    /// What a person who watches wants to know.
    UNSTALE_LOG_INFO = 3,
    /// For finding faults.
    UNSTALE_LOG_DEBUG = 4,
    /// For finding faults in this library.
    UNSTALE_LOG_TRACE = 5,
}

/// A log record: a number of `unstale_log_level`, the part of the library that speaks ("unstale::link"), and the
/// sentence with its values. The strings are NUL-terminated and live until the callback returns.
pub type unstale_log_fn =
    Option<unsafe extern "C" fn(userdata: *mut c_void, level: u32, target: *const c_char, message: *const c_char)>;

/// Sends log records of `max_level` (a number of `unstale_log_level`) and graver to `callback`, for the whole process,
/// in place of the callback set before. `UNSTALE_LOG_OFF` or a NULL callback ends it. Quiet by default; each condition
/// is logged at most once a minute.
///
/// The callback is called on a thread of its own, one record at a time, and may call the library. 1,000 records wait
/// for a slow one; beyond, the newest are dropped, and how many is logged. When this returns, the callback set before
/// has had all its records, is not called any more and its `userdata` is freed (from within the callback itself: right
/// after it returns).
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (no such level).
///
/// # Safety
/// `callback` and `userdata_free` may be called with `userdata` on any thread.
#[no_mangle]
pub unsafe extern "C" fn unstale_set_log(
    max_level: u32,
    callback: unstale_log_fn,
    userdata: *mut c_void,
    userdata_free: unstale_free_fn,
) -> unstale_result {
    boundary! {
        let userdata = Userdata::new(userdata, userdata_free);
        let level = filter(max_level)?;
        let sink = match callback {
            Some(callback) if level != LevelFilter::OFF => Some(Sink::start(level, callback, userdata)?),
            _ => None,
        };
        if sink.is_some() {
            install()?;
        }
        let before = std::mem::replace(&mut *lock(), sink);
        // Each call site remembers whether anybody wanted it.
        tracing::callsite::rebuild_interest_cache();
        if let Some(before) = before {
            before.end();
        }
        Ok(())
    }
}

/// Records that may wait for a slow callback.
const QUEUE: usize = 1_000;

type Callback = unsafe extern "C" fn(*mut c_void, u32, *const c_char, *const c_char);

struct Record {
    level: u32,
    target: &'static str,
    message: String,
}

/// Where records go now.
static SINK: RwLock<Option<Sink>> = RwLock::new(None);

/// The lock, for the moment of a `fork`.
pub(crate) fn lock() -> RwLockWriteGuard<'static, Option<Sink>> {
    SINK.write().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct Sink {
    level: LevelFilter,
    records: SyncSender<Record>,
    dropped: Arc<AtomicU64>,
    thread: JoinHandle<()>,
    /// The process that has the thread; a child of `fork` has not.
    process: u32,
}

impl Sink {
    fn start(level: LevelFilter, callback: Callback, userdata: Userdata) -> Result<Sink> {
        let (records, inbox) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let missing = dropped.clone();
        let thread = thread::Builder::new()
            .name("unstale-log".to_owned())
            .spawn(move || deliver(&inbox, &missing, callback, &userdata))
            .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot start the log thread: {e}")))?;
        Ok(Sink { level, records, dropped, thread, process: std::process::id() })
    }

    /// Waits until every record was delivered, unless it is the delivering thread that asks.
    fn end(self) {
        let Sink { records, thread, process, .. } = self;
        drop(records);
        if process == std::process::id() && thread.thread().id() != thread::current().id() {
            // A callback cannot panic through C, so neither can the thread.
            let _ = thread.join();
        }
    }
}

fn deliver(inbox: &Receiver<Record>, dropped: &AtomicU64, callback: Callback, userdata: &Userdata) {
    let call = |level: u32, target: &str, message: String| {
        let (target, message) = (c_string(target.to_owned()), c_string(message));
        // SAFETY: the caller of `unstale_set_log` vouches for the pair on any thread; the strings outlive the call.
        unsafe { callback(userdata.pointer(), level, target.as_ptr(), message.as_ptr()) }
    };
    while let Ok(record) = inbox.recv() {
        call(record.level, record.target, record.message);
        match dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            n => call(
                unstale_log_level::UNSTALE_LOG_WARN as u32,
                "unstale::log",
                format!("{n} log records were dropped, because the log callback is slow"),
            ),
        }
    }
}

fn c_string(mut text: String) -> CString {
    text.retain(|c| c != '\0');
    CString::new(text).unwrap_or_default()
}

fn filter(level: u32) -> Result<LevelFilter> {
    Ok(match level {
        0 => LevelFilter::OFF,
        1 => LevelFilter::ERROR,
        2 => LevelFilter::WARN,
        3 => LevelFilter::INFO,
        4 => LevelFilter::DEBUG,
        5 => LevelFilter::TRACE,
        other => return Err(invalid(format!("max_level is {other}; it must be 0 (off) to 5 (trace)"))),
    })
}

fn number(level: Level) -> u32 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// Takes the place of tracing's subscriber, once per process.
fn install() -> Result<()> {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    match INSTALLED.get_or_init(|| tracing::subscriber::set_global_default(Forward).is_ok()) {
        true => Ok(()),
        false => Err(invalid("this process has a tracing subscriber already, which gets the records")),
    }
}

struct Forward;

impl Subscriber for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && metadata.target().starts_with("unstale")
            && SINK.try_read().is_ok_and(|sink| sink.as_ref().is_some_and(|sink| *metadata.level() <= sink.level))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        SINK.try_read().ok().map(|sink| sink.as_ref().map_or(LevelFilter::OFF, |sink| sink.level))
    }

    fn event(&self, event: &Event<'_>) {
        // By try: while the sink changes, and in a child of `fork` that inherited the lock taken, records are lost.
        let Ok(sink) = SINK.try_read() else { return };
        let Some(sink) = sink.as_ref().filter(|sink| sink.process == std::process::id()) else { return };
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let message = text.message + &text.fields;
        let record = Record { level: number(*metadata.level()), target: metadata.target(), message };
        if sink.records.try_send(record).is_err() {
            sink.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    // Spans are not logged.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &SpanRecord<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The sentence, then ` name=value` for each field.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a `String` cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            _ => self.record_debug(field, &value),
        }
    }
}
