"""docs/brokers.md: the script that it speaks of is the one that is played."""

import re
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "conformance"))

from harness import read_script  # noqa: E402


class Scenarios(unittest.TestCase):
    def test_as_many_scenarios_are_named_as_the_script_has(self):
        text = (ROOT / "docs" / "brokers.md").read_text(encoding="utf-8")
        named = re.findall(r"(\d+) scenarios (?:of the conformance script|a pair)", text)
        self.assertEqual(named, [str(len(read_script([])))] * 4)


if __name__ == "__main__":
    unittest.main()
