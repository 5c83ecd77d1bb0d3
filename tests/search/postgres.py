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

PLACES = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql*/bin")


def find_server() -> Path | None:
    """Return the directory of the newest server installed."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    installed = [found.parent for place in PLACES for found in Path("/").glob(f"{place}/initdb")]
    return max(installed, key=lambda bin_: (len(str(bin_)), str(bin_)), default=None)


class Server:
    """A server that can be stopped and started again."""

    def __init__(self, binaries: Path, home: Path) -> None:
        self._binaries, self._home = binaries, home
        self._options: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
        self._options["cwd"] = home
        if os.geteuid() == 0:  # the server refuses to run as root
            names = {entry.pw_name: entry for entry in pwd.getpwall()}
            entry = names["postgres" if "postgres" in names else "nobody"]
            self._options |= {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(home, entry.pw_uid, entry.pw_gid)
        initdb = [binaries / "initdb", "-D", home / "data", "-U", "risctl", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*initdb, "--no-sync", "--locale=C"], check=True, **self._options)
        self.url = f"postgresql+psycopg://risctl@/postgres?host={home}"
        self.start()

    def start(self) -> None:
        # A socket in a directory of its own: no port that somebody else might have.
        settings = ["-k", self._home, "-c", "listen_addresses=", "-c", "fsync=off"]
        words = [self._binaries / "postgres", "-D", self._home / "data", *settings]
        self._process = subprocess.Popen(words, **self._options)
        asked = [self._binaries / "pg_isready", "-q", "-h", self._home, "-d", "postgres", "-U", "risctl"]
        deadline = time.monotonic() + 60
        while subprocess.run(asked, check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the PostgreSQL server of {self._binaries} does not start")
            time.sleep(0.05)

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
