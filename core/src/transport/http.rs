//! HTTP/1.1, as far as it is needed here: one request, one answer. For what a web server has against a WebSocket, for a
//! machine's services for credentials, and for the time of a server's clock.

use std::io::{self, BufRead, BufReader, Read, Take, Write};
use std::time::SystemTime;

/// More than any answer needs that is asked for here.
const MOST: u64 = 64 * 1024;

/// An answer, of which the head was read.
#[derive(Debug)]
pub struct Answer<S> {
    /// Its status.
    pub status: u16,
    /// The server's clock.
    pub date: Option<SystemTime>,
    length: Length,
    rest: BufReader<Take<S>>,
}

/// How long a body is (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Known(u64),
    Chunked,
    UntilTheEnd,
}

struct Head {
    status: u16,
    date: Option<SystemTime>,
    length: Length,
}

/// Sends a request and reads the answer's head.
///
/// # Errors
/// Those of the stream; `InvalidData` when what comes is no HTTP.
pub fn ask<S: Read + Write>(mut stream: S, request: &str) -> io::Result<Answer<S>> {
    stream.write_all(request.as_bytes())?;
    let mut rest = BufReader::new(stream.take(MOST));
    let mut head = String::new();
    // Up to the empty line, or as far as it can be read: the status comes first.
    let end = loop {
        match rest.read_line(&mut head) {
            Ok(0) => break None,
            Ok(_) if head.ends_with("\r\n\r\n") => break None,
            Ok(_) => {}
            Err(e) => break Some(e),
        }
    };
    let Head { status, date, length } =
        read(&head).ok_or_else(|| end.unwrap_or_else(|| invalid("no answer in HTTP")))?;
    Ok(Answer { status, date, length, rest })
}

/// The `Host` of a request, without a port that is the default one (RFC 9110, 4.2.3).
pub fn authority(host: &str, port: u16, default_port: u16) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == default_port {
        host
    } else {
        format!("{host}:{port}")
    }
}

impl<S: Read> Answer<S> {
    /// The body, to a request that has one for an answer.
    ///
    /// # Errors
    /// Those of the stream; `UnexpectedEof` when it is cut off or too long, `InvalidData` when it is no HTTP.
    pub fn body(mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        match self.length {
            Length::Known(length) => self.piece(length, &mut body)?,
            Length::Chunked => while self.chunk(&mut body)? {},
            Length::UntilTheEnd => drop(self.rest.read_to_end(&mut body)?),
        }
        Ok(body)
    }

    /// False after the last one. Nobody needs what may come behind it.
    fn chunk(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        let mut line = String::new();
        self.rest.read_line(&mut line)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| invalid("a chunk without a length"))?;
        if size > 0 {
            self.piece(size, body)?;
            self.rest.read_line(&mut line)?;
        }
        Ok(size > 0)
    }

    fn piece(&mut self, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
        let read = self.rest.by_ref().take(length).read_to_end(body)?;
        (read as u64 == length).then_some(()).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn read(head: &str) -> Option<Head> {
    let mut lines = head.lines();
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let mut read = Head { status, date: None, length: Length::UntilTheEnd };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "date" => read.date = httpdate::parse_http_date(value).ok(),
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => read.length = Length::Chunked,
            "content-length" if read.length != Length::Chunked => read.length = Length::Known(value.parse().ok()?),
            _ => {}
        }
    }
    Some(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A server that says this, whatever it is asked.
    #[derive(Debug)]
    struct Says<'a>(&'a [u8]);

    impl Read for Says<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.read(buf)
        }
    }

    impl Write for Says<'_> {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            Ok(buf.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn body(text: &str) -> io::Result<String> {
        ask(Says(text.as_bytes()), "")?.body().map(|body| String::from_utf8(body).unwrap())
    }

    #[test]
    fn an_answer_is_read_and_anything_else_is_none() {
        let answer = ask(Says(b"HTTP/1.1 403 Forbidden\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"), "").unwrap();
        assert_eq!(answer.status, 403);
        assert_eq!(answer.date, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)));
        assert_eq!(ask(Says(b"HTTP/1.0 101 Yes\r\n"), "").unwrap().status, 101);
        for other in ["", "HTTP/2 200", "\x10\x02", "HTTP/1.1 abc x"] {
            assert_eq!(ask(Says(other.as_bytes()), "").unwrap_err().kind(), io::ErrorKind::InvalidData, "{other:?}");
        }
    }

    #[test]
    fn a_body_is_read_in_each_of_its_forms_and_never_half() {
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef").unwrap(), "abc");
        assert_eq!(body("HTTP/1.1 200 OK\r\n\r\nabcdef").unwrap(), "abcdef");
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(body(&format!("{chunked}3\r\nabc\r\n0a;x=y\r\n0123456789\r\n0\r\n\r\n")).unwrap(), "abc0123456789");
        for cut in ["3\r\nab", "3\r\nabc\r\n", "x\r\nabc\r\n0\r\n\r\n", "ffffffffffffffff\r\nabc"] {
            assert!(body(&format!("{chunked}{cut}")).is_err(), "{cut:?}");
        }
        assert!(body("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nabc").is_err());
    }

    #[test]
    fn a_host_is_written_as_urls_write_it() {
        assert_eq!(authority("h", 80, 80), "h");
        assert_eq!(authority("::1", 80, 443), "[::1]:80");
    }
}
