#!/usr/bin/env python3
"""Compiles the C tests in every way in which users compile, runs them, prints `N passed, N failed` last.

    bindings-c/tests/run.py [--lib DIR] [--way NAME]… [PROGRAM]…

`--lib` is what package.sh made (default: dist/capi). Ways: c, c-static, cpp, asan, valgrind. Programs: c/*.c without the ending.
Beside the programs there are checks of the library as a file: what it exports, needs and promises.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import artifacts
from broker import Broker

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SECONDS = 120

STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror", "-pthread", "-D_POSIX_C_SOURCE=200809L", "-D_DEFAULT_SOURCE"]
C99 = ["gcc", "-std=c99", "-O1", "-g", *STRICT, "-Wstrict-prototypes"]
# A missing initialiser is zero in both languages; only C++'s compiler minds.
CPP = ["g++", "-x", "c++", "-std=c++11", "-O1", "-g", *STRICT, "-Wno-missing-field-initializers"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]

# Programs that a way cannot run. gcc 12's sanitizer does not survive a fork of a process with threads: its allocator's locks stay taken.
# And a process that ends while its threads work is no matter for those who look for leaks: what a thread holds just then may look like one.
NOT = {("fork", "asan"), ("exit", "asan"), ("exit", "valgrind")}

# name: (compiler, static, what runs the program, how much slower it may be)
WAYS = {
    "c": (C99, False, [], 1),
    "c-static": (C99, True, [], 1),
    "cpp": (CPP, False, [], 1),
    "asan": (C99 + SANITIZE, False, [], 2),
    "valgrind": (
        C99,
        False,
        [
            "valgrind",
            "--quiet",
            "--error-exitcode=99",
            "--leak-check=full",
            "--show-leak-kinds=definite,indirect",
            "--errors-for-leak-kinds=definite,indirect",
            "--fair-sched=yes",
            # Threads end wherever they are when a process exits; what glibc then frees for valgrind alone may be locked by one.
            "--run-libc-freeres=no",
            f"--suppressions={HERE / 'valgrind.supp'}",
        ],
        10,
    ),
}


class Tally:
    """Counts, and says what failed as it comes."""

    def __init__(self):
        self.passed = self.failed = 0

    def add(self, name, ok, output=""):
        if ok:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED {name}\n{indent(output)}", flush=True)


def indent(text):
    return "\n".join("    " + line for line in text.strip().splitlines()[-60:])


def library_flags(lib, static):
    """What pkg-config says, as a user would ask it."""
    env = {**os.environ, "PKG_CONFIG_PATH": str(lib / "lib/pkgconfig")}

    def ask(*what):
        return subprocess.run(["pkg-config", *what, "unstale"], env=env, check=True, capture_output=True, text=True).stdout.split()

    if not static:
        return ask("--cflags"), ask("--libs")
    private = [flag for flag in ask("--static", "--libs") if flag.startswith("-l") and flag != "-lunstale"]
    return ask("--cflags"), [f"-L{ask('--variable=libdir')[0]}", "-l:libunstale.a", *private]


def compile_program(source, way, lib, out):
    compiler, static, _, _ = WAYS[way]
    cflags, libs = library_flags(lib, static)
    command = [*compiler, f"-I{HERE / 'c'}", *cflags, str(source), "-o", str(out), *libs, "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode == 0, " ".join(command) + "\n" + done.stdout + done.stderr


def run_program(program, way, broker):
    """Exit code (None: out of time) and output. The process gets a group of its own, so that its children end with it."""
    _, _, wrapper, slower = WAYS[way]
    env = {name: value for name, value in os.environ.items() if not name.startswith("UNSTALE_")}
    env |= broker.environment()
    env |= {
        "US_SLOWER": str(slower),
        "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    process = subprocess.Popen(
        [*wrapper, str(program)],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=SECONDS * slower)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return None, output + f"\nout of time after {SECONDS * slower} s"


def one(source, way, lib, work, broker):
    """A list of (name, passed, output), one for each test of the program and one for its end."""
    name = f"{way}: {source.stem}"
    program = work / f"{source.stem}-{way}"
    built, output = compile_program(source, way, lib, program)
    if not built:
        return [(f"{name} does not compile", False, output)]
    code, output = run_program(program, way, broker)
    results = [(f"{name}: {test}", outcome == "ok", output) for outcome, test in re.findall(r"^(ok|FAILED) (\w+)$", output, re.MULTILINE)]
    # A crash, a leak or an error that a checker found, after or between the tests. Valgrind is quiet but for errors, and those of a
    # forked child are not in the exit code.
    if (code != 0 or re.search(r"^==\d+==", output, re.MULTILINE)) and all(passed for _, passed, _ in results):
        results.append((f"{name} ended with {code}", False, output))
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", type=Path, default=ROOT / "dist/capi")
    parser.add_argument("--way", action="append", choices=list(WAYS))
    parser.add_argument("programs", nargs="*")
    arguments = parser.parse_args()
    lib = arguments.lib.resolve()
    if shutil.which("valgrind") is None and (not arguments.way or "valgrind" in arguments.way):
        sys.exit("valgrind is missing; run .ci/setup c")

    sources = sorted(p for p in (HERE / "c").glob("*.c") if not arguments.programs or p.stem in arguments.programs)
    tally = Tally()
    with tempfile.TemporaryDirectory() as work, Broker(Path(work)) as broker:
        if not arguments.programs:
            for name, passed, output in artifacts.checks(lib, Path(work)):
                tally.add(f"library: {name}", passed, output)
        jobs = [(source, way) for way in arguments.way or WAYS for source in sources if (source.stem, way) not in NOT]
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            for results in pool.map(lambda job: one(*job, lib, Path(work), broker), jobs):
                for result in results:
                    tally.add(*result)
    print(f"{tally.passed} passed, {tally.failed} failed")
    sys.exit(tally.failed != 0 or tally.passed == 0)


if __name__ == "__main__":
    main()
