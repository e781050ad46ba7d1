#!/usr/bin/env python3
"""Runs script.json for every pair of languages on a real broker. See README.md beside this file."""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from brokers import BROKERS  # noqa: E402
from driver import FOLDER, Broken  # noqa: E402
from pair import Pair  # noqa: E402

LANGUAGES = ("rust", "c", "python", "node", "go", "dotnet")
STEP_FIELDS = {"at", "do", "ok", "error", "message", "within_ms", "save"}
SCENARIO_FIELDS = {"name", "says", "cache", "fresh", "steps"}


def read_script(only):
    """The scenarios, checked: a typing error in the script must not pass as an expectation that always holds."""
    scenarios = json.loads(Path(__file__).with_name("script.json").read_text(encoding="utf-8"))
    names = [scenario["name"] for scenario in scenarios]
    wrong = [f"two scenarios are named {name}" for name in sorted(set(names)) if names.count(name) > 1]
    for scenario in scenarios:
        if set(scenario) - SCENARIO_FIELDS or not scenario["steps"]:
            wrong.append(f"{scenario['name']}: unknown fields or no steps")
        for index, step in enumerate(scenario["steps"]):
            if set(step) - STEP_FIELDS or step["at"] not in ("W", "R", "both", "pub") or len(step["do"]) != 2:
                wrong.append(f"{scenario['name']}, step {index + 1}: not a step")
    wrong += [f"no scenario is named {name}" for name in only if name not in names]
    if wrong:
        raise SystemExit("script.json: " + "; ".join(wrong))
    return [scenario for scenario in scenarios if not only or scenario["name"] in only]


def build(language):
    """Runs the driver's `build`. None, or what went wrong."""
    program = FOLDER / language / "build"
    if not program.exists():
        return None
    done = subprocess.run([str(program)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return None if done.returncode == 0 else f"{program} failed:\n{done.stdout[-3000:]}"


class Tally:
    """What passed and what failed, filled by several threads."""

    def __init__(self, verbose):
        self.verbose = verbose
        self.lock = threading.Lock()
        self.passed = self.failed = self.steps = 0
        self.grid = {}

    def pair_done(self, pair, outcomes, seconds):
        writer, reader = pair.languages["W"], pair.languages["R"]
        with self.lock:
            failures = [(name, problem) for name, problem in outcomes if problem]
            self.passed += len(outcomes) - len(failures)
            self.failed += len(failures)
            self.steps += pair.steps
            self.grid[writer, reader] = not failures
            for name, problem in failures:
                print(f"FAILED {writer} -> {reader}, {name}\n      {problem}", flush=True)
            if self.verbose:
                counts = f"{len(outcomes)} scenarios, {pair.steps} steps, {seconds:.1f} s"
                print(f"{writer} -> {reader}: {counts}", flush=True)

    def limits_kept(self, broker):
        """One more test: nothing that any client did was against a limit of AWS."""
        print(f"{broker.name}: {json.dumps(broker.ask())}", flush=True)
        refusals = broker.refusals()
        for refusal in refusals[:20]:
            print(f"FAILED limits: {refusal}", flush=True)
        self.failed += bool(refusals)
        self.passed += not refusals

    def table(self, languages):
        width = max(map(len, languages)) + 2
        print("writer \\ reader".ljust(17) + "".join(name.ljust(width) for name in languages))
        for writer in languages:
            words = {True: "ok", False: "FAILED", None: "-"}
            cells = (words[self.grid.get((writer, reader))] for reader in languages)
            print(writer.ljust(17) + "".join(cell.ljust(width) for cell in cells))


def play(pair, scenarios):
    outcomes = []
    for scenario in scenarios:
        problem = pair.play(scenario)
        if problem:
            problem = f"({scenario['says']}) {problem}"
        outcomes.append((scenario["name"], problem))
    try:
        pair.end()
    except Broken as problem:
        outcomes.append(("the end", str(problem)))
    return outcomes


def worker(broker, pairs, scenarios, broken, tally):
    while True:
        try:
            writer, reader = pairs.popleft()
        except IndexError:
            return
        pair, started = Pair(broker, writer, reader), time.monotonic()
        try:
            problem = broken.get(writer) or broken.get(reader)
            if problem:
                outcomes = [(scenario["name"], problem) for scenario in scenarios]
            else:
                outcomes = play(pair, scenarios)
        except Exception as problem:  # a mistake in this harness must not look like a pass
            outcomes = [("harness", repr(problem))]
        finally:
            pair.kill()
        tally.pair_done(pair, outcomes, time.monotonic() - started)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--langs", default=",".join(LANGUAGES), help="the languages to pair, default: all six")
    parser.add_argument("--broker", default="mosquitto", choices=sorted(BROKERS), help="default: mosquitto")
    parser.add_argument("--same", action="store_true", help="only the pairs of a language with itself")
    parser.add_argument("--only", default="", help="names of scenarios, comma-separated; default: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="pairs at a time, default: one per core")
    parser.add_argument("--check", action="store_true", help="only check the script")
    parser.add_argument("-v", "--verbose", action="store_true", help="say what every pair did")
    options = parser.parse_args()

    languages = options.langs.split(",")
    unknown = [language for language in languages if language not in LANGUAGES]
    if unknown:
        raise SystemExit(f"--langs: {', '.join(unknown)} is none of {', '.join(LANGUAGES)}")
    scenarios = read_script([name for name in options.only.split(",") if name])
    if options.check:
        print(f"{len(scenarios)} scenarios, {sum(len(scenario['steps']) for scenario in scenarios)} steps")
        return 0

    broken = {}
    for language in languages:
        problem = build(language)
        if problem:
            broken[language] = f"its driver was not built: {problem.splitlines()[0]}"
            print(f"{language}: {problem}", flush=True)

    tally, started = Tally(options.verbose), time.monotonic()
    pairs = deque((w, r) for w in languages for r in languages if w == r or not options.same)
    count = len(pairs)
    with BROKERS[options.broker]() as broker:
        threads = [
            threading.Thread(target=worker, args=(broker, pairs, scenarios, broken, tally)) for _ in range(options.jobs)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if hasattr(broker, "refusals"):
            tally.limits_kept(broker)

    tally.table(languages)
    good = sum(tally.grid.values())
    seconds = time.monotonic() - started
    print(f"{options.broker}: {good} of {count} pairs, {len(scenarios)} scenarios each, {tally.steps} steps in {seconds:.0f} s")
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 0 if tally.failed == 0 and good == count and tally.steps else 1


if __name__ == "__main__":
    sys.exit(main())
