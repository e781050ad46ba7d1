//! The rules for names, for the public API's arguments and for what arrives: one definition of each.

use crate::error::{Error, Result};

use super::{MAX_INTEGER, MAX_KEY, MAX_NAMESPACE, MAX_SRC};

/// AWS IoT Core's longest topic, in bytes.
const MAX_FULL_TOPIC: usize = 256;
/// AWS IoT Core's most slashes in a topic.
const MAX_FULL_SLASHES: usize = 7;
/// The longest suffix a client adds to the base topic: `/_probe/{src}`.
const LONGEST_SUFFIX: usize = "/_probe/".len() + MAX_SRC;
const SUFFIX_SLASHES: usize = 2;
/// The longest base `topic`, in bytes, so that every topic derived from it fits AWS IoT Core.
pub(crate) const MAX_TOPIC: usize = MAX_FULL_TOPIC - LONGEST_SUFFIX;
/// The most slashes in a base `topic`, for the same reason.
pub(crate) const MAX_TOPIC_SLASHES: usize = MAX_FULL_SLASHES - SUFFIX_SLASHES;

/// Checks a key: 1 to 1,024 bytes without NUL. Kind `InvalidArgument`.
pub fn check_key(key: &str) -> Result<()> {
    check_text("key", key)
}

/// Checks a tag: 1 to 1,024 bytes without NUL. Kind `InvalidArgument`.
pub fn check_tag(tag: &str) -> Result<()> {
    check_text("tag", tag)
}

/// Checks a prefix: 1 to 1,024 bytes without NUL. The empty prefix is not one: use `all`. Kind `InvalidArgument`.
pub fn check_prefix(prefix: &str) -> Result<()> {
    check_text("prefix", prefix)
}

/// Checks a namespace: 1 to 64 of `[A-Za-z0-9._-]`, not starting with `_`, or empty for none. Kind `InvalidArgument`.
pub fn check_namespace(namespace: &str) -> Result<()> {
    let rule = if namespace.len() > MAX_NAMESPACE {
        "at most 64 characters"
    } else if namespace.starts_with('_') {
        "no leading '_', which is kept for the library's own topics"
    } else if !namespace.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        "only letters, digits, '.', '_' and '-'"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("namespace {} is not valid: it needs {rule}", quoted(namespace))))
}

/// Checks a base topic: 1 to 184 bytes and at most 5 slashes (so that what is derived from it fits every broker),
/// no `+` or `#`, no control character, no leading `$` or `/`. Kind `InvalidArgument`.
pub fn check_topic(topic: &str) -> Result<()> {
    let rule = if topic.is_empty() {
        "at least one character".to_owned()
    } else if topic.len() > MAX_TOPIC {
        format!("at most {MAX_TOPIC} bytes, so that every topic below it fits AWS IoT Core's {MAX_FULL_TOPIC}")
    } else if topic.starts_with(['$', '/']) {
        "no leading '$' or '/'".to_owned()
    } else if topic.contains(['+', '#']) {
        "no wildcard ('+' or '#')".to_owned()
    } else if topic.chars().any(char::is_control) {
        // MQTT 5, section 1.5.4: a receiver may close the connection over a control character; mosquitto does.
        "no control character".to_owned()
    } else if topic.bytes().filter(|&b| b == b'/').count() > MAX_TOPIC_SLASHES {
        format!(
            "at most {MAX_TOPIC_SLASHES} slashes, so that every topic below it fits AWS IoT Core's {MAX_FULL_SLASHES}"
        )
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("topic {} is not valid: it needs {rule}", quoted(topic))))
}

/// Checks a publisher stream name: 1 to 64 of `[A-Za-z0-9_-]`. Kind `InvalidArgument`.
pub fn check_src(src: &str) -> Result<()> {
    if valid_src(src) {
        return Ok(());
    }
    Err(Error::invalid(format!("src {} is not valid: it needs 1 to 64 letters, digits, '_' or '-'", quoted(src))))
}

/// Checks a version: 0 to 2^53 - 1. Kind `InvalidArgument`.
pub fn check_version(version: u64) -> Result<()> {
    if version <= MAX_INTEGER {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "version {version} is not valid: versions are integers from 0 to {MAX_INTEGER} (2^53 - 1)"
    )))
}

fn check_text(what: &str, text: &str) -> Result<()> {
    match text_fault(text) {
        None => Ok(()),
        Some(fault) => Err(Error::invalid(format!("{what} {} is not valid: {fault}", quoted(text)))),
    }
}

/// What is wrong with a key, tag or prefix.
pub(super) fn text_fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("it is empty; 1 to 1,024 bytes are needed")
    } else if text.len() > MAX_KEY {
        Some("it is longer than 1,024 bytes")
    } else if text.as_bytes().contains(&0) {
        Some("it holds a NUL character")
    } else {
        None
    }
}

pub(super) fn valid_src(src: &str) -> bool {
    (1..=MAX_SRC).contains(&src.len()) && src.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// A value for an error message: quoted, escaped, and cut so that a hostile one does not fill the log.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((cut, _)) => format!("{:?}... ({} bytes)", &text[..cut], text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn keys_are_1_to_1024_bytes_of_anything_but_nul() {
        for good in ["a", "{", " ", "\u{1}", "\u{1F600}", &"k".repeat(1_024), &"\u{e9}".repeat(512)] {
            assert!(check_key(good).is_ok() && check_tag(good).is_ok() && check_prefix(good).is_ok(), "{good:?}");
        }
        for bad in ["", "a\0b", &"k".repeat(1_025), &"\u{e9}".repeat(513)] {
            for check in [check_key, check_tag, check_prefix] {
                assert_eq!(check(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad:?}");
            }
        }
    }

    #[test]
    fn namespaces_are_one_safe_topic_level() {
        for good in ["", "users", "a.b-c_D9", &"n".repeat(64)] {
            assert!(check_namespace(good).is_ok(), "{good:?}");
        }
        for bad in ["_probe", "a/b", "a b", "+", "#", "\u{e9}", "a\0", &"n".repeat(65)] {
            assert_eq!(check_namespace(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad:?}");
        }
    }

    #[test]
    fn topics_leave_room_for_what_is_derived_from_them() {
        for good in ["cache/invalidate", "t", "a/b/c/d/e/f", &"t".repeat(MAX_TOPIC)] {
            assert!(check_topic(good).is_ok(), "{good:?}");
        }
        for bad in ["", "/a", "$SYS", "a/+", "a/#", "a\0", "a\n", "a/b/c/d/e/f/g", &"t".repeat(MAX_TOPIC + 1)] {
            assert_eq!(check_topic(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad:?}");
        }
        assert_eq!(MAX_TOPIC, 184);
        const { assert!(MAX_NAMESPACE < LONGEST_SUFFIX) };
    }

    #[test]
    fn sources_and_versions_stay_in_range() {
        for good in ["a", "A_b-9", &"s".repeat(64)] {
            assert!(check_src(good).is_ok(), "{good:?}");
        }
        for bad in ["", "a.b", "a:b", "a/b", "\u{e9}", &"s".repeat(65)] {
            assert!(check_src(bad).is_err(), "{bad:?}");
        }
        assert!(check_version(0).is_ok() && check_version(MAX_INTEGER).is_ok());
        assert!(check_version(MAX_INTEGER + 1).is_err());
    }

    #[test]
    fn a_long_value_is_cut_in_the_message_at_a_character() {
        let message = check_key(&"\u{e9}".repeat(600)).unwrap_err().message().to_owned();
        assert!(message.len() < 250 && message.contains("(1200 bytes)"), "{message}");
    }
}
