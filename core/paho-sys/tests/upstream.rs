//! The C sources are upstream's 1.3.16 with the patches in `patches/`, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The files in a folder, with those in folders below, named from `root`.
fn files(folder: &Path, root: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, root, found);
        } else {
            found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

/// Takes a patch back: what each hunk brought is there once, and becomes what was there before.
fn reverse(patch: &str, root: &Path) {
    let mut file = None;
    let (mut before, mut after) = (String::new(), String::new());
    let undo = |file: &Option<PathBuf>, before: &mut String, after: &mut String| {
        if let (Some(file), false) = (file, after.is_empty()) {
            let text = fs::read_to_string(file).unwrap();
            assert_eq!(
                text.matches(after.as_str()).count(),
                1,
                "{}: the hunk is not there once:\n{after}",
                file.display()
            );
            fs::write(file, text.replace(after.as_str(), before)).unwrap();
        }
        before.clear();
        after.clear();
    };
    for line in patch.lines() {
        if let Some(name) = line.strip_prefix("+++ b/") {
            undo(&file, &mut before, &mut after);
            file = Some(root.join(name));
        } else if line.starts_with("@@ ") || line.starts_with("--- ") {
            undo(&file, &mut before, &mut after);
        } else if file.is_some() {
            let (mark, text) = line.split_at_checked(1).unwrap_or((" ", ""));
            if mark != "+" {
                before.extend([text, "\n"]);
            }
            if mark != "-" {
                after.extend([text, "\n"]);
            }
        }
    }
    undo(&file, &mut before, &mut after);
}

#[test]
fn the_sources_are_upstreams_and_the_patches() {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("paho-upstream");
    let _ = fs::remove_dir_all(&copy);
    let mut names = BTreeSet::new();
    files(&here("paho.mqtt.c"), &here("paho.mqtt.c"), &mut names);
    for name in &names {
        let to = copy.join("paho.mqtt.c").join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(here("paho.mqtt.c").join(name), to).unwrap();
    }
    let mut patches: Vec<PathBuf> = fs::read_dir(here("patches")).unwrap().map(|e| e.unwrap().path()).collect();
    patches.sort();
    for patch in patches.iter().rev() {
        reverse(&fs::read_to_string(patch).unwrap(), &copy);
    }
    let sums = here("upstream.sha256");
    let listed = fs::read_to_string(&sums).unwrap();
    let listed: BTreeSet<String> = listed.lines().map(|l| l.split_once("  ").unwrap().1.to_owned()).collect();
    assert_eq!(names, listed);
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--strict", "--quiet"]).arg(&sums).current_dir(copy.join("paho.mqtt.c"));
    let output = check.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
