"""The types of the installed package, as mypy sees them; and that the stub and the library tell the same."""

import inspect
import subprocess
import sys
from pathlib import Path

import unstale
from unstale import _native

HERE = Path(__file__).resolve().parent


def mypy(tmp_path, *args):
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "--config-file", "", *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)


def test_a_program_that_uses_everything_type_checks(tmp_path):
    done = mypy(tmp_path, str(HERE / "typing_sample.py"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_stub_describes_the_library(tmp_path):
    allowed = tmp_path / "allowed"
    # Made by Python's class machinery, or by pyo3, and no part of what is promised.
    allowed.write_text(
        "unstale._typing\n"
        r"unstale\._native\.CacheBase\.__class_getitem__" + "\n"
        r"unstale\._native\..*\.__(new|init|reduce|repr|getitem|class_getitem|match_args|final)__" + "\n"
        r"unstale\._native\.__all__" + "\n"
    )
    command = [sys.executable, "-m", "mypy.stubtest", "unstale._native", "--allowlist", str(allowed), "--ignore-unused-allowlist"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_public_name_is_documented():
    for name in unstale.__all__:
        thing = getattr(unstale, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), name
    for of in [unstale.Cache, unstale.Client, unstale.Receipt, unstale.Lease, unstale.Subscription]:
        for name, member in inspect.getmembers(of):
            if not name.startswith("_"):
                assert inspect.getdoc(member), f"{of.__name__}.{name}"


def test_the_package_ships_its_types_and_licences():
    from importlib.metadata import distribution

    package = Path(unstale.__file__).parent
    assert (package / "py.typed").exists() and (package / "_native.pyi").exists()
    files = [str(file) for file in distribution("unstale").files]
    for licence in ["LICENSE-MIT", "LICENSE-APACHE", "LICENSE-THIRD-PARTY"]:
        assert any(file.endswith(licence) for file in files), files
    assert distribution("unstale").version == unstale.__version__ == _native.__version__
