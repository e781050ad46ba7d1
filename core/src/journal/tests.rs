use super::*;
use crate::message::Operations;
use crate::outbox::Limits;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder of the test's own, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("unstale-journal-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Folder(std::env::temp_dir().join(name))
    }

    fn open(&self, src: &str) -> Arc<Directory> {
        Directory::open(&self.0, src).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn outbox(src: &str) -> Outbox {
    let mut outbox = Outbox::new(src.into(), Limits::default(), 1);
    outbox.keep_records();
    outbox
}

fn push(journal: &Journal, outbox: &mut Outbox, key: &str) {
    outbox.push(Operations { keys: vec![(key.to_owned(), None)], ..Operations::default() });
    let records = outbox.take_records();
    journal.append(&records, outbox, Sync::Soon);
}

fn send_one(journal: &Journal, outbox: &mut Outbox) {
    let (seq, _) = outbox.next().unwrap();
    outbox.acked(seq, 0);
    let record: Vec<_> = outbox.heartbeat().into_iter().collect();
    journal.append(&record, outbox, Sync::No);
}

fn restored(left: Left) -> (Journal, Outbox) {
    let mut outbox = Outbox::restore(left.src, Limits::default(), 1, left.records);
    outbox.keep_records();
    (left.journal, outbox)
}

/// The keys that wait, and how far the stream has come.
fn waiting(outbox: &Outbox) -> (Vec<String>, u64, u64) {
    let keys = outbox.snapshot().into_iter().flat_map(|record| match crate::message::decode(&record) {
        Ok(crate::message::Decoded::Envelope(message)) => message.ops.keys,
        other => panic!("{other:?}"),
    });
    (keys.map(|(key, _)| key).collect(), outbox.acked_up_to(), outbox.last_number())
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_is_appended_can_be_read_at_once_and_is_nobody_elses_business() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let (journal, mut outbox) = (folder.open("a").journal("a", "root", "users"), outbox("a"));
    assert!(folder.names().is_empty(), "nothing to write yet");
    for key in ["x", "y", "z"] {
        push(&journal, &mut outbox, key);
        let path = folder.0.join("a-1.outbox");
        let content = format::read(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(content.header, Header::new("a", "root", "users"));
        let again = Outbox::restore("a".into(), Limits::default(), 1, content.records);
        assert_eq!(waiting(&again), waiting(&outbox));
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::metadata(&folder.0).unwrap().permissions().mode() & 0o777, 0o700);
    journal.end(true, &outbox);
    assert!(folder.names().is_empty());
}

#[test]
fn a_file_is_taken_up_only_when_its_holder_is_gone_and_only_once() {
    let folder = Folder::new();
    let (first, second, third) = (folder.open("a"), folder.open("b"), folder.open("c"));
    let (journal, mut outbox) = (first.journal("a", "root", ""), outbox("a"));
    push(&journal, &mut outbox, "k");
    assert!(first.take_up().is_empty() && second.take_up().is_empty(), "its holder lives");
    journal.end(false, &outbox);
    let left = second.take_up().remove(0);
    assert_eq!((&*left.src, &left.topic[..], &left.namespace[..]), ("a", "root", ""));
    assert!(third.take_up().is_empty(), "somebody has it");
    let (journal, mut outbox) = restored(left);
    assert_eq!(waiting(&outbox), (vec!["k".to_owned()], 0, 1));
    // Dies as well, after it was sent: the tail is still to be closed.
    send_one(&journal, &mut outbox);
    journal.end(false, &outbox);
    let (journal, outbox) = restored(third.take_up().remove(0));
    assert_eq!(waiting(&outbox), (vec![], 1, 1));
    journal.end(true, &outbox);
    assert!(folder.names().is_empty());
}

#[test]
fn a_file_torn_at_any_byte_is_taken_up_and_goes_on() {
    let whole = Folder::new();
    let (journal, mut outbox) = (whole.open("a").journal("a", "root", "users"), outbox("a"));
    push(&journal, &mut outbox, "k0");
    for i in 1..5 {
        let (seq, _) = outbox.next().unwrap();
        push(&journal, &mut outbox, &format!("k{i}"));
        outbox.acked(seq, 0);
        let record: Vec<_> = outbox.heartbeat().into_iter().collect();
        journal.append(&record, &outbox, Sync::No);
    }
    journal.end(false, &outbox);
    let bytes = fs::read(whole.0.join("a-1.outbox")).unwrap();
    let mut seen = Vec::new();
    for length in 0..=bytes.len() {
        let torn = Folder::new();
        let directory = torn.open("b");
        let path = torn.0.join("a-1.outbox");
        fs::write(&path, &bytes[..length]).unwrap();
        let Some(left) = directory.take_up().pop() else {
            let expected = if length == 0 { vec![] } else { vec!["a-1.outbox.corrupt".to_owned()] };
            assert_eq!(torn.names(), expected, "torn at {length}: set aside unless empty");
            continue;
        };
        let (journal, mut outbox) = restored(left);
        let (keys, acked, last) = waiting(&outbox);
        assert!(keys.len() as u64 == last - acked && last - acked <= 2, "torn at {length}: {keys:?} {acked} {last}");
        seen.push(last);
        // What is written now can be read behind what was whole.
        push(&journal, &mut outbox, "new");
        journal.end(false, &outbox);
        let (_, again) = restored(directory.take_up().remove(0));
        assert_eq!(waiting(&again), waiting(&outbox), "torn at {length}");
    }
    seen.dedup();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5], "never less for more bytes");
}

