"""Certificates made on the spot, with the `openssl` program: the standard library makes none."""

import base64
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

CONFIG = """
[ca]
default_ca = d
[d]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
certificate = {folder}/ca.crt
private_key = {folder}/ca.key
default_md = sha256
default_crl_days = 1
copy_extensions = copy
unique_subject = no
policy = p
[p]
commonName = supplied
"""
NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise SystemExit(f"openssl {' '.join(map(str, arguments))}: {done.stdout}")


def moment(days):
    return (datetime.now(timezone.utc) + timedelta(days=days)).strftime("%Y%m%d%H%M%SZ")


class Authority:
    """Has a folder of its own with `ca.crt`; issues into another. `parent` makes it an intermediate one."""

    def __init__(self, folder, name, parent=None):
        self.folder = Path(folder)
        self.folder.mkdir()
        (self.folder / "index.txt").touch()
        (self.folder / "openssl.cnf").write_text(CONFIG.format(folder=self.folder))
        extension = ["-addext", "basicConstraints=critical,CA:TRUE"]
        if parent is None:
            target = ["-x509", "-days", "2", "-out", self.folder / "ca.crt"]
        else:
            target = ["-out", self.folder / "ca.csr"]
        openssl("req", "-new", *NEW_KEY, "-subj", f"/CN={name}", *extension, "-keyout", self.folder / "ca.key", *target)
        if parent is not None:
            parent._sign(self.folder / "ca", -1, 2)

    def issue(self, path, subject, names=None, days=(-1, 2)):
        """Makes `path`.crt and `path`.key, valid from and until so many days from now."""
        path = Path(path)
        extensions = ["-addext", "basicConstraints=CA:FALSE"]
        if names:
            extensions += ["-addext", f"subjectAltName={names}"]
        files = ["-keyout", path.with_suffix(".key"), "-out", path.with_suffix(".csr")]
        openssl("req", "-new", *NEW_KEY, "-subj", f"/CN={subject}", *extensions, *files)
        self._sign(path, *days)

    def _sign(self, path, start, end):
        path = Path(path)
        files = ["-in", path.with_suffix(".csr"), "-out", path.with_suffix(".crt")]
        self._ca("-notext", "-startdate", moment(start), "-enddate", moment(end), *files)

    def revoke(self, certificate, crl):
        """And writes the list of what is revoked."""
        self._ca("-revoke", certificate)
        self._ca("-gencrl", "-out", crl)

    def _ca(self, *arguments):
        openssl("ca", "-batch", "-config", self.folder / "openssl.cnf", *arguments)


def signature(key, text):
    """In Base64, as a custom authorizer of AWS wants it."""
    command = ["openssl", "dgst", "-sha256", "-sign", str(key)]
    return base64.b64encode(subprocess.run(command, input=text.encode(), stdout=subprocess.PIPE, check=True).stdout).decode()


def make(folder):
    """Everything that `faults.json` names."""
    folder = Path(folder)
    ours, theirs = Authority(folder / "ours", "the broker's authority"), Authority(folder / "theirs", "another authority")
    middle = Authority(folder / "middle", "an intermediate authority", parent=ours)
    (folder / "ca.crt").write_bytes((folder / "ours/ca.crt").read_bytes())
    (folder / "other.crt").write_bytes((folder / "theirs/ca.crt").read_bytes())

    here = "IP:127.0.0.1,DNS:localhost"
    ours.issue(folder / "server", "broker", here)
    ours.issue(folder / "server-expired", "old broker", here, days=(-9, -2))
    ours.issue(folder / "server-early", "early broker", here, days=(2, 9))
    ours.issue(folder / "server-elsewhere", "elsewhere", "DNS:broker.example,IP:192.0.2.7")
    middle.issue(folder / "server-middle", "broker below", here)
    chain = (folder / "server-middle.crt").read_bytes() + (folder / "middle/ca.crt").read_bytes()
    (folder / "server-chain.crt").write_bytes(chain)
    openssl(
        *["req", "-x509", "-days", "2", *NEW_KEY, "-subj", "/CN=alone", "-addext", f"subjectAltName={here}"],
        *["-addext", "basicConstraints=CA:FALSE", "-keyout", folder / "server-alone.key", "-out", folder / "server-alone.crt"],
    )

    ours.issue(folder / "client", "service")
    ours.issue(folder / "client-expired", "old service", days=(-9, -2))
    ours.issue(folder / "client-early", "early service", days=(2, 9))
    ours.issue(folder / "client-revoked", "revoked service")
    middle.issue(folder / "client-middle", "service below")
    chain = (folder / "client-middle.crt").read_bytes() + (folder / "middle/ca.crt").read_bytes()
    (folder / "client-chain.crt").write_bytes(chain)
    theirs.issue(folder / "client-theirs", "their service")
    ours.revoke(folder / "client-revoked.crt", folder / "crl.pem")

    openssl("pkey", "-in", folder / "server.key", "-pubout", "-out", folder / "token.pub")
    openssl("pkey", "-aes256", "-passout", "pass:x", "-in", folder / "client.key", "-out", folder / "client-locked.key")
    openssl("x509", "-in", folder / "ca.crt", "-outform", "DER", "-out", folder / "ca.der")
    (folder / "empty.pem").touch()
    (folder / "text.pem").write_text("neither a certificate nor a key\n")
    damaged = (folder / "client.crt").read_text().splitlines()
    (folder / "damaged.crt").write_text("\n".join([damaged[0], *damaged[3:]]) + "\n")
