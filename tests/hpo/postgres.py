"""A PostgreSQL server of the tests' own: an empty cluster on a socket, gone with the tests."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
USERS = ("postgres", "nobody")


def find_server() -> Path | None:
    """Return the directory of the newest server installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    root = Path("/")
    installed = [
        bin_ for place in PLACES for bin_ in root.glob(place.lstrip("/")) if (bin_ / "initdb").exists()
    ]
    return max(installed, key=lambda bin_: (len(str(bin_)), str(bin_)), default=None)


def _user() -> dict[str, Any]:
    """The server refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = next(names[name] for name in USERS if name in names)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class Server:
    """A server that can be stopped and started again."""

    def __init__(self, binaries: Path, home: Path) -> None:
        self._binaries, self._home = binaries, home
        self._options: dict[str, Any] = {"cwd": home, "stdout": subprocess.DEVNULL, **_user()}
        self._options["stderr"] = subprocess.DEVNULL
        if "user" in self._options:
            os.chown(home, self._options["user"], self._options["group"])
        initdb = [binaries / "initdb", "-D", home / "data", "-U", "risctl", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*initdb, "--no-sync", "--locale=C"], check=True, **self._options)
        self.url = f"postgresql+psycopg://risctl@/postgres?host={home}"
        self.start()

    def start(self) -> None:
        # A socket in a directory of its own: no port that somebody else might have.
        settings = ["-k", self._home, "-c", "listen_addresses=", "-c", "fsync=off"]
        words = [self._binaries / "postgres", "-D", self._home / "data", *settings]
        self._process = subprocess.Popen(words, **self._options)
        _wait_for(self._binaries, self._home, self._process)

    def stop(self) -> None:
        """Stop without waiting for clients."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)


@contextmanager
def server(binaries: Path) -> Iterator[Server]:
    """Run a server with an empty database."""
    with tempfile.TemporaryDirectory(prefix="risctl-pg-") as name:
        running = Server(binaries, Path(name))
        try:
            yield running
        finally:
            running.stop()


def _wait_for(binaries: Path, home: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        asked = [binaries / "pg_isready", "-q", "-h", home, "-d", "postgres", "-U", "risctl"]
        if subprocess.run(asked, check=False).returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError(f"the PostgreSQL server of {binaries} does not start")
