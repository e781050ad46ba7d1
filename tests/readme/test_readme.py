"""Runs the programs of README.md as a new user would: from the packages in dist/, against a real mosquitto.

A program is a fenced block after a line `<!-- run: language -->`. Each prints the price, 120.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
URL = "mqtt://localhost:1883"
DIST = ROOT / "dist"
PKG_CONFIG = {"PKG_CONFIG_PATH": str(DIST / "capi/lib/pkgconfig")}
LIMIT = 600


def programs():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"<!-- run: (\w+) -->\n```\w+\n(.*?)```", text, re.DOTALL))


class Readme(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            cls.port = s.getsockname()[1]
        mosquitto = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
        cls.broker = subprocess.Popen(
            [mosquitto, "-p", str(cls.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        cls.addClassCleanup(cls.stop)
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", cls.port), 1).close()
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    @classmethod
    def stop(cls):
        cls.broker.kill()
        cls.broker.wait()

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="unstale-readme-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def write(self, name, language):
        code = programs()[language]
        self.assertIn(URL, code)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code.replace(URL, f"mqtt://127.0.0.1:{self.port}"), encoding="utf-8")
        return path

    def run_it(self, *command, env=None):
        done = subprocess.run(
            [str(c) for c in command],
            cwd=self.folder,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        self.assertEqual(done.returncode, 0, f"{command}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def prints_the_price(self, *command, env=None):
        self.assertEqual(self.run_it(*command, env=env).strip(), "120")

    def package(self, pattern):
        found = sorted(DIST.glob(pattern))
        self.assertEqual(len(found), 1, f"one {pattern} in dist/, not {found}")
        return found[0]

    def test_python(self):
        self.run_it(sys.executable, "-m", "venv", "venv")
        self.run_it("venv/bin/pip", "install", "--quiet", "--no-index", self.package("*.whl"))
        self.prints_the_price("venv/bin/python", self.write("first.py", "python"))

    def test_node(self):
        (self.folder / "package.json").write_text('{"name": "first", "private": true}')
        self.run_it("npm", "install", "--silent", "--no-audit", "--no-fund", self.package("*.tgz"))
        self.prints_the_price("node", self.write("first.mjs", "node"))

    def test_rust(self):
        # What `cargo add` would build was built before; a project of its own would compile OpenSSL once more.
        source = self.write("main.rs", "rust")
        built = ROOT / "target/release"
        self.run_it(
            "rustc", "--edition=2021", source, "-o", "first", "--extern", f"unstale={built / 'libunstale.rlib'}",
            "-L", f"dependency={built / 'deps'}",
        )
        self.prints_the_price("./first")

    def test_c(self):
        source = self.write("first.c", "c")
        flags = self.run_it("pkg-config", "--cflags", "--libs", "unstale", env=PKG_CONFIG).split()
        self.run_it("cc", "-Wall", "-Wextra", "-Werror", source, "-o", "first", *flags)
        self.prints_the_price("./first")

    def test_go(self):
        self.write("main.go", "go")
        module = re.search(r"^module (\S+)", (ROOT / "bindings-c/go/go.mod").read_text(), re.MULTILINE).group(1)
        self.run_it("go", "mod", "init", "first")
        self.run_it("go", "mod", "edit", f"-replace={module}={ROOT / 'bindings-c/go'}")
        self.run_it("go", "mod", "tidy")
        self.prints_the_price("go", "run", ".", env=PKG_CONFIG)

    def test_dotnet(self):
        source = self.write("First.cs", "dotnet")
        self.run_it(ROOT / "bindings-c/dotnet/build.sh", self.folder / "out/first.dll", source)
        self.prints_the_price(ROOT / "bindings-c/dotnet/run.sh", "out/first.dll")


if __name__ == "__main__":
    unittest.main()
