//! Topics and filters: which are well formed, which are reserved, which match.

/// A filter as subscribed to: a shared one without its group.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    pub path: String,
    pub group: Option<String>,
}

impl Filter {
    /// Nothing when it is not well formed.
    pub fn parse(text: &str) -> Option<Filter> {
        let (path, group) = match text.strip_prefix("$share/") {
            Some(rest) => {
                let (group, path) = rest.split_once('/')?;
                if group.is_empty() || group.contains(['+', '#']) {
                    return None;
                }
                (path, Some(group.to_owned()))
            }
            None => (text, None),
        };
        let levels: Vec<&str> = path.split('/').collect();
        let whole = |level: &str| level.len() == 1 || !level.contains(['+', '#']);
        let last = levels.len() - 1;
        let fine = !path.is_empty()
            && !path.contains('\0')
            && levels.iter().enumerate().all(|(at, level)| whole(level) && (*level != "#" || at == last));
        fine.then(|| Filter { path: path.to_owned(), group })
    }

    // "AWS IoT differences from MQTT specifications": `sensor/#` does not match `sensor`, as it would by the standard.
    pub fn matches(&self, topic: &str) -> bool {
        // [MQTT-4.7.2-1]
        if topic.starts_with('$') && self.path.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.split('/');
        for wanted in self.path.split('/') {
            match (wanted, levels.next()) {
                (_, None) => return false,
                ("#", Some(_)) => return true,
                ("+", Some(_)) => {}
                (wanted, Some(level)) if wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

/// May be published to: a name without wildcards, not empty.
pub fn is_name(topic: &str) -> bool {
    !topic.is_empty() && !topic.contains(['+', '#', '\0'])
}

/// A topic that begins with `$` and is none of AWS's own.
// "Reserved topics": "Any topics beginning with $ are reserved … and are not supported for subscribing or publishing", but for AWS's own.
pub fn is_reserved(topic: &str) -> bool {
    topic.starts_with('$') && !topic.starts_with("$aws/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &str, topic: &str) -> bool {
        Filter::parse(filter).unwrap().matches(topic)
    }

    #[test]
    fn a_multi_level_wildcard_does_not_match_its_parent() {
        assert!(matches("sensor/#", "sensor/"));
        assert!(matches("sensor/#", "sensor/temperature/room1"));
        assert!(!matches("sensor/#", "sensor"));
    }

    #[test]
    fn levels_match_one_by_one() {
        assert!(matches("a/+/c", "a/b/c"));
        assert!(!matches("a/+/c", "a/b/c/d"));
        assert!(!matches("a/b", "a"));
        assert!(!matches("#", "$aws/x"));
        assert!(matches("$share/g/a/#", "a/b"));
    }

    #[test]
    fn malformed_filters_are_refused() {
        for text in ["", "a/#/b", "a#", "a/b+", "$share/g", "$share//a", "a\0"] {
            assert_eq!(Filter::parse(text), None, "{text}");
        }
    }
}
