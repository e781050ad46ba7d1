#!/usr/bin/env python3
"""Switches off one mechanism of the promise at a time, and shows which scenario of the simulation, or which unit test, notices.

    tests/sim/mutants.py                 all; the table goes to stdout and, as Markdown, to docs/mutants.md
    tests/sim/mutants.py fence holes     only these
    tests/sim/mutants.py --check         only whether places, tests and the names in docs/guarantee.md are still there

Each mutant is a copy of the core with one place changed, built against the same dependencies. The simulation judges it, or, where
UNIT_TESTS names a test, that test. A mutant that nothing notices fails: then the mechanism is not needed, or not tested.
The last line is `N passed, N failed`.
"""

# Lines of the source are quoted as they stand there.
# ruff: noqa: E501

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
COPY = ROOT / "target" / "mutants"
TABLE = ROOT / "docs" / "mutants.md"
GUARANTEE = ROOT / "docs" / "guarantee.md"
SECONDS = 600

# name, mechanism, file, what stands there, what the mutant has instead
MUTANTS = [
    ("fence", "Fence: a value whose key was invalidated during its load is not stored (rule 1)",
     "core/src/fill.rs", "Fence::Closed => false,", "Fence::Closed => true,"),
    ("fence-tags", "Fence by tags, dependencies and prefixes given at the end of a load (rule 1)",
     "core/src/fill/log.rs", "let Some(extra) = extra else { return false };", "let Some(extra) = extra.filter(|_| false) else { return false };"),
    ("fence-before-remove", "An invalidation fences before it removes, in one step (rule 1)",
     "core/src/fill.rs", "        book.fence_key(key, version.map_or(Fence::Closed, Fence::Below));\n        book.note_key(key);\n        let stays",
     "        if self.store.peek(key).is_some() {\n            book.fence_key(key, version.map_or(Fence::Closed, Fence::Below));\n            book.note_key(key);\n        }\n        let stays"),
    ("load-start", "An entry is as old as the start of its load (rule 1)",
     "core/src/fill.rs", "let own = Age { loaded_at: open.stamp, epoch: open.epoch };",
     "let own = Age { loaded_at: now, epoch: self.store.freshness().epoch() };"),
    ("load-epoch", "An entry has the epoch of the start of its load (rule 4)",
     "core/src/fill.rs", "let own = Age { loaded_at: open.stamp, epoch: open.epoch };",
     "let own = Age { loaded_at: open.stamp, epoch: self.store.freshness().epoch() };"),
    ("join-limit", "Nobody joins a load older than B/2, and who waited longer than B loads again (rule 1)",
     "core/src/fill.rs", "&& now.saturating_sub(open.stamp) <= bounds.bound / 2", "&& bounds.bound > 0",
     "let too_old = now > open.stamp + bound || (now > age.loaded_at.saturating_add(bound) && !proved);",
     "let too_old = now > open.stamp + 100 * bound && !proved;"),
    ("joined-fence", "Nobody joins a load that an invalidation has fenced (rule 1)",
     "core/src/fill.rs", "&& open.fence == Fence::None\n", "\n"),
    ("derived-age", "A derived entry is as old as its oldest input",
     "core/src/fill.rs", "let inputs = extra.iter().flat_map(|e| e.depends_on.iter());",
     "let inputs = extra.iter().flat_map(|e| e.depends_on.iter()).filter(|_| false);"),
    ("dependents", "What depends on an invalidated key falls with it",
     "core/src/fill.rs", "        let dependents = book.index.dependents(key);\n        if !stays {", "        let dependents = Vec::new();\n        if !stays {"),
    ("update-lease", "`update` stores only with a lease that nothing fenced (rule 2)",
     "core/src/fill.rs", "let stored = self.set_locked(&mut book, key, &mut value, terms, lease, now, &mut removed);\n        if let",
     "let stored = self.set_locked(&mut book, key, &mut value, terms, lease.filter(|_| false), now, &mut removed);\n        if let"),
    ("floor", "`invalidate_all` and `clear_local` raise the floor (rule 4)",
     "core/src/freshness.rs", "f.floor.fetch_max(stamp, Ordering::AcqRel);", "f.floor.fetch_max(stamp.min(0), Ordering::AcqRel);"),
    ("bound-by-age", "Without a proof an entry lives for B (rule 4)",
     "core/src/freshness.rs", "now <= loaded_at + self.bounds.bound\n", "now <= loaded_at + 2 * self.bounds.bound\n"),
    ("proof-length", "A proof counts for 11/16 B, no longer (rule 4)",
     "core/src/freshness.rs", "bound / 16 * 11", "bound / 16 * 24"),
    ("epoch", "A proof speaks only for entries of its epoch (rule 4)",
     "core/src/freshness.rs", "(epoch == proof.epoch && now", "(epoch <= proof.epoch && now"),
    ("probe-qos0", "Probes travel with QoS 1, in the queue of the data (rule 3)",
     "tests/sim/src/scenario.rs", "probes_overtake: false,", "probes_overtake: true,"),
    ("first-probe", "The first probe of a connection is doubt (rule 5)",
     "core/src/freshness.rs", "        if first {\n", "        if first && fresh == 0 {\n"),
    ("late-probe", "A late probe is doubt (rule 5)",
     "core/src/freshness.rs", "} else if now > fresh + bounds.grace {", "} else if now > fresh + 1000 * bounds.grace {"),
    ("overtaken-probe", "A probe that comes while an earlier one is missing is doubt (rule 5)",
     "core/src/freshness.rs", "probe.overtook && !bounds.reordering", "probe.overtook && bounds.grace == 0"),
    ("holes", "A hole in a publisher's numbers is doubt (rule 5)",
     "core/src/stream.rs", "        if from <= to {\n", "        if from <= to && window > 0 {\n"),
    ("holes-reordering", "A hole that stays open for W is doubt, where the broker may reorder (rule 5)",
     "core/src/stream.rs", "close_holes(|hole| hole.since.saturating_add(window) <= now).then_some(Doubt::Hole)",
     "close_holes(|hole| hole.since.saturating_add(window) <= now).then_some(Doubt::Hole).filter(|_| false)"),
    ("unknown-stream", "The first message of an unknown stream is doubt, unless it is number 1 (rule 5)",
     "core/src/stream.rs", "(self.probed && !from_the_start).then_some", "(self.probed && !from_the_start && now == 0).then_some"),
    ("unconfirmed", "A stream's newest message that no heartbeat confirms is doubt (rule 5)",
     "core/src/stream.rs", "self.is_unconfirmed().then(|| self.news", "(self.is_unconfirmed() && bound == 0).then(|| self.news"),
    ("heartbeats", "Heartbeats follow the newest message (rule 7)",
     "core/src/outbox.rs", "        self.schedule.poll(now)\n", "        self.schedule.poll(now) && now == 0\n"),
    ("second-bye", "`bye` is said twice (rule 7)",
     "core/src/link/closing.rs", "Step::Byes(0) if !closing.streams.is_empty() => self.linger(now),", "Step::Byes(0) if now == 0 => self.linger(now),"),
    ("hello-bound", "`hello` tells the smallest bound to publishers (rule 7)",
     "core/src/outbox.rs", "self.schedule.heard_hello(bound_ms, now);", "self.schedule.heard_hello(bound_ms.filter(|ms| *ms == 0), now);"),
    ("send-again", "What was not acknowledged is sent again (rule 8)",
     "core/src/outbox.rs", "            self.waiting.push_front(batch);", "            drop(batch);"),
    ("collapse", "A full outbox collapses to coarser invalidations, never to silence (rule 8)",
     "core/src/outbox/collapse.rs", "let all = || Batch { first, all: true, ", "let all = || Batch { first, all: false, "),
    ("introduction", "Who hears a `hello` of a larger bound tells its own, smaller one (rule 7, decision 7)",
     "core/src/link/topic.rs", "} else if self.introduction_due.is_none() {", "} else if self.introduction_due.is_none() && now == 0 {"),
    ("late-opened", "A cache that is opened while the session begins is subscribed too (rule 6)",
     "core/src/link/session.rs", "let late = |topic: &Topic| topic.subscription == Subscription::None;",
     "let late = |topic: &Topic| topic.subscription == Subscription::None && now == 0;"),
    ("own-hello", "Probes count for a cache once the client has heard its own `hello` on its topic (decision 7)",
     "core/src/link/session.rs", "                topic.granted_at = now;\n",
     "                topic.granted_at = now;\n                topic.proofs.heard(self.prober.next_counter());\n"),
    ("input-meanwhile", "An input that comes while a derived entry is loaded counts for its age (decision 7)",
     "core/src/fill.rs", "        book.arrived(key, age);\n", ""),
    ("suspension", "A suspension is doubt (rules 5 and 9)",
     "core/src/link/session.rs", "            if suspended > self.suspended {", "            if suspended > self.suspended && now == 0 {"),
    ("tombstones", "A version lower than the newest invalidated is refused",
     "core/src/fill.rs", "self.tombstones.get(key).is_some_and(|newest| version < newest)", "self.tombstones.get(key).is_some_and(|newest| version == newest && version == 0)"),
    ("wait-for", "`wait_for` of a number that was missed raises the floor (rule 10)",
     "core/src/link/topic.rs", "                    self.target.clear(now);\n", ""),
]

