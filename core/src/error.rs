//! The one error type: a stable kind, then a sentence with the offending name and value, then what to do.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// What went wrong, in the numbering that every language shares (0 is "OK"). Retired numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument of a call is out of its documented range; nothing changed.
    InvalidArgument = 1,
    /// An option is unknown, contradictory or out of range.
    Config = 2,
    /// The broker cannot be reached, refused the connection, or took it away.
    Connect = 3,
    /// The broker refused these credentials, or this topic to them.
    Auth = 4,
    /// The TLS handshake failed, or a certificate or key cannot be used.
    Tls = 5,
    /// A time limit that the caller or the configuration set ran out.
    Timeout = 6,
    /// The client was closed.
    Closed = 7,
    /// A loader failed; its own error is kept, see [`Error::load_source`].
    Load = 8,
    /// A fault in this library; please report it.
    Internal = 9,
    /// The process forked after the client was made. Fork first and connect then, or start the child with exec.
    Forked = 10,
}

impl ErrorKind {
    /// Every kind, in the order of its number.
    pub const ALL: [ErrorKind; 10] = [
        ErrorKind::InvalidArgument,
        ErrorKind::Config,
        ErrorKind::Connect,
        ErrorKind::Auth,
        ErrorKind::Tls,
        ErrorKind::Timeout,
        ErrorKind::Closed,
        ErrorKind::Load,
        ErrorKind::Internal,
        ErrorKind::Forked,
    ];

    /// The kind's name, the same in every language, e.g. `"InvalidArgument"`.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::InvalidArgument => "InvalidArgument",
            ErrorKind::Config => "Config",
            ErrorKind::Connect => "Connect",
            ErrorKind::Auth => "Auth",
            ErrorKind::Tls => "Tls",
            ErrorKind::Timeout => "Timeout",
            ErrorKind::Closed => "Closed",
            ErrorKind::Load => "Load",
            ErrorKind::Internal => "Internal",
            ErrorKind::Forked => "Forked",
        }
    }
}

/// An error of this library. Cheap to clone; messages never hold a secret.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// A result whose error is this library's, unless said otherwise.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with a message for people.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Arc::new(Inner { kind, message: message.into(), source: None }))
    }

    /// A loader's failure, kind [`ErrorKind::Load`], keeping the loader's own error.
    pub fn load(source: Arc<dyn StdError + Send + Sync>) -> Self {
        let message = format!("the loader failed: {source}");
        Error(Arc::new(Inner { kind: ErrorKind::Load, message, source: Some(source) }))
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The sentence for people, without the kind.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The loader's own error, for a binding that hands it back unchanged.
    pub fn load_source(&self) -> Option<&Arc<dyn StdError + Send + Sync>> {
        self.0.source.as_ref()
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidArgument, message)
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Config, message)
    }

    pub(crate) fn closed() -> Self {
        Error::new(ErrorKind::Closed, "the client is closed; connect a new one")
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Internal, message)
    }

    pub(crate) fn load_timeout(key: &str) -> Self {
        Error::new(
            ErrorKind::Timeout,
            format!("another reader's load of {key:?} took longer than `load_timeout`; raise it, or make the loader quicker"),
        )
    }

    pub(crate) fn forked() -> Self {
        Error::new(
            ErrorKind::Forked,
            "the process forked after this client was made, and its connection stayed in the parent; fork before the first connection and connect then, or start the child with exec",
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.name(), self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|s| &**s as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_keep_their_numbers() {
        for (i, kind) in ErrorKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, i + 1, "{}", kind.name());
        }
    }
}
