"""One driver process: a command in, an answer out, with deadlines."""

import json
import os
import queue
import subprocess
import threading
from collections import deque
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "drivers"
ANSWER_SECONDS = 20
END_SECONDS = 5


class Broken(Exception):
    """The driver died, fell silent or does not keep to the protocol."""


class Driver:
    """Starts `drivers/<language>/run`. Use `ask`; end with `quit` (checked) or `kill`."""

    def __init__(self, language, more_environment=None):
        self.language = language
        program = FOLDER / language / "run"
        if not os.access(program, os.X_OK):
            raise Broken(f"there is no driver for {language}: {program} is missing or not executable")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("UNSTALE_")}
        environment.update(more_environment or {})
        self.process = subprocess.Popen(
            [str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        self.answers = queue.Queue()
        self.stderr = deque(maxlen=30)
        self.readers = [
            threading.Thread(target=self._read_answers, daemon=True),
            threading.Thread(target=self._read_stderr, daemon=True),
        ]
        for reader in self.readers:
            reader.start()

    def _read_answers(self):
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put(None)

    def _read_stderr(self):
        for line in self.process.stderr:
            self.stderr.append(line.decode(errors="replace").rstrip())

    def _broken(self, what):
        said = "".join(f"\n      {self.language} stderr: {line}" for line in list(self.stderr))
        return Broken(f"{self.language} driver {what}{said}")

    def ask(self, command, **fields):
        """The whole answer, `{"ok": …}` or `{"error": {…}}`."""
        self.send(command, **fields)
        return self.receive(command)

    def send(self, command, **fields):
        """Without waiting: each `send` needs its `receive`, in order."""
        request = json.dumps({"cmd": command, **fields}, ensure_ascii=False) + "\n"
        try:
            self.process.stdin.write(request.encode())
            self.process.stdin.flush()
        except OSError:
            raise self._broken(f"is gone (exit code {self._code()}) before {command}") from None

    def receive(self, command):
        try:
            line = self.answers.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            raise self._broken(f"did not answer {command} within {ANSWER_SECONDS} s") from None
        if line is None:
            raise self._broken(f"died (exit code {self._code()}) during {command}")
        try:
            answer = json.loads(line)
            if len(answer) == 1 and ("ok" in answer or {"kind", "code", "message"} <= set(answer["error"])):
                return answer
        except (ValueError, KeyError, TypeError):
            pass
        raise self._broken(f"answered {line!r} to {command}, which is not an answer")

    def _code(self):
        try:
            return self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return "none: still running"

    def quit(self, politely=True):
        """Ends the driver by the `quit` command, or by the end of its input, and checks how it ends."""
        try:
            if politely:
                self.ask("quit")
            self.process.stdin.close()
            try:
                code = self.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                raise self._broken(f"did not end within {END_SECONDS} s of its last command") from None
            if code != 0:
                raise self._broken(f"ended with exit code {code}")
        finally:
            self.kill()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for reader in self.readers:
            reader.join(END_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                pipe.close()
            except OSError:
                pass
