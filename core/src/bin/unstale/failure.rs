//! How a command fails, and the exit code of each way. `unstale --help` and `docs/cli.md` list them.

use std::fmt;
use std::io;

use unstale::{Error, ErrorKind};

/// Why a command did not do what was asked.
pub enum Failure {
    /// The arguments fit the grammar, but not each other or this build.
    Usage(String),
    /// The command could not do its work.
    Work(String),
    /// The library's error.
    Library(Error),
    /// The output already says what is wrong.
    Reported,
    /// Whoever read our output has gone (`unstale watch | head`). Not an error: nobody is left to tell.
    ReaderGone,
}

impl Failure {
    /// 2 for whatever the user can mend by typing something else, else 10 plus the error kind's number.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Work(_) | Failure::Reported => 1,
            Failure::Library(e) => match e.kind() {
                ErrorKind::InvalidArgument | ErrorKind::Config => 2,
                kind => 10 + kind as u8,
            },
            Failure::ReaderGone => 0,
        }
    }

    /// The error kind's name, for those who search for it.
    pub fn kind(&self) -> Option<&'static str> {
        match self {
            Failure::Library(e) => Some(e.kind().name()),
            _ => None,
        }
    }

    /// A time limit ran out before the broker confirmed.
    pub fn timeout(message: impl Into<String>) -> Self {
        Failure::Library(Error::new(ErrorKind::Timeout, message))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(message) | Failure::Work(message) => f.write_str(message),
            Failure::Library(e) => f.write_str(e.message()),
            Failure::Reported | Failure::ReaderGone => Ok(()),
        }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Library(e)
    }
}

/// Only writing to stdout fails with a bare `io::Error` here.
impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        if e.kind() == io::ErrorKind::BrokenPipe {
            return Failure::ReaderGone;
        }
        Failure::Work(format!("cannot write the output: {e}"))
    }
}
