"""The harness must not pass what is wrong: patterns that do not match, drivers that lie, die, hang or do not end."""

import json
import sys
import tempfile
import types
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import driver  # noqa: E402
import harness  # noqa: E402
from matching import Unknown, fill, mismatch  # noqa: E402
from pair import Pair  # noqa: E402


class Matching(unittest.TestCase):
    def yes(self, pattern, value, saved=None):
        self.assertIsNone(mismatch(pattern, value, saved or {}))

    def no(self, pattern, value, saved=None):
        self.assertIsNotNone(mismatch(pattern, value, saved or {}))

    def test_scalars_match_exactly_and_by_type(self):
        self.yes(None, None)
        self.yes("a", "a")
        self.no(None, "a")
        self.no("a", None)
        self.no(1, True)
        self.no(False, 0)
        self.no("", None)

    def test_objects_match_partially_and_lists_wholly(self):
        self.yes({"a": 1}, {"a": 1, "b": 2})
        self.no({"a": 1}, {"b": 2})
        self.no({"a": None}, {})
        self.no({"a": 1}, None)
        self.yes([1, 2], [1, 2])
        self.no([1], [1, 2])
        self.no([], None)

    def test_operators(self):
        self.yes({"$type": "int"}, 3)
        self.no({"$type": "int"}, True)
        self.yes({"$gte": 2}, 2)
        self.no({"$gte": 2}, 1)
        self.no({"$gte": 0}, None)
        self.yes({"$plus": ["$a.n", 2]}, 5, {"a": {"n": 3}})
        self.no({"$plus": ["$a.n", 2]}, 6, {"a": {"n": 3}})
        self.yes({"$contains": "max_size"}, "unknown option maxSize")
        self.no({"$contains": "max_size"}, "unknown option")
        self.yes({"$match": "u1:.*"}, "u1:x")
        self.no({"$match": "u1:"}, "u1:x")
        self.yes({"$some": {"a": 1}}, [{"a": 2}, {"a": 1}])
        self.no({"$some": {"a": 1}}, [])
        self.yes({"$none": {"a": 1}}, [{"a": 2}])
        self.no({"$none": {"a": 1}}, [{"a": 1}])
        self.no({"$none": {"a": 1}}, None)
        with self.assertRaises(ValueError):
            mismatch({"$tpye": "int"}, 3, {})

    def test_what_was_never_saved_is_an_error(self):
        with self.assertRaises(Unknown):
            mismatch("$a.b", "x", {"a": {}})
        with self.assertRaises(Unknown):
            fill({"token": "$receipt.token"}, {}, {})

    def test_fill(self):
        self.assertEqual(fill(["{ns}", {"repeat": "k", "times": 3}, 1], {"ns": "n"}, {}), ["n", "kkk", 1])


GOOD = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    if request["cmd"] == "hello": answer = {"ok": {"language": "rust", "protocol": 1}}
    elif request["cmd"] == "get": answer = GET
    else: answer = {"ok": None}
    print(json.dumps(answer), flush=True)
    if request["cmd"] == "quit": break
END
"""


class Drivers(unittest.TestCase):
    """One fake driver, honest or not, against one scenario."""

    def play(self, get='{"ok": "v"}', end="", source=GOOD, step=None):
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder, "rust", "run")
            program.parent.mkdir()
            program.write_text(f"#!{sys.executable}\n" + source.replace("GET", get).replace("END", end))
            program.chmod(0o755)
            before = driver.FOLDER, driver.ANSWER_SECONDS, driver.END_SECONDS
            driver.FOLDER, driver.ANSWER_SECONDS, driver.END_SECONDS = Path(folder), 2, 2
            try:
                pair = Pair(types.SimpleNamespace(ordered=True, url="mqtt://nowhere"), "rust", "rust")
                steps = [{"at": "both", "do": ["get", {"key": "k"}], **(step or {"ok": "v"})}]
                return pair.play({"name": "s", "says": "", "fresh": True, "steps": steps})
            finally:
                pair.kill()
                driver.FOLDER, driver.ANSWER_SECONDS, driver.END_SECONDS = before

    def test_an_honest_driver_passes(self):
        self.assertIsNone(self.play())

    def test_a_wrong_answer_fails(self):
        self.assertIn("expected 'v'", self.play(get='{"ok": "stale"}'))

    def test_an_unexpected_error_fails(self):
        error = '{"error": {"kind": "Closed", "code": 7, "message": "m"}}'
        self.assertIn("Closed", self.play(get=error))
        self.assertIsNone(self.play(get=error, step={"error": "Closed"}))
        self.assertIn("m", self.play(get=error, step={"error": "Closed", "message": "other"}))
        self.assertIn("Config", self.play(get=error, step={"error": "Config"}))
        self.assertIn("number", self.play(get=error.replace("7", "8"), step={"error": "Closed"}))
        self.assertIn("no error", self.play(step={"error": "Closed"}))

    def test_what_is_not_an_answer_fails(self):
        for answer in ('{"okay": 1}', "3", "None", '{"ok": 1, "error": {}}', '{"error": {"kind": "Closed"}}'):
            self.assertIn("not an answer", self.play(get=answer))

    def test_a_driver_that_dies_fails(self):
        self.assertIn("died", self.play(get="sys.exit(3)"))

    def test_a_silent_driver_fails(self):
        self.assertIn("did not answer", self.play(get="__import__('time').sleep(60)"))

    def test_a_driver_that_does_not_end_or_ends_badly_fails(self):
        self.assertIn("did not end", self.play(end="__import__('time').sleep(60)"))
        self.assertIn("exit code 5", self.play(end="sys.exit(5)"))

    def test_a_missing_driver_fails(self):
        pair = Pair(types.SimpleNamespace(ordered=True, url="mqtt://nowhere"), "no such language", "rust")
        problem = pair.play({"name": "s", "says": "", "fresh": True, "steps": []})
        self.assertIn("missing", problem)


class Script(unittest.TestCase):
    def test_the_script_is_well_formed(self):
        self.assertGreater(len(harness.read_script([])), 30)

    def test_an_unknown_scenario_is_refused(self):
        with self.assertRaises(SystemExit):
            harness.read_script(["no such scenario"])

    def test_every_saved_name_is_saved_before_it_is_used(self):
        for scenario in harness.read_script([]):
            saved = set()
            for step in scenario["steps"]:
                text = json.dumps([step["do"], step.get("ok")])
                for name in [part.split(".")[0] for part in text.split('"$')[1:] if "." in part.split('"')[0]]:
                    self.assertIn(name, saved, scenario["name"])
                saved |= {step["save"]} if "save" in step else set()


if __name__ == "__main__":
    unittest.main()
