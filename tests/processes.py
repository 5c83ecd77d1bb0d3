"""Processes that fork others on request, so that tests can kill those without paying for each start.

A server reads one JSON request a line: `{"start": {...}}` forks a process and answers with its id, and
`{"wait": pid}` answers with its exit status (negative: the signal).
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]


class Server:
    """A server seen from a test; as a context manager it ends with the block."""

    def __init__(self, module: str, *arguments: object) -> None:
        command = [sys.executable, "-m", module, *map(str, arguments)]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:
            self.process.stdin.close()

    def ask(self, **request: Any) -> Any:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, directory: Path, **settings: Any) -> Any:
        """Start a process, or several that work together, and return the id or ids."""
        return self.ask(start={"directory": str(directory)} | settings)

    def wait(self, pids: Any) -> Any:
        """Return the exit status of a process, or those of several."""
        return [self.wait(pid) for pid in pids] if isinstance(pids, list) else self.ask(wait=pids)

    def run(self, directory: Path, **settings: Any) -> Any:
        """Start, wait, and return the exit status or statuses."""
        return self.wait(self.start(directory, **settings))


def wait_until(true: Callable[[], object], seconds: float = 60.0, pause: float = 0.02) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(pause)


def serve(answer: Callable[[dict[str, Any]], Any]) -> None:
    """Answer the requests on stdin; all but those to wait are answered by `answer`."""
    for line in sys.stdin:
        request = json.loads(line)
        waited = "wait" in request and os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        print(json.dumps(waited if "wait" in request else answer(request)), flush=True)


def fork(work: Callable[[], int]) -> int:
    """Fork a process that ends with the status that `work` returns; return its id."""
    pid = os.fork()
    if pid:
        return pid
    os.fsync = lambda _descriptor: None  # a killed process, unlike a power failure, loses nothing cached
    os._exit(work())  # an exception ends the process as well, with its traceback and status 1


def stop_on_signals(request: Callable[[int], None]) -> None:
    """Hand SIGTERM and SIGINT to the stop flag of a run."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: request(received))
