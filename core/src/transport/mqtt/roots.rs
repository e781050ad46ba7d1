//! The authorities that this system trusts. They are looked for, because OpenSSL is compiled in and would look where
//! its own installation would be, which is not there.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// Where they are; one of both at least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Roots {
    pub file: Option<PathBuf>,
    /// As OpenSSL writes it: more than one with the platform's separator between.
    pub dir: Option<OsString>,
}

/// The system's, or the ones that `SSL_CERT_FILE` and `SSL_CERT_DIR` name: then these alone, so that whoever narrows trust
/// is not given more.
///
/// # Errors
/// `Tls`, when there are none.
pub(super) fn system() -> Result<Roots> {
    let (file, dir) = (std::env::var_os("SSL_CERT_FILE"), std::env::var_os("SSL_CERT_DIR"));
    let roots = if file.is_some() || dir.is_some() {
        Roots { file: file.map(PathBuf::from), dir }
    } else {
        let found = openssl_probe::probe();
        Roots { file: found.cert_file, dir: std::env::join_paths(found.cert_dir).ok().filter(|dirs| !dirs.is_empty()) }
    };
    roots.some().ok_or_else(|| {
        let places = match roots.places() {
            places if places.is_empty() => "none of the usual files and folders is there".to_owned(),
            places => format!("{places} holds none"),
        };
        Error::new(
            ErrorKind::Tls,
            format!(
                "this system has no authorities to trust: {places}; name a PEM file with `tls.ca_file`, or install the \
                 system's (Debian, Alpine: the package ca-certificates)"
            ),
        )
    })
}

impl Roots {
    /// Without the places that hold no certificate; `None` when nothing is left.
    fn some(&self) -> Option<Roots> {
        let left = Roots {
            file: self.file.clone().filter(|file| holds_certificate(file)),
            dir: self.dir.clone().filter(|dirs| std::env::split_paths(dirs).any(|dir| is_hashed(&dir))),
        };
        (left != Roots::default()).then_some(left)
    }

    /// For messages.
    pub(super) fn places(&self) -> String {
        let file = self.file.as_ref().map(|f| f.display().to_string());
        let dir = self.dir.as_ref().map(|d| d.to_string_lossy().into_owned());
        file.into_iter().chain(dir).collect::<Vec<_>>().join(" and ")
    }
}

fn holds_certificate(file: &Path) -> bool {
    fs::read(file).is_ok_and(|bytes| bytes.windows(15).any(|w| w == b"-----BEGIN CERT" || w == b"-----BEGIN TRUS"))
}

/// Whether OpenSSL would find something there: it looks only for names such as `4042bcee.0`.
fn is_hashed(dir: &Path) -> bool {
    let hashed = |name: &str| {
        name.split_once('.').is_some_and(|(hash, n)| {
            hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit()) && n.parse::<u32>().is_ok()
        })
    };
    fs::read_dir(dir).is_ok_and(|mut files| files.any(|f| f.is_ok_and(|f| f.file_name().to_str().is_some_and(hashed))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_without_a_certificate_do_not_count() {
        let dir = std::env::temp_dir().join(format!("unstale-roots-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("4042bcee.00");
        fs::write(&file, "no certificate").unwrap();
        let roots = Roots { file: Some(file.clone()), dir: Some(dir.join("empty").into()) };
        assert_eq!(roots.some(), None);
        fs::write(&file, "a comment\n-----BEGIN CERTIFICATE-----\n").unwrap();
        assert_eq!(roots.some(), Some(Roots { file: Some(file), dir: None }));
        let hashed = Roots { file: None, dir: Some(dir.clone().into()) };
        assert_eq!(hashed.some(), Some(hashed.clone()));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn one_folder_of_several_is_enough() {
        let dir = std::env::temp_dir().join(format!("unstale-roots-several-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("4042bcee.0"), "").unwrap();
        let roots = |dirs: &[&Path]| Roots { file: None, dir: Some(std::env::join_paths(dirs).unwrap()) };
        let nothing = dir.join("nothing");
        assert!(roots(&[&nothing, &dir]).some().is_some() && roots(&[&dir, &nothing]).some().is_some());
        assert!(roots(&[&nothing, &nothing]).some().is_none());
        fs::remove_dir_all(dir).unwrap();
    }
}