#[test]
fn a_file_that_cannot_be_used_is_kept() {
    let folder = Folder::new();
    let directory = folder.open("a");
    let mut newer = Vec::new();
    format::append(&mut newer, br#"{"unstale_outbox":2}"#);
    fs::write(folder.0.join("newer.outbox"), newer).unwrap();
    fs::write(folder.0.join("bad.outbox"), "what is this?").unwrap();
    fs::write(folder.0.join("old.successor"), "not finished").unwrap();
    fs::write(folder.0.join("notes.txt"), "an operator's").unwrap();
    assert!(directory.take_up().is_empty());
    assert_eq!(folder.names(), ["bad.outbox.corrupt", "newer.outbox", "notes.txt"]);
    assert_eq!(fs::read(folder.0.join("bad.outbox.corrupt")).unwrap(), b"what is this?");
}

#[test]
fn a_long_life_does_not_make_a_long_file() {
    let folder = Folder::new();
    let directory = folder.open("a");
    let (journal, mut outbox) = (directory.journal("a", "root", ""), outbox("a"));
    let path = folder.0.join("a-1.outbox");
    let mut longest = 0;
    let written: u64 = 40 * LEAST_TO_SHRINK;
    push(&journal, &mut outbox, "first");
    for i in 0..written / 200 {
        push(&journal, &mut outbox, &format!("{i:0100}"));
        send_one(&journal, &mut outbox);
        longest = longest.max(fs::metadata(&path).unwrap().len());
        if longest > 2 * LEAST_TO_SHRINK {
            // A slow disk: the writer of this test has nothing else to do.
            until("begun again", || fs::metadata(&path).unwrap().len() <= 2 * LEAST_TO_SHRINK);
            longest = 0;
        }
    }
    let before = waiting(&outbox);
    journal.end(false, &outbox);
    assert_eq!(folder.names(), ["a-1.outbox"]);
    assert_eq!(waiting(&restored(directory.take_up().remove(0)).1), before);
}

#[test]
fn what_was_added_while_a_file_was_begun_again_is_in_it() {
    let folder = Folder::new();
    let directory = folder.open("a");
    let (journal, mut outbox) = (directory.journal("a", "root", ""), outbox("a"));
    push(&journal, &mut outbox, "k");
    let mut state = journal.inner.state.lock();
    state.successor = Some(journal.inner.begin_again(&outbox.snapshot()).unwrap());
    drop(state);
    push(&journal, &mut outbox, "meanwhile");
    // A crash now finds the old file whole, and the successor is no second one.
    let copy = Folder::new();
    let other = copy.open("b");
    for name in folder.names() {
        fs::copy(folder.0.join(&name), copy.0.join(&name)).unwrap();
    }
    assert_eq!(copy.names().len(), 2);
    assert_eq!(waiting(&restored(other.take_up().remove(0)).1), waiting(&outbox));
    assert_eq!(copy.names(), ["a-1.outbox"]);
    // And after it took the name, too.
    until("renamed", || folder.names().len() == 1);
    push(&journal, &mut outbox, "later");
    journal.end(false, &outbox);
    let (_, again) = restored(directory.take_up().remove(0));
    assert_eq!(waiting(&again), (["k", "meanwhile", "later"].map(str::to_owned).to_vec(), 0, 1));
}

#[test]
fn a_folder_that_is_gone_is_told_of_and_what_was_missed_is_written_once_it_is_back() {
    let folder = Folder::new();
    let directory = folder.open("a");
    let (journal, mut outbox) = (directory.journal("a", "root", ""), outbox("a"));
    fs::remove_dir_all(&folder.0).unwrap();
    push(&journal, &mut outbox, "missed");
    assert!(directory.error().unwrap().contains("a-1.outbox"), "{:?}", directory.error());
    fs::create_dir(&folder.0).unwrap();
    until("written again", || {
        push(&journal, &mut outbox, "k");
        push(&journal, &mut outbox, &Instant::now().elapsed().as_nanos().to_string());
        directory.error().is_none()
    });
    journal.end(false, &outbox);
    assert_eq!(waiting(&restored(folder.open("b").take_up().remove(0)).1), waiting(&outbox));
}

#[test]
fn a_disk_that_was_full_leaves_no_hole_in_the_file() {
    use std::os::fd::AsRawFd;
    let folder = Folder::new();
    let directory = folder.open("a");
    let (journal, mut outbox) = (directory.journal("a", "root", ""), outbox("a"));
    push(&journal, &mut outbox, "before");
    let held = journal.inner.state.lock().file.clone().unwrap();
    let good = held.file.try_clone().unwrap();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let instead = |file: &File| {
        // SAFETY: both are open; the journal's descriptor stays one, of another file.
        assert!(unsafe { libc::dup2(file.as_raw_fd(), held.file.as_raw_fd()) } >= 0);
    };
    instead(&full);
    push(&journal, &mut outbox, "missed");
    assert!(directory.error().unwrap().contains("space"), "{:?}", directory.error());
    // Part of a record may have reached the file.
    (&good).write_all(b"torn").unwrap();
    instead(&good);
    until("written again", || {
        push(&journal, &mut outbox, &format!("after {:?}", Instant::now()));
        directory.error().is_none()
    });
    journal.end(false, &outbox);
    drop((good, held));
    assert_eq!(waiting(&restored(directory.take_up().remove(0)).1), waiting(&outbox));
}

#[test]
fn a_folder_that_is_none_is_refused_by_name_and_with_a_remedy() {
    let folder = Folder::new();
    folder.open("a");
    let file = folder.0.join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.as_path(), &file.join("below"), Path::new("/proc/none")] {
        let e = Directory::open(path, "a").unwrap_err();
        assert_eq!(e.kind(), crate::ErrorKind::Config);
        let said = e.message();
        assert!(said.contains("`outbox_dir`") && said.contains(path.to_str().unwrap()), "{said}");
        assert!(said.contains("name a folder"), "{said}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"x");
}
