"""The guide's first program runs as it is written."""

import re
from pathlib import Path

from test_process import python

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


def test_the_first_program_of_the_guide(broker):
    program = re.search(r"## A first program\n\n```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert "mqtt://localhost:1883" in program
    checks = "\nassert get_user.cache.stats()['hits'] == 1\nrename(42, 'Bob')\n"
    program = program.replace("mqtt://localhost:1883", broker.url).replace("client.close()", checks + "client.close()")
    assert python(program) == ""
