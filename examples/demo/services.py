"""The services as processes: a line in, a line out, with a deadline."""

import os
import queue
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
BUILT = ROOT / ".cache" / "demo"
ANSWER_SECONDS = 30

# What `examples/demo/run` has built.
SERVICES = {
    "rust": [str(ROOT / "target/release/example-service")],
    "c": [str(BUILT / "c-service")],
    "python": [str(BUILT / "venv/bin/python"), str(EXAMPLES / "python/service.py")],
    "node": ["node", str(BUILT / "node/service.mjs")],
    "go": [str(BUILT / "go-service")],
    "dotnet": [str(ROOT / "bindings-c/dotnet/run.sh"), str(BUILT / "dotnet/service.dll")],
}


class ServiceDied(Exception):
    """A service ended, fell silent, or said something else than it was asked."""


class Service:
    """One service. `send` commands, then fetch their answers in order."""

    def __init__(self, language, database, url):
        self.language = language
        self.reads = self.loads = 0
        environment = {name: value for name, value in os.environ.items() if not name.startswith("UNSTALE_")}
        self.process = subprocess.Popen(
            [*SERVICES[language], str(database), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
        )
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.split())
        self.lines.put(None)

    def send(self, command):
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except OSError:
            raise ServiceDied(f"the {self.language} service is gone") from None

    def answer(self, word):
        """The numbers of the next answer, which must begin with `word`."""
        try:
            line = self.lines.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            raise ServiceDied(f"the {self.language} service did not answer within {ANSWER_SECONDS} s") from None
        if line is None:
            raise ServiceDied(f"the {self.language} service ended (exit code {self.process.wait()})")
        if not line or line[0] != word:
            raise ServiceDied(f"the {self.language} service said {line}, not “{word} …”")
        return [int(number) for number in line[1:]]

    def end(self):
        """Ends it by the end of its input, and checks that it ends well."""
        self.process.stdin.close()
        try:
            code = self.process.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            raise ServiceDied(f"the {self.language} service did not end") from None
        if code != 0:
            raise ServiceDied(f"the {self.language} service ended with exit code {code}")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        self.process.stdout.close()
