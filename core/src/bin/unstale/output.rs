//! What people and pipes see: colours on a terminal, plain text elsewhere, results on stdout, the rest on stderr.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use clap::ColorChoice;

use crate::failure::Failure;

/// A look, as the parameters of an ANSI "select graphic rendition".
#[derive(Clone, Copy)]
pub enum Look {
    /// What matters on the line.
    Bold,
    /// What may be skipped.
    Dim,
    /// Something is wrong.
    Red,
    /// Something went well.
    Green,
    /// Something deserves a second look.
    Yellow,
    /// A name of ours: a namespace, a word of the protocol.
    Cyan,
}

/// Where output goes and whether it may be coloured.
pub struct Output {
    stdout: Pen,
    stderr: Pen,
}

/// Paints for one stream.
#[derive(Clone, Copy)]
pub struct Pen {
    colour: bool,
}

impl Pen {
    /// `text` in this look, or as it is where there are no colours.
    pub fn paint<'a>(self, look: Look, text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
        let text = text.into();
        if !self.colour || text.is_empty() {
            return text;
        }
        let code = match look {
            Look::Bold => 1,
            Look::Dim => 2,
            Look::Red => 31,
            Look::Green => 32,
            Look::Yellow => 33,
            Look::Cyan => 36,
        };
        format!("\x1b[{code}m{text}\x1b[0m").into()
    }
}

impl Output {
    /// By the user's choice; "auto" asks each stream, and the environment as <https://no-color.org> says.
    pub fn new(choice: ColorChoice) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        let pen = |terminal: bool| Pen {
            colour: match choice {
                ColorChoice::Always => true,
                ColorChoice::Never => false,
                ColorChoice::Auto => terminal && !dumb && !set("NO_COLOR"),
            },
        };
        Output { stdout: pen(io::stdout().is_terminal()), stderr: pen(io::stderr().is_terminal()) }
    }

    /// For text that goes to [`Output::line`].
    pub fn pen(&self) -> Pen {
        self.stdout
    }

    /// One line of results. Flushed: someone may be waiting for it at the other end of a pipe.
    ///
    /// # Errors
    /// [`Failure::ReaderGone`] when the pipe is closed.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()?;
        Ok(())
    }

    /// One line about what is going on, to stderr.
    pub fn note(&self, text: &str) {
        // stderr may be closed, and then there is no one to tell.
        let _ = writeln!(io::stderr(), "{}", self.stderr.paint(Look::Dim, text));
    }

    /// One line about something that deserves attention, to stderr.
    pub fn warning(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{} {text}", self.stderr.paint(Look::Yellow, "warning:"));
    }

    /// Why the command failed, to stderr.
    pub fn failure(&self, failure: &Failure) {
        let kind = failure.kind().map(|k| format!(" ({k})")).unwrap_or_default();
        let head = self.stderr.paint(Look::Red, "error:");
        let _ = writeln!(io::stderr(), "{head} {failure}{}", self.stderr.paint(Look::Dim, kind));
    }
}

/// A name from outside on a line for people: as it is when that is unmistakable, else quoted and escaped, so that a
/// hostile key cannot forge lines or move the cursor.
pub fn quoted(text: &str) -> Cow<'_, str> {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '\\' | ',') && !is_invisible(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into();
    }
    // Debug escapes control characters, and what is invisible or turns the writing direction.
    format!("{text:?}").into()
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{ad}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_forge_output() {
        assert_eq!(quoted("user:42"), "user:42");
        assert_eq!(quoted("größe/7"), "größe/7");
        assert_eq!(quoted(""), "\"\"");
        assert_eq!(quoted("a b"), "\"a b\"");
        assert_eq!(quoted("a\nb\x1b[2J"), "\"a\\nb\\u{1b}[2J\"");
        assert!(!quoted("a\u{202e}b").contains('\u{202e}'));
    }

    #[test]
    fn no_colour_means_no_bytes() {
        assert_eq!(Pen { colour: false }.paint(Look::Red, "x"), "x");
        assert_eq!(Pen { colour: true }.paint(Look::Red, "x"), "\x1b[31mx\x1b[0m");
    }
}
