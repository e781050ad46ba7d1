"""Runs tests/vectors against the plain Python reader: `python3 -m unittest discover tests/protocol_reader`."""

import json
import pathlib
import unittest

import reader

VECTORS = pathlib.Path(__file__).resolve().parent.parent / "vectors"
RULES = {"namespace": reader.is_namespace, "topic": reader.is_topic, "token": reader.is_token}


def written_out(value):
    """The two abbreviations of tests/vectors/README.md."""
    if isinstance(value, list):
        return [written_out(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$text" in value:
        return "".join(text * times for text, times in value["$text"])
    if "$list" in value:
        item, times = value["$list"]
        return [item] * times
    return {name: written_out(member) for name, member in value.items()}


def cases():
    for path in sorted(VECTORS.glob("*.json")):
        for case in json.loads(path.read_text(encoding="utf-8"))["cases"]:
            yield f"{path.name}: {case['name']}", written_out(case)


def payload_bytes(payload):
    return bytes.fromhex(payload["hex"]) if "hex" in payload else payload["utf8"].encode("utf-8")


class Vectors(unittest.TestCase):
    def test_every_payload_is_read_as_the_vectors_say(self):
        run = 0
        for name, case in cases():
            if "payload" in case:
                run += 1
                with self.subTest(name):
                    self.assertEqual(reader.outcome(payload_bytes(case["payload"])), case["expect"])
        self.assertGreaterEqual(run, 60)

    def test_every_signature_is_judged_as_the_vectors_say(self):
        run = 0
        for name, case in cases():
            if "signature" in case:
                run += 1
                form = reader.SIGNED_PROBE if "probe" in case else reader.SIGNED
                payload = payload_bytes(case["probe"] if "probe" in case else case["payload"])
                given = case["signature"]
                keys = {key: bytes.fromhex(secret) for key, secret in given["keys"].items()}
                with self.subTest(name):
                    self.assertEqual(reader.verdict(payload, given["topic"], keys, form), given["verdict"])
        self.assertGreaterEqual(run, 30)

    def test_every_name_is_judged_as_the_vectors_say(self):
        run = 0
        for name, case in cases():
            if "rule" in case:
                run += 1
                with self.subTest(name):
                    self.assertEqual(RULES[case["rule"]](case["value"]), case["valid"])
        self.assertGreater(run, 0)


if __name__ == "__main__":
    unittest.main()
