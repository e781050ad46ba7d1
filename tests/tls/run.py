#!/usr/bin/env python3
"""Plays the cases of faults.json in every language, with certificates made on the spot. See README.md beside this file."""

import argparse
import base64
import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from urllib.parse import quote, quote_plus

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "conformance"))

import certificates  # noqa: E402
import servers  # noqa: E402
from driver import Broken, Driver  # noqa: E402
from harness import LANGUAGES, build  # noqa: E402

# A user and a password with characters that a URL must escape: each case's URL and no other place holds them.
USER, PASSWORD = "plant-user", "pl@nted/secret:?#%7&+ü"
# Signs in each case, since every client below is given it.
KEY = "51b9ab1e" * 8
# For AWS: what signs a URL, what travels in it, and what an authorizer is told in the user name.
PLANTED = {
    "secret_access_key": "pl4nted/Secret+Key=0123456789abcdefghijk",
    "session_token": "pl4nted//Session+Token==&0123456789abcdefghijk",
    "authorizer_token": "pl4nted/Authorizer+Token?&=0123456789",
}
# Allows what is not safe any more, as a system's administrator may.
CARELESS = """
openssl_conf = init
[init]
ssl_conf = modules
[modules]
system_default = careless
[careless]
MinProtocol = TLSv1
CipherString = DEFAULT@SECLEVEL=0
"""


def read_table():
    table = json.loads((HERE / "faults.json").read_text(encoding="utf-8"))
    known = {"name", "says", "url", "user", "tls", "aws", "env", "error", "words"}
    for case in table["cases"]:
        if set(case) - known or ("error" in case) != ("words" in case):
            raise SystemExit(f"faults.json: {case['name']} has unknown fields, or words without an error")
    return table


def secrets(folder, planted):
    """What must show nowhere, in each form that it may take on its way."""
    found = {"X-Amz-Signature": "a signed URL"}
    key = bytes.fromhex(KEY)
    for name, secret in {"password": PASSWORD, **planted}.items():
        for form in (secret, quote(secret, safe=""), quote(secret), quote_plus(secret), json.dumps(secret)[1:-1]):
            found[form] = f"the {name}"
        for text in (secret, f"{USER}:{secret}"):
            found[base64.b64encode(text.encode()).decode().rstrip("=")[:24]] = f"the {name} in base64"
        found[secret.encode().hex()] = f"the {name} in hexadecimal digits"
    for form in (KEY, KEY.upper(), base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode(), repr(key)[2:-1]):
        # Of something that repeats itself a part is enough.
        found[form[:24]] = "the signing key"
    for key in Path(folder).glob("client*.key"):
        for line in key.read_text().splitlines():
            if len(line) > 32 and not line.startswith("-"):
                found[line] = f"a line of {key.name}"
    return found


