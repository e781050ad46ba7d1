#!/usr/bin/env python3
"""Builds once, runs every language's tests, prints a table; the last line is `N passed, N failed` over all.

    make test                                  everything
    python3 tests/run_suites.py rust go        only these (what they need is not built)
    python3 tests/run_suites.py --list

A suite that crashes, exceeds its time or ran no test counts as failed. Whole outputs are in .cache/logs/.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".cache" / "logs"
SUITE_SECONDS = 30 * 60
RUST = "--release --locked --workspace --exclude unstale-python --exclude unstale-node --features unstale/broker"

# Built first, in this order; a build that fails is one failure, and the suites that need it fail on their own.
BUILDS = [
    ("core, tool, C library", "make --silent build"),
    ("wheel", "make --silent wheel"),
    ("addon", "make --silent addon"),
    ("capi", "make --silent capi"),
]

# name, what prints the summary, command
SUITES = [
    ("rust", "cargo", f"cargo test {RUST} --no-fail-fast"),
    ("simulation", "plain", "target/release/unstale-sim"),
    ("vectors in plain Python", "unittest", "python3 -m unittest discover -s tests/protocol_reader -p 'test*.py'"),
    ("harness", "unittest", "python3 -m unittest discover -s tests/conformance -p 'test_*.py'"),
    ("c", "plain", "bindings-c/test.sh"),
    ("python", "pytest", "bindings-python/test.sh"),
    ("node", "node", "bindings-node/test.sh"),
    ("go", "go", "bindings-c/go/test.sh"),
    ("dotnet", "plain", "bindings-c/dotnet/test.sh"),
    ("conformance, 36 pairs", "plain", "python3 tests/conformance/harness.py"),
    ("conformance on ejabberd", "plain", "python3 tests/conformance/harness.py --broker ejabberd --same"),
    ("conformance on the AWS stand-in", "plain", "python3 tests/conformance/harness.py --broker aws-standin --same --jobs 6"),
    ("tls, every fault in six languages", "plain", "python3 tests/tls/run.py"),
    ("chaos harness", "unittest", "python3 -m unittest discover -s tests/chaos -p 'test_*.py'"),
    ("chaos", "plain", "tests/chaos/run"),
    ("chaos on the AWS stand-in", "plain", "tests/chaos/run --broker aws-standin"),
    ("readme", "unittest", "python3 -m unittest discover -s tests/readme"),
    ("demo", "demo", "make --silent demo"),
]


class Count:
    """Tests of a suite by their outcome."""

    def __init__(self, passed=0, failed=0, skipped=0):
        self.passed, self.failed, self.skipped = passed, failed, skipped


def total(pattern, text):
    return sum(int(number) for number in re.findall(pattern, text, re.MULTILINE))


def read_cargo(text):
    line = r"^test result: \w+\. "
    return Count(
        total(line + r"(\d+) passed", text),
        total(line + r"\d+ passed; (\d+) failed", text),
        total(line + r"\d+ passed; \d+ failed; (\d+) ignored", text),
    )


def read_pytest(text):
    count = Count()
    for line in re.findall(r"^=* ?(\d+ \w+.* in [\d.]+s.*)$", text, re.MULTILINE):
        count.passed += total(r"(\d+) (?:passed|xfailed)", line)
        count.failed += total(r"(\d+) (?:failed|errors?|xpassed)", line)
        count.skipped += total(r"(\d+) skipped", line)
    return count


def read_node(text):
    line = r"^(?:#|ℹ) "
    return Count(
        total(line + r"pass (\d+)$", text),
        total(line + r"(?:fail|cancelled) (\d+)$", text),
        total(line + r"(?:skipped|todo) (\d+)$", text),
    )


def read_go(text):
    outcomes = re.findall(r"^\s*--- (PASS|FAIL|SKIP): ", text, re.MULTILINE)
    return Count(outcomes.count("PASS"), outcomes.count("FAIL"), outcomes.count("SKIP"))


def read_unittest(text):
    ran = total(r"^Ran (\d+) tests? in", text)
    failed = total(r"^FAILED .*?\bfailures=(\d+)", text) + total(r"^FAILED .*?\berrors=(\d+)", text)
    skipped = total(r"^(?:OK|FAILED) .*?\bskipped=(\d+)", text)
    return Count(ran - failed - skipped, failed, skipped)


def read_plain(text):
    lines = re.findall(r"^(\d+) passed, (\d+) failed$", text, re.MULTILINE)
    return Count(sum(int(p) for p, _ in lines), sum(int(f) for _, f in lines))


def read_demo(text):
    """The demo prints `fresh: N of M …`, one for each reading of a service after a step."""
    found = re.findall(r"^fresh: (\d+) of (\d+)", text, re.MULTILINE)
    fresh, readings = map(sum, zip(*[(int(a), int(b)) for a, b in found])) if found else (0, 0)
    return Count(fresh, readings - fresh)


READERS = {
    "cargo": read_cargo,
    "pytest": read_pytest,
    "node": read_node,
    "go": read_go,
    "unittest": read_unittest,
    "plain": read_plain,
    "demo": read_demo,
}


def run(name, command):
    """Runs a command in the root: exit code (None: out of time), output, seconds. The output goes to a log."""
    log = LOGS / (re.sub(r"\W+", "-", name) + ".log")
    started = time.monotonic()
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command, shell=True, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
        try:
            code = process.wait(SUITE_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        if code is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return code, log.read_text(encoding="utf-8", errors="replace"), time.monotonic() - started


def show_failure(name, command, text):
    lines = text.rstrip().splitlines()
    print(f"\n--- {name} failed: {command}")
    if len(lines) > 80:
        print(f"… {len(lines) - 80} more lines in .cache/logs/")
    print("\n".join(lines[-80:]) + "\n---\n", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", help="first words of their names")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    # A suite is named by its first word.
    chosen = [suite for suite in SUITES if not options.suites or re.split(r"\W", suite[0])[0] in options.suites]
    if options.list:
        print("\n".join(f"{name}: {command}" for name, _, command in SUITES))
        return 0
    if not chosen:
        parser.error(f"no suite is named {', '.join(options.suites)}")
    LOGS.mkdir(parents=True, exist_ok=True)
    # Ended from outside, a suite must not go on alone: SystemExit passes through `run`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    rows, started = [], time.monotonic()
    for name, command in [] if options.suites else BUILDS:
        code, text, seconds = run(f"build {name}", command)
        print(f"build {name:<32} {'ok' if code == 0 else 'FAILED':<8} {seconds:6.0f} s", flush=True)
        if code != 0:
            show_failure(name, command, text)
            rows.append((f"build {name}", Count(failed=1), seconds))
    for name, reader, command in chosen:
        code, text, seconds = run(name, command)
        count = READERS[reader](text)
        why = "FAILED" if count.failed else "ok"
        if count.failed == 0 and code != 0:
            why = "FAILED: out of time" if code is None else f"FAILED: exit code {code}"
            count.failed = 1
        elif count.passed + count.failed == 0:
            why, count.failed = "FAILED: ran nothing", 1
        print(f"{name:<38} {why:<8} {seconds:6.0f} s", flush=True)
        if count.failed:
            show_failure(name, command, text)
        rows.append((name, count, seconds))

    print(f"\n{'suite':<38}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for name, count, seconds in rows:
        print(f"{name:<38}{count.passed:>8}{count.failed:>8}{count.skipped:>9}{seconds:>9.0f}")
    print(f"{'':<38}{'':>8}{'':>8}{'':>9}{time.monotonic() - started:>9.0f}\n")
    passed, failed = sum(row[1].passed for row in rows), sum(row[1].failed for row in rows)
    summary = f"{passed} passed, {failed} failed"
    (LOGS / "summary").write_text(summary + "\n")
    print(summary)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