# No scenario notices these alone, since other mechanisms find the same losses in time; unit tests hold them, which are run on the mutant.
UNIT_TESTS = {
    "suspension": "a_suspension_is_doubt_once_within_a_tenth_of_a_second_of_waking",
    "input-meanwhile": "an_input_that_came_and_went_while_a_load_ran_makes_its_value_no_younger",
    "second-bye": "bye_is_said_once_more_after_a_quarter_of_the_bound",
    "introduction": "a_newcomer_of_a_larger_bound_is_told_the_smaller_one_unless_somebody_else_does",
}


def copy():
    """A workspace of the core and the simulation alone, as they are now."""
    for folder in ("core", "tests/sim"):
        target = COPY / folder
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(ROOT / folder, target)
        # Cargo goes by the time of a file: what an earlier mutant built must not pass for this.
        for source in (target / "src").rglob("*.rs"):
            source.touch()
    manifest = (ROOT / "Cargo.toml").read_text()
    members = ["core", "tests/sim"] + (["core/paho-sys"] if (ROOT / "core/paho-sys").exists() else [])
    manifest = re.sub(r"members = \[.*?\]", f"members = {members}".replace("'", '"'), manifest, flags=re.DOTALL)
    manifest = re.sub(r"\[profile\.release\.package\.unstale-python\][^\[]*", "", manifest)
    (COPY / "Cargo.toml").write_text(manifest)
    shutil.copy(ROOT / "README.md", COPY)
    shutil.copy(ROOT / "Cargo.lock", COPY)


