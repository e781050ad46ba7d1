//! Results: a number that every language shares, and a ticket for the sentence that goes with it.
//!
//! The sentence is kept in a ring, not in a thread-local (goroutines change threads between two calls) and not in an
//! object to be freed (results get ignored). So success costs a zero in a register, and failure never leaks.

use std::ffi::{c_char, CStr};
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use unstale_core::{Error, ErrorKind};

/// What went wrong, in the numbering that every language of unstale shares. Retired numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum unstale_code {
    /// It worked.
    UNSTALE_OK = 0,
    /// An argument is out of its documented range; nothing changed.
    UNSTALE_INVALID_ARGUMENT = 1,
    /// An option is unknown, contradictory or out of range.
    UNSTALE_CONFIG = 2,
    /// The broker cannot be reached, refused the connection, or took it away.
    UNSTALE_CONNECT = 3,
    /// The broker refused these credentials, or this topic to them.
    UNSTALE_AUTH = 4,
    /// The TLS handshake failed, or a certificate or key cannot be used.
    UNSTALE_TLS = 5,
    /// A time limit ran out. (Waiting functions with a `timeout_ms` of their own say so in an output, not by this.)
    UNSTALE_TIMEOUT = 6,
    /// The client was closed.
    UNSTALE_CLOSED = 7,
    /// A loader failed; what it said is in the `unstale_failure`.
    UNSTALE_LOAD = 8,
    /// A fault in this library; please report it.
    UNSTALE_INTERNAL = 9,
    /// The process forked after the client was made. Fork first and connect then, or start the child with exec.
    UNSTALE_FORKED = 10,
}

/// What a call came to: `result.code == UNSTALE_OK`, or a number of `unstale_code` that says what went wrong.
///
/// Eight bytes, returned in a register. Nothing to free; may be ignored; valid on every thread.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct unstale_result {
    /// A number of `unstale_code`.
    pub code: u32,
    /// The ticket with which `unstale_result_message` finds the message; 0: only the code is known.
    pub detail: u32,
}

/// Copies the message of `result` to `buffer`, a sentence in English that names what was wrong and what to do, UTF-8,
/// cut at `capacity - 1` bytes (at a character's border) and NUL-terminated. Never holds a secret.
///
/// Returns the whole message's length in bytes without the NUL, as `snprintf` does; so `buffer` may be NULL with a
/// `capacity` of 0. 512 bytes hold nearly every message. The newest 1,024 messages of the process are kept; for an
/// older one, and for `UNSTALE_OK`, the answer is a general sentence about the code. Any thread.
///
/// # Safety
/// `buffer` is NULL or has room for `capacity` bytes.
#[no_mangle]
pub unsafe extern "C" fn unstale_result_message(result: unstale_result, buffer: *mut c_char, capacity: usize) -> usize {
    crate::panic::boundary_or!(0, {
        let message = recall(result);
        if !buffer.is_null() && capacity > 0 {
            let mut end = message.len().min(capacity - 1);
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            // SAFETY: `end < capacity`, and the caller vouches for the buffer.
            unsafe {
                std::ptr::copy_nonoverlapping(message.as_ptr(), buffer.cast::<u8>(), end);
                *buffer.add(end) = 0;
            }
        }
        message.len()
    })
}

/// The name of a code, the same in every language: "Ok", "InvalidArgument", "Config", … "Forked"; "Unknown" for a
/// number that is none. Static: never freed.
#[no_mangle]
pub extern "C" fn unstale_code_name(code: u32) -> *const c_char {
    name(code).as_ptr()
}

fn name(code: u32) -> &'static CStr {
    match code {
        0 => c"Ok",
        1 => c"InvalidArgument",
        2 => c"Config",
        3 => c"Connect",
        4 => c"Auth",
        5 => c"Tls",
        6 => c"Timeout",
        7 => c"Closed",
        8 => c"Load",
        9 => c"Internal",
        10 => c"Forked",
        _ => c"Unknown",
    }
}

fn general(code: u32) -> &'static str {
    match code {
        0 => "no error",
        1 => "an argument is out of its documented range",
        2 => "an option is unknown, contradictory or out of range",
        3 => "the broker cannot be reached or ended the connection",
        4 => "the broker refused these credentials",
        5 => "the TLS handshake failed",
        6 => "a time limit ran out",
        7 => "the client is closed",
        8 => "the loader failed",
        9 => "a fault in this library; please report it",
        10 => "the process forked after this client was made; fork before the first connection and connect then, or start the child with exec",
        _ => "not a code of this library",
    }
}

const KEPT: usize = 1_024;

struct Message {
    ticket: u32,
    text: String,
}

/// Each slot has its own lock, taken only by try: who finds it taken is a whole ring behind or ahead, and a child of
/// `fork` may find one that nobody will ever give back.
static RING: [Mutex<Option<Message>>; KEPT] = [const { Mutex::new(None) }; KEPT];
static TICKETS: AtomicU32 = AtomicU32::new(0);

impl unstale_result {
    pub(crate) const OK: unstale_result = unstale_result { code: 0, detail: 0 };
}

/// The result that carries `error`, whose message is kept for later.
#[cold]
pub(crate) fn remember(error: &Error) -> unstale_result {
    let code = error.kind() as u32;
    let ticket = TICKETS.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    if ticket == 0 {
        // One in four billion goes without; 0 means "no ticket".
        return unstale_result { code, detail: 0 };
    }
    if let Some(mut slot) = RING[ticket as usize % KEPT].try_lock() {
        *slot = Some(Message { ticket, text: error.message().to_owned() });
    }
    unstale_result { code, detail: ticket }
}

fn recall(result: unstale_result) -> String {
    if result.detail != 0 {
        if let Some(slot) = RING[result.detail as usize % KEPT].try_lock() {
            if let Some(message) = slot.as_ref().filter(|m| m.ticket == result.detail) {
                return message.text.clone();
            }
        }
    }
    general(result.code).to_owned()
}

/// Shorthand for the kind that this crate gives by far the most.
#[cold]
pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_those_of_the_core() {
        for kind in ErrorKind::ALL {
            assert_eq!(name(kind as u32).to_str(), Ok(kind.name()));
        }
        assert_eq!(name(0).to_str(), Ok("Ok"));
        assert_eq!(name(11).to_str(), Ok("Unknown"));
        assert_eq!(unstale_code::UNSTALE_FORKED as u32, ErrorKind::Forked as u32);
        assert_eq!(unstale_code::UNSTALE_INVALID_ARGUMENT as u32, ErrorKind::InvalidArgument as u32);
    }

    #[test]
    fn a_message_is_found_by_its_ticket_until_the_ring_has_turned() {
        let first = remember(&invalid("the first"));
        assert_eq!(recall(first), "the first");
        for _ in 0..KEPT {
            remember(&invalid("another"));
        }
        assert_eq!(recall(first), general(1));
    }
}