class Run:
    """All cases in one language."""

    def __init__(self, language, table, fill, folder):
        self.language, self.table, self.fill = language, table, fill
        self.trace, self.traced = Path(folder, f"{language}.trace"), [""]
        self.driver, self.environment, self.heard = None, {}, []
        self.outcomes = []

    def play(self):
        for case in self.table["cases"]:
            try:
                problem = self.case(case)
            except Broken as broken:
                problem = str(broken)
                self.end(politely=False)
            self.keep_trace()
            self.outcomes.append((case["name"], f"({case['says']}) {problem}" if problem else None))
        try:
            self.end()
        except Broken as broken:
            self.outcomes.append(("the end", str(broken)))

    def case(self, case):
        self.start({name: self.fill(value) for name, value in case.get("env", {}).items()})
        url = self.fill(case["url"])
        if case.get("user", True):
            url = url.replace("://", f"://{USER}:{quote(PASSWORD, safe='')}@", 1)
        options = {"app": "tls", "signing_key": f"plant:{KEY}"}
        for group in {"tls", "aws"} & set(case):
            options[group] = json.loads(self.fill(json.dumps(case[group])))
        answer = self.ask("connect", url=url, options=options)
        error = answer.get("error", {})
        if "error" not in case:
            return f"not connected: {error}" if error else self.use()
        if not error:
            self.ask("close", timeout_ms=1000)
            return "connected, though it must not"
        missing = [word for word in map(self.fill, case["words"]) if word not in error["message"]]
        if error["kind"] != case["error"] or missing:
            return f"expected {case['error']} with {missing or 'these words'}, got {error}"
        return None

    def use(self):
        """`connect` has seen a message come back; here the state is looked at and the client closed."""
        self.ask("cache", ns="tls", options={})
        token = self.ask("invalidate", ns="tls", key="k")["ok"]["token"]
        delivered = self.ask("delivered", token=token, timeout_ms=10_000)
        status = self.ask("status")
        self.ask("close", timeout_ms=5000)
        if delivered != {"ok": True} or status.get("ok", {}).get("connected") is False:
            return f"connected, but not usable: {delivered}, {status}"
        return None

    def start(self, environment):
        """A new process only where the environment is another."""
        if self.driver is not None and environment == self.environment:
            return
        self.end()
        trace = {
            "MQTT_C_CLIENT_TRACE": str(self.trace),
            "MQTT_C_CLIENT_TRACE_LEVEL": "MAXIMUM",
            "MQTT_C_CLIENT_TRACE_MAX_LINES": "10000000",  # else it begins anew
        }
        self.driver, self.environment = Driver(self.language, {**trace, **environment}), environment
        self.driver.stderr = deque()  # all of it
        self.ask("log")

    def keep_trace(self):
        """After each case, since the library writes it anew when it starts anew, as it does after a WebSocket."""
        text = self.trace.read_text(errors="replace") if self.trace.exists() else ""
        if text.startswith(self.traced[-1]):
            self.traced.pop()
        self.traced.append(text)

    def ask(self, command, **fields):
        answer = self.driver.ask(command, **fields)
        self.heard.append(json.dumps(answer, ensure_ascii=False))
        return answer

    def end(self, politely=True):
        driver, self.driver = self.driver, None
        if driver is None:
            return
        try:
            if politely:
                driver.quit()
        finally:
            driver.kill()
            self.heard += driver.stderr

    def leaks(self, found):
        """The secrets that anything said by this language's processes holds."""
        texts = [(f"its answers or its log: {line}", line) for line in self.heard]
        texts += [(f"the trace: {line}", line) for trace in self.traced for line in trace.splitlines()]
        for kind, begin in {"trace": "Connecting to serverURI", "log": "connect"}.items():
            if not any(begin in text for _, text in texts):
                yield f"there is no {kind}, so nothing was looked at"
        for where, text in texts:
            yield from (f"{what} is in {where[:300]}" for secret, what in found.items() if secret in text)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--langs", default=",".join(LANGUAGES), help="default: all six")
    parser.add_argument("--only", default="", help="names of cases, comma-separated; default: all")
    parser.add_argument("--jobs", type=int, default=4, help="languages at a time; they mostly wait")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the errors' words")
    options = parser.parse_args()
    table, started = read_table(), time.monotonic()
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF"):  # only where a case says so
        os.environ.pop(name, None)
    only = [name for name in options.only.split(",") if name]
    table["cases"] = [case for case in table["cases"] if not only or case["name"] in only]
    passed = failed = 0

    def report(language, name, problem):
        nonlocal passed, failed
        passed, failed = passed + (not problem), failed + bool(problem)
        if problem:
            print(f"FAILED {language}, {name}\n      {problem}", flush=True)

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="us-tls-"))
        certificates.make(folder)
        Path(folder, "careless.cnf").write_text(CARELESS)
        planted = {**PLANTED, "token_signature": certificates.signature(folder + "/server.key", PLANTED["authorizer_token"])}
        fill, proxy = servers.open_all(stack, table, folder, planted)
        waiting, runs = deque(), []
        for language in options.langs.split(","):
            problem = build(language)
            if problem:
                report(language, "build", problem)
            else:
                runs.append(Run(language, table, fill, folder))
        waiting.extend(runs)

        def work():
            while True:
                try:
                    run = waiting.popleft()
                except IndexError:
                    return
                try:
                    run.play()
                except Exception as problem:  # a mistake in this harness must not look like a pass
                    run.outcomes.append(("harness", repr(problem)))
                    run.end(politely=False)

        threads = [threading.Thread(target=work) for _ in range(options.jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = secrets(folder, planted)
        for run in runs:
            for name, problem in run.outcomes:
                report(run.language, name, problem)
            report(run.language, "secrets", "\n      ".join(run.leaks(found)))
            if options.verbose:
                print("\n".join(f"{run.language}: {line}" for line in run.heard if '"error"' in line))
        if not only:
            upgrades = "; ".join(proxy.wrong) or ("" if proxy.passed >= len(runs) else f"only {proxy.passed} upgrades")
            report("the proxy", "headers", upgrades)
    print(f"{len(table['cases'])} cases in {len(runs)} languages in {time.monotonic() - started:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
