"""What the brokers have in common that Debian ships as services: they are run here by hand, as the user that they are made for."""

import glob
import os
import pwd
import shutil
import subprocess

from broker import Broker


class Service(Broker):
    """`account` is the service's own user, taken when this process is root: a broker needs no privileges."""

    account = package = ""

    def need(self, pattern):
        """The file of the package that matches, whatever its version and this machine's architecture."""
        found = sorted(glob.glob(pattern))
        if not found:
            raise SystemExit(f"{self.name} is not installed: run .ci/setup {self.name} (or apt-get install {self.package})")
        return found[-1]

    def spawn(self, command, environment, log):
        """In its own folder, with nothing of ours in the environment: these scripts read a lot of it."""
        user = None
        if os.geteuid() == 0:
            try:
                user = pwd.getpwnam(self.account).pw_name
            except KeyError:
                raise SystemExit(f"there is no user {self.account}: run .ci/setup {self.name}") from None
            for folder, _, files in os.walk(self.folder.name):
                for path in [folder, *(os.path.join(folder, name) for name in files)]:
                    shutil.chown(path, user, group=pwd.getpwnam(user).pw_gid)
        return subprocess.Popen(
            command,
            cwd=self.folder.name,
            env={"PATH": os.environ["PATH"], "HOME": self.folder.name, "LANG": "C.UTF-8", **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user=user,
            extra_groups=[] if user else None,
        )

    def _is_up(self):
        """The listener may stand before a client is let in."""
        if not super()._is_up():
            return False
        try:
            self.publish("up", "?")
            return True
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return False
