"""Checks of the library as a file: what it exports, needs and promises, and that its first program works."""

import os
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# What a shared library may need on Linux; anything else (libssl above all) would be somebody else's version of it.
SYSTEM = {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "libpthread.so.0", "libdl.so.2", "librt.so.1"}


def output(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    return done.stdout + (done.stderr if done.returncode else "")


def declared(header):
    """The functions of the header."""
    code = re.sub(r"//[^\n]*", "", header)
    return set(re.findall(r"\b(unstale_\w+)\s*\(", code))


def symbols(path, *options):
    """(name, binding, section) of the global symbols."""
    for line in output("readelf", "--wide", *options, str(path)).splitlines():
        fields = line.split()
        if len(fields) == 8 and fields[0].rstrip(":").isdigit() and fields[4] in ("GLOBAL", "WEAK", "UNIQUE"):
            yield fields[7].split("@")[0], fields[4], fields[6]


def difference(found, wanted):
    return f"too many: {sorted(found - wanted)}\nmissing: {sorted(wanted - found)}"


def checks(lib, work):
    """Yields (name, passed, output)."""
    wanted = declared((lib / "include/unstale.h").read_text())
    shared, static = lib / "lib/libunstale.so", lib / "lib/libunstale.a"

    committed = (ROOT / "bindings-c/include/unstale.h").read_text()
    yield "the packaged header is the committed one", (lib / "include/unstale.h").read_text() == committed, ""

    exported = {name for name, _, section in symbols(shared, "--dyn-syms") if section != "UND"}
    yield "the shared library exports the header's functions and nothing else", exported == wanted, difference(exported, wanted)

    foreign = {name for name, _, section in symbols(shared, "--dyn-syms") if section == "UND"}
    foreign = {name for name in foreign if re.match(r"(SSL|CRYPTO|EVP|OPENSSL|X509|ERR|BIO|RAND|MQTT)", name)}
    yield "the shared library takes no OpenSSL or Paho from elsewhere", not foreign, str(sorted(foreign))

    dynamic = output("readelf", "--dynamic", "--wide", str(shared))
    needed = {name for name in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic) if not name.startswith("ld-linux")}
    yield "the shared library needs the system's basic libraries only", needed <= SYSTEM, str(needed)
    yield "the shared library has the name libunstale.so.0", "(SONAME)" in dynamic and "[libunstale.so.0]" in dynamic, dynamic
    yield "the shared library stays loaded after dlclose", "NODELETE" in dynamic, dynamic

    visible = {name for name, _, section in symbols(static, "--syms") if section != "UND"}
    yield "the static library has no other global names than the header's functions", visible == wanted, difference(visible, wanted)
    missing = {name for name, _, section in symbols(static, "--syms") if section == "UND"}
    missing = {name for name in missing if re.match(r"(SSL|CRYPTO|EVP|OPENSSL|X509|ERR|BIO|RAND|MQTT|unstale)", name)}
    yield "the static library carries OpenSSL and Paho", not missing, str(sorted(missing))

    licences = lib / "share/doc/unstale"
    for name in ("LICENSE-MIT", "LICENSE-APACHE", "LICENSE-THIRD-PARTY"):
        yield f"{name} goes with it", (licences / name).is_file(), ""

    yield from first_programs(lib, work)


def first_programs(lib, work):
    """Every complete program of the README, built as the README says."""
    readme = (ROOT / "bindings-c/README.md").read_text()
    programs = [block for block in re.findall(r"```c\n(.*?)```", readme, re.DOTALL) if "int main" in block]
    yield "the README has a first program", bool(programs), ""
    env = {name: value for name, value in os.environ.items() if not name.startswith("UNSTALE_")}
    env["PKG_CONFIG_PATH"] = str(lib / "lib/pkgconfig")
    for number, program in enumerate(programs, 1):
        source = work / f"first{number}.c"
        source.write_text(program)
        built = subprocess.run(
            f"cc -Wall -Wextra -Werror {source.name} -o first{number} $(pkg-config --cflags --libs unstale)",
            shell=True, cwd=work, env=env, capture_output=True, text=True,
        )  # fmt: skip
        yield f"program {number} of the README compiles", built.returncode == 0, built.stderr
        if built.returncode == 0:
            try:
                ran = subprocess.run([work / f"first{number}"], env=env, capture_output=True, text=True, timeout=60)
                says = re.findall(r"^// prints: (.*)$", program, re.MULTILINE)
                ok = ran.returncode == 0 and ran.stdout.splitlines() == says
                yield f"program {number} of the README prints what it says", ok, f"{ran.returncode}\n{ran.stdout}{ran.stderr}"
            except subprocess.TimeoutExpired as error:
                yield f"program {number} of the README ends", False, str(error)