def cargo(command, *arguments):
    command = ["cargo", command, "--release", "--offline", "--quiet", "--target-dir", str(COPY / "target"), *arguments]
    return subprocess.run(command, cwd=COPY, capture_output=True, text=True)


def build():
    return cargo("build", "-p", "unstale-sim")


def unit_tests(names):
    """How each of these ended: "ok" or "FAILED"; and all that was said."""
    done = cargo("test", "-p", "unstale", "--lib", "--", "--format=pretty", *names)
    ends = re.findall(r"^test (?:\w+::)*(\w+) \.\.\. (ok|FAILED)$", done.stdout, re.MULTILINE)
    return {name: how for name, how in ends if name in names}, done.stdout + done.stderr


def simulate():
    """The scenarios that notice, and what the first of them says."""
    command = [str(COPY / "target/release/unstale-sim"), "--first"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    found = re.findall(r"^(\S+) +(\d+) .*\n    VIOLATION (.*) \(again: .*--seed (\d+)", done.stdout, re.MULTILINE)
    return [(name, int(seed), what) for name, _, what, seed in found], done.stdout


def missing(chosen):
    """What a mutant wants to change, or a table names, and cannot find."""
    texts = {file: (ROOT / file).read_text() for _, _, file, *_ in chosen}
    wrong = [f"{name}: {file} has no {old!r} any more" for name, _, file, *changes in chosen for old in changes[::2] if old not in texts[file]]
    tests = functions_under_test()
    wrong += [f"{name}: no unit test is named {test}" for name, test in UNIT_TESTS.items() if test not in tests]
    return wrong + wrong_in_guarantee(tests)


def functions_under_test():
    """The names of all tests of the core."""
    sources = "\n".join(path.read_text() for folder in ("src", "tests") for path in (ROOT / "core" / folder).rglob("*.rs"))
    return set(re.findall(r"#\[(?:tokio::)?test[^\]]*\]\n(?: *#.*\n)* *(?:async )?fn (\w+)", sources))


def wrong_in_guarantee(tests):
    """Every mechanism of docs/guarantee.md names what fails without it, and every mutant is named there."""
    head = "| mechanism | what would happen without it | what fails then |\n|---|---|---|\n"
    rows = GUARANTEE.read_text().partition(head)[2].partition("\n\n")[0].splitlines()
    mutants = {name for name, *_ in MUTANTS}
    wrong, seen = ([] if rows else ["docs/guarantee.md: no table of the mechanisms"]), set()
    for row in rows:
        cells = row.strip("| ").split(" | ")
        names = set(re.findall(r"`([\w-]+)`", cells[-1]))
        seen |= names
        if len(cells) != 3 or not names:
            wrong.append(f"docs/guarantee.md: nothing is named in {row!r}")
        wrong += [f"docs/guarantee.md: {name} is neither a mutant nor a test" for name in sorted(names - mutants - tests)]
    return wrong + [f"docs/guarantee.md: the mutant {name} is not named" for name in sorted(mutants - seen) if rows]


def judge(name):
    """What notices the mutant that is in the copy now: a scenario, its seed, what it sees; or a unit test. None: nothing does."""
    if test := UNIT_TESTS.get(name):
        ends, output = unit_tests({test})
        if test not in ends:
            sys.exit(f"{name}: {test} did not run:\n{output}")
        return ("unit test", "", f"`{test}` fails") if ends[test] == "FAILED" else None
    built = build()
    if built.returncode:
        sys.exit(f"{name} does not compile:\n{built.stderr}")
    found, _ = simulate()
    return found[0] if found else None


def main():
    check = "--check" in sys.argv
    if check:
        sys.argv.remove("--check")
    chosen = [m for m in MUTANTS if len(sys.argv) == 1 or m[0] in sys.argv[1:]]
    unknown = set(sys.argv[1:]) - {m[0] for m in MUTANTS}
    if unknown:
        sys.exit(f"no such mutant: {', '.join(sorted(unknown))}")
    if wrong := missing(chosen):
        sys.exit("\n".join([*wrong, "mend the list in tests/sim/mutants.py"]))
    if check:
        return 0
    COPY.mkdir(parents=True, exist_ok=True)
    copy()
    first = build()
    if first.returncode:
        sys.exit(first.stderr)
    found, output = simulate()
    if found:
        sys.exit(f"the simulation fails without a mutant:\n{output}")
    tests = {UNIT_TESTS[name] for name, *_ in chosen if name in UNIT_TESTS}
    ends, output = unit_tests(tests) if tests else ({}, "")
    if ends != dict.fromkeys(tests, "ok"):
        sys.exit(f"without a mutant the unit tests fail:\n{output}")
    rows, failed = [], 0
    for name, mechanism, file, *changes in chosen:
        path = COPY / file
        original = path.read_text()
        text = original
        for old, new in zip(changes[::2], changes[1::2]):
            text = text.replace(old, new)
        path.write_text(text)
        noticed = judge(name)
        path.write_text(original)
        failed += noticed is None
        where, seed, what = noticed or ("NOTHING", "", "not noticed")
        print(f"{name:<22}{where:<18}{f'seed {seed}' if seed else '':<10}{what}", flush=True)
        rows.append((name, mechanism, where, seed, what))
    if len(chosen) == len(MUTANTS):
        write(rows)
    print(f"{len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


def write(rows):
    text = [
        "# What fails without each mechanism",
        "",
        "Made by `make mutants`: each row is the real core with one mechanism switched off, and the first run of the simulation",
        "(`tests/sim`) in which a read then breaks the promise, or, where no scenario notices alone, the unit test that fails. Without a mutant",
        "the same runs and tests find nothing.",
        "",
        "| mutant | mechanism | noticed by | seed | what it sees |",
        "|---|---|---|---|---|",
    ]
    for name, mechanism, where, seed, what in rows:
        where = where if where == "unit test" else f"`{where}`"
        text.append(f"| `{name}` | {mechanism} | {where} | {seed} | {what} |".replace("|  |", "| |"))
    TABLE.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    sys.exit(main())
