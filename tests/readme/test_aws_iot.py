"""docs/aws-iot.md and examples/aws: the policy grants what a client uses and nothing else, the commands run, the sums are right.

No AWS is reached. The client's topics are read from a real mosquitto's log; the policy is judged by the rules of
https://docs.aws.amazon.com/iot/latest/developerguide/iot-policies.html, and `aws` is a stand-in that knows the options.
"""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
import types
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "conformance"))

from broker import Broker  # noqa: E402
from brokers.aws_standin import AwsStandin  # noqa: E402
from driver import Driver  # noqa: E402

DOCUMENT = ROOT / "docs" / "aws-iot.md"
EXAMPLES = ROOT / "examples" / "aws"
TOOL = ROOT / "target" / "release" / "unstale"
REGION, ACCOUNT = "eu-central-1", "123456789012"
SECONDS = 20
# The seconds between a busy loop's looks at a condition.
POLL = 0.02


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def tables():
    """Each table as rows of cells, its heading first."""
    found, rows = [], []
    for line in [*DOCUMENT.read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            found.append([rows[0], *rows[2:]])
            rows = []
    return found


def as_list(value):
    return value if isinstance(value, list) else [value]


class Policy:
    """Allow and deny by AWS IoT's rules, as far as they are used here: `*` is any characters, `+` and `#` are themselves."""

    def __init__(self, document):
        self.statements = document["Statement"]

    def grants(self, client):
        for number, statement in enumerate(self.statements):
            assert statement["Effect"] == "Allow" and set(statement) == {"Effect", "Action", "Resource"}
            for action in as_list(statement["Action"]):
                for resource in as_list(statement["Resource"]):
                    pattern = resource.replace("${iot:ClientId}", client)
                    yield (number, action, resource), action, ".*".join(map(re.escape, pattern.split("*")))

    def used(self, client, action, kind, name):
        """The grants that allow it."""
        arn = f"arn:aws:iot:{REGION}:{ACCOUNT}:{kind}/{name}"
        return {
            grant
            for grant, granted, pattern in self.grants(client)
            if granted == f"iot:{action}" and re.fullmatch(pattern, arn)
        }


def example_policy():
    text = (EXAMPLES / "policy.json").read_text().replace("REGION", REGION).replace("ACCOUNT", ACCOUNT)
    return json.loads(text)


def resolved(value, names):
    """A CloudFormation value without its functions, as far as the policy uses them."""
    if isinstance(value, list):
        return [resolved(item, names) for item in value]
    if isinstance(value, dict):
        if set(value) == {"Fn::Sub"}:
            text = re.sub(r"\$\{(?!!)([^}]+)\}", lambda found: names[found[1]], value["Fn::Sub"])
            return text.replace("${!", "${")
        return {name: resolved(item, names) for name, item in value.items()}
    return value


class Traffic:
    """What clients did, from mosquitto's log: (client, action, kind of resource, name)."""

    LINES = (
        (r"New client connected from \S+ as (\S+) ", "Connect", "client"),
        (r"Received PUBLISH from (\S+) \(.*?, '([^']*)'", "Publish", "topic"),
        (r"Sending PUBLISH to (\S+) \(.*?, '([^']*)'", "Receive", "topic"),
    )

    def __init__(self, log):
        self.done = set()
        subscriber = None
        for line in log.splitlines():
            line = line.split(": ", 1)[-1]
            for pattern, action, kind in self.LINES:
                if found := re.match(pattern, line):
                    self.done.add((found[1], action, kind, found[found.re.groups]))
            if found := re.match(r"Received SUBSCRIBE from (\S+)", line):
                subscriber = found[1]
            elif subscriber and (found := re.match(r"\t(\S+) \(QoS", line)):
                self.done.add((subscriber, "Subscribe", "topicfilter", found[1]))


class LeastPrivilege(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """Two services with a cache, one of which invalidates; all that they do is in the log."""
        with Broker(("persistence false", "log_type all", "allow_anonymous true")) as broker:
            drivers = [Driver("rust"), Driver("rust")]
            try:
                for driver in drivers:
                    options = {"app": "shop", "staleness_bound": "1s"}
                    assert driver.ask("connect", url=broker.url, options=options) == {"ok": None}
                    assert driver.ask("cache", ns="prices", options={}) == {"ok": None}
                for driver in drivers:
                    cls.until(lambda d=driver: d.ask("status")["ok"]["state"] == "live")
                drivers[0].ask("set", ns="prices", key="lamp", value="old")
                token = drivers[1].ask("invalidate", ns="prices", key="lamp")["ok"]["token"]
                assert drivers[0].ask("wait_for", token=token, timeout_ms=5000) == {"ok": True}
                cls.clients = [driver.ask("status")["ok"] for driver in drivers]
                for driver in drivers:
                    driver.ask("close", timeout_ms=5000)
            finally:
                for driver in drivers:
                    driver.kill()
            cls.traffic = Traffic(broker._log()).done
        cls.policy = Policy(example_policy())

    @staticmethod
    def until(condition):
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"not within {SECONDS} s"
            time.sleep(POLL)

    def test_the_log_was_understood(self):
        for client in (status["client_id"] for status in self.clients):
            self.assertTrue(client.startswith("shop-"))
            self.assertEqual({done[1] for done in self.traffic if done[0] == client}, {"Connect", "Publish", "Receive", "Subscribe"})

    def test_all_that_a_client_does_is_granted(self):
        for client, action, kind, name in self.traffic:
            self.assertTrue(self.policy.used(client, action, kind, name), f"{client} may not {action} {kind}/{name}")

    def test_all_that_is_granted_is_used(self):
        used = set()
        for client, action, kind, name in self.traffic:
            used |= self.policy.used(client, action, kind, name)
        self.assertEqual(used, {grant for grant, _, _ in self.policy.grants("x")})

    def test_nothing_else_is_granted(self):
        one, other = (status["client_id"] for status in self.clients)
        for action, kind, name in (
            ("Connect", "client", "stock-1"),
            ("Publish", "topic", "cache/invalidate/users"),
            ("Publish", "topic", f"cache/invalidate/_probe/{other}"),
            ("Receive", "topic", "cache/invalidate/users"),
            ("Subscribe", "topicfilter", "cache/invalidate/#"),
            ("Subscribe", "topicfilter", "cache/invalidate/_probe/+"),
            ("RetainPublish", "topic", "cache/invalidate/prices"),
        ):
            self.assertEqual(self.policy.used(one, action, kind, name), set(), f"{action} {kind}/{name}")

    def test_the_template_has_the_same_policy(self):
        template = json.loads((EXAMPLES / "unstale.json").read_text())
        names = {"AWS::Partition": "aws", "AWS::Region": REGION, "AWS::AccountId": ACCOUNT}
        names |= {name: entry["Default"] for name, entry in template["Parameters"].items()}
        document = template["Resources"]["Policy"]["Properties"]["PolicyDocument"]
        self.assertEqual(resolved(document, names), example_policy())

    def test_the_template_takes_no_topic_that_grants_more(self):
        parameter = json.loads((EXAMPLES / "unstale.json").read_text())["Parameters"]["Topic"]
        # CloudFormation matches the whole value.
        takes = re.compile(parameter["AllowedPattern"]).fullmatch
        for topic in (parameter["Default"], "t", "my.app/v_1/a-b", "1/2/3/4/5/6"):
            self.assertTrue(takes(topic), topic)
        # `?` is one character in a policy; six slashes leave no room for the probe's two under AWS's seven.
        refused = ("*", "cache/*", "cache?", "+", "cache/+", "#", "cache/#", "$aws/x", "${iot:ClientId}")
        for topic in (*refused, "/a", "a/", "", "1/2/3/4/5/6/7"):
            self.assertFalse(takes(topic), topic)

    def test_the_policy_is_small_enough(self):
        # "Policy document size: 2,048 characters, excluding white space"
        self.assertLess(len(re.sub(r"\s", "", json.dumps(example_policy()))), 2048)

    def test_the_document_shows_the_policy(self):
        self.assertIn(json.loads((EXAMPLES / "policy.json").read_text()), [json.loads(block) for block in blocks("json")])


class Stream(unittest.TestCase):
    """The Lambda function's messages are what every cache reads."""

    def run_it(self, records):
        published = []

        class Client:
            def publish(self, **arguments):
                published.append(arguments)

        boto3 = types.ModuleType("boto3")
        boto3.client = lambda name: {"iot-data": Client()}[name]
        before, sys.modules["boto3"] = sys.modules.get("boto3"), boto3
        try:
            function = {}
            exec(compile((EXAMPLES / "dynamodb_stream.py").read_text(), "dynamodb_stream.py", "exec"), function)
            function["handler"]({"Records": [{"dynamodb": {"Keys": {"id": key}}} for key in records]}, None)
        finally:
            del sys.modules["boto3"]
            if before:
                sys.modules["boto3"] = before
        decoded = []
        for message in published:
            self.assertEqual((message["topic"], message["qos"]), ("cache/invalidate/prices", 1))
            self.assertLessEqual(len(message["payload"]), 128 * 1024)
            done = subprocess.run([str(TOOL), "decode", "--json"], input=message["payload"], capture_output=True, check=True)
            decoded.append(json.loads(done.stdout))
        return decoded

    def test_keys_are_numbered_and_the_stream_ends(self):
        said = self.run_it([{"S": f"lamp:{number}"} for number in range(100)] + [{"N": "7"}, {"S": "lamp:1"}])
        keys = [key for message in said for key in message.get("keys") or []]
        self.assertEqual(sorted(keys), sorted({*(f"lamp:{number}" for number in range(100)), "7"}))
        self.assertEqual([message["seq"] for message in said], [1, 1])
        self.assertEqual([message["kind"] for message in said], ["invalidation", "bye"])

    def test_messages_fit_however_long_their_keys_become(self):
        # Six bytes for each of a control character and of a letter of two bytes, twelve for one of four.
        for letter in ("\x01", "ä", "\U0001f4a1"):
            records = [f"{number:03}".translate({48 + n: 97 + n for n in range(10)}) for number in range(100)]
            wanted = [name + letter * ((1024 - 3) // len(letter.encode())) for name in records]
            said = self.run_it([{"S": key} for key in wanted])
            keys = [key for message in said for key in message.get("keys") or []]
            self.assertEqual(sorted(keys), sorted(wanted), repr(letter))
            numbers = [message["seq"] for message in said]
            self.assertEqual(numbers, [*range(1, len(said)), len(said) - 1])
            self.assertEqual([message["kind"] for message in said], ["invalidation"] * (len(said) - 1) + ["bye"])
            self.assertEqual(len({message["src"] for message in said}), 1)
            self.assertGreater(len(said), 2)

    def test_a_key_that_no_message_can_name_invalidates_all(self):
        for key in ("x" * 1025, "ä" * 513, "a\0b", ""):
            said = self.run_it([{"S": "lamp"}, {"S": key}])
            self.assertEqual([message["kind"] for message in said], ["invalidation", "bye"], repr(key))
            self.assertTrue(said[0]["all"] and not said[0].get("keys"), said)
        self.assertTrue(self.run_it([{"S": "x" * 1024}])[0]["keys"])

    def test_nothing_is_said_of_nothing(self):
        self.assertEqual(self.run_it([]), [])


# The stand-in's commands and what each takes, from `aws … --generate-cli-skeleton` of awscli 1.46.
AWS = r"""#!/usr/bin/env python3
import json, os, pathlib, sys
KNOWN = {
    ("sts", "get-caller-identity"): {"--query", "--output"},
    ("configure", "get"): set(),
    ("iot", "create-keys-and-certificate"): {
        "--set-as-active", "--certificate-pem-outfile", "--private-key-outfile", "--public-key-outfile", "--query", "--output"},
    ("iot", "create-policy"): {"--policy-name", "--policy-document"},
    ("iot", "attach-policy"): {"--policy-name", "--target"},
    ("iot", "describe-endpoint"): {"--endpoint-type", "--query", "--output"},
    ("cloudformation", "deploy"): {"--template-file", "--stack-name", "--capabilities", "--parameter-overrides"},
    ("iot", "test-authorization"): {"--principal", "--client-id", "--auth-infos"},
}
command, rest = tuple(sys.argv[1:3]), sys.argv[3:]
options = {name: (rest + [""])[at + 1] for at, name in enumerate(rest) if name.startswith("--")}
if command not in KNOWN or set(options) - KNOWN[command]:
    sys.exit(f"aws: not known: {sys.argv[1:]}")
with open(os.environ["AWS_LOG"], "a") as log:
    log.write(json.dumps([*command, options]) + "\n")
arn = "arn:aws:iot:eu-central-1:123456789012:cert/" + "0" * 64
for name, path in options.items():
    if name.endswith("-outfile"):
        pathlib.Path(path).write_text("PEM")
    if path.startswith("file://"):
        json.loads(pathlib.Path(path[7:]).read_text())
print({"get-caller-identity": "123456789012", "get": "eu-central-1", "create-keys-and-certificate": arn,
       "describe-endpoint": "example-ats.iot.eu-central-1.amazonaws.com"}.get(command[1], "{}"))
"""


class Commands(unittest.TestCase):
    def run_all(self, script, folder):
        tools = Path(folder, "bin")
        tools.mkdir()
        (tools / "aws").write_text(AWS)
        (tools / "aws").chmod(stat.S_IRWXU)
        environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "AWS_LOG": f"{folder}/log"}
        return subprocess.run(["bash", "-eu", "-c", script], cwd=folder, env=environment, capture_output=True, text=True)

    def test_the_commands_make_a_certificate_with_the_policy(self):
        script = "".join(block for block in blocks("sh") if "aws " in block)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "examples").symlink_to(ROOT / "examples")
            done = self.run_all(script, folder)
            self.assertEqual(done.returncode, 0, done.stderr)
            calls = [json.loads(line) for line in Path(folder, "log").read_text().splitlines()]
            policy = json.loads(Path(folder, "policy.json").read_text())
        self.assertEqual(policy, example_policy())
        called = {call: options for *call, options in calls for call in [tuple(call)]}
        certificate = f"arn:aws:iot:{REGION}:{ACCOUNT}:cert/{'0' * 64}"
        self.assertEqual(called["iot", "attach-policy"], {"--policy-name": "unstale-shop", "--target": certificate})
        self.assertEqual(called["iot", "create-policy"]["--policy-name"], "unstale-shop")
        self.assertEqual(called["iot", "describe-endpoint"]["--endpoint-type"], "iot:Data-ATS")
        self.assertEqual(called["cloudformation", "deploy"]["--template-file"], "examples/aws/unstale.json")

    def test_what_one_terminal_invalidates_the_other_sees_under_the_policy(self):
        lines = [line for block in blocks("sh") for line in block.splitlines()]
        (watch,) = [line for line in lines if line.startswith("unstale watch")]
        (invalidate,) = [line for line in lines if line.startswith("unstale invalidate") and "-o app=shop" in line]
        standin = AwsStandin()
        standin.config |= {"policy": example_policy(), "account": {"region": REGION, "id": ACCOUNT}}
        with standin, tempfile.TemporaryDirectory() as folder:
            for name in ("pem", "key"):
                shutil.copy(standin._file(f"client.{name}"), Path(folder, "shop." + name.replace("pem", "crt")))
            # The stand-in's authority in the place of the system's.
            environment = {
                **os.environ,
                "PATH": f"{TOOL.parent}:{os.environ['PATH']}",
                "SSL_CERT_FILE": standin._file("ca.pem"),
                "endpoint": f"localhost:{standin.port}",
            }
            there = {"cwd": folder, "env": environment, "text": True}
            watching = subprocess.Popen(["bash", "-euc", f"exec {watch}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **there)
            with watching:
                try:
                    LeastPrivilege.until(lambda: standin.ask()["peaks"].get("subscriptions"))
                    # A subscription works some time after its SUBACK: again, until it is seen.
                    seen = []
                    reader = threading.Thread(target=lambda: seen.extend(line for line in watching.stdout if "lamp" in line))
                    reader.start()
                    deadline = time.monotonic() + SECONDS
                    while not seen and time.monotonic() < deadline:
                        done = subprocess.run(["bash", "-euc", invalidate], capture_output=True, timeout=SECONDS, **there)
                        self.assertEqual(done.returncode, 0, done.stderr)
                finally:
                    watching.terminate()
                reader.join(SECONDS)
            self.assertTrue(seen)
            self.assertEqual(standin.ask()["rejections"], {})

    def test_every_block_is_well_formed(self):
        for block in blocks("json"):
            json.loads(block)
        for block in blocks("sh"):
            self.assertEqual(subprocess.run(["bash", "-n", "-c", block], capture_output=True).stderr, b"")


class Symptoms(unittest.TestCase):
    """What the page quotes is what the code says."""

    def test_every_quoted_phrase_is_in_the_sources(self):
        sources = [path.read_text(encoding="utf-8") for path in (ROOT / "core" / "src").rglob("*.rs") if "tests" not in str(path)]
        sources = [re.sub(r"^\s*//.*$", "", source, flags=re.MULTILINE) for source in sources]
        # Literals as the compiler reads them: continued lines joined, quotation marks without their backslash.
        code = re.sub(r"\\\n\s*", "", "\n".join(sources)).replace('\\"', '"')
        # What is filled in is `…` on the page.
        code = re.sub(r"\{[^{}\n]*\}", "…", code)
        text = re.sub(r"^```.*?^```$", "", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        text = re.sub(r"`[^`]*`", lambda found: found[0].replace('"', ""), text)
        quoted = [" ".join(phrase.split()) for phrase in re.findall(r'"([^"]+)"', text)]
        self.assertGreater(len(quoted), 10)
        for phrase in quoted:
            with self.subTest(phrase):
                self.assertTrue(phrase.strip("… ") in code, "no source says this")


def number(cell):
    return float(re.sub(r"[$,\s]", "", cell))


class Sums(unittest.TestCase):
    """The tables are what their formulas give."""

    def table(self, heading):
        found = [table for table in tables() if table[0][0] == heading]
        self.assertEqual(len(found), 1, heading)
        return found[0]

    def test_the_costs(self):
        head, *rows = self.table("clients")
        bounds = [{"B = 5 s": 5, "B = 30 s": 30, "B = 5 min": 300}[name] for name in head[1:]]
        publishers, invalidations, heartbeats, days = 2, 1000, 3000, 30
        for clients, *cells in rows:
            n = int(number(clients))
            for bound, cell in zip(bounds, cells):
                spread = 1 + 2 * n
                hello = 72 * n + 72 * n * publishers
                messages = 3 * n * 432_000 / bound + (invalidations + heartbeats + hello) * spread
                dollars = days * (messages * 1.00e-6 + n * 1440 * 0.08e-6)
                self.assertLess(abs(number(cell) - dollars) / dollars, 0.05, f"{n} clients, {bound} s: {dollars:.2f}")

    def test_the_rates(self):
        head, *rows = self.table("busy publishers, P")
        for publishers, rate, keys in rows:
            p = int(number(publishers))
            # 80 of the 100: the rest is for probes, heartbeats and hellos.
            self.assertEqual(number(rate), min(80, 80 // p))
            self.assertLessEqual(number(keys), p * number(rate) * 4800 / 24)
            self.assertGreater(number(keys), 0.9 * p * number(rate) * 4800 / 24)

    def test_the_quiet_load(self):
        head, *rows = self.table("clients, N")
        for clients, *cells in rows:
            n = int(number(clients))
            for bound, cell in zip((5, 30, 300), cells):
                publishers = 2
                load = 5 / bound + n * (1 + publishers) / 1200
                self.assertAlmostEqual(number(cell), load, delta=0.05 * load + 0.005)


if __name__ == "__main__":
    unittest.main()
