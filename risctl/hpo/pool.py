"""Worker processes, seen from the process that owns the study."""

import json
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing import connection, get_context
from typing import Any

from risctl.hpo.study import Claim
from risctl.hpo.worker import LOG, TrialJob, work
from risctl.parallel import DEAF_TO, signals_blocked

# What a worker needs; the second one, which optimisers load when first made, takes as long as all the rest.
PRELOADED = [work.__module__, "torch._dynamo"]
LOG_TAIL = 4096  # bytes at the end of a log in which the last line is looked for


class Worker:
    """A process that trains the trial `claim`, on place `slot`.

    Workers are forked from a server process that has imported everything and run nothing: they start in
    milliseconds, without threads or open databases of this process.
    """

    def __init__(self, claim: Claim, slot: int, job: TrialJob) -> None:
        self.number, self.slot, self.claim = claim.number, slot, claim
        self.stopping, self._log = False, job.directory / LOG
        context = get_context("forkserver")
        # What the compiler imports on machines with an accelerator may look for it, which no process that is
        # forked from does: there its seconds are paid by every worker.
        context.set_forkserver_preload(PRELOADED if job.device == "cpu" else PRELOADED[:1])
        self._pipe, theirs = context.Pipe()
        # Not a daemon: it may have children of its own, which make scenes.
        self._process = context.Process(target=work, args=(job, theirs))
        with signals_blocked(*DEAF_TO):  # the server of the workers inherits that, too: it must outlive them
            self._process.start()
        theirs.close()

    def line(self) -> dict[str, Any] | None:
        """The next line that it has sent, None if there is none.

        Raises:
            EOFError: it has ended, and every line of it was read.
        """
        # In this order: lines that it sent before it ended are read first.
        ended = bool(connection.wait([self._process.sentinel], 0))
        try:
            if self._pipe.poll():
                return dict(json.loads(self._pipe.recv_bytes()))
        except OSError:
            raise EOFError from None
        if ended:
            raise EOFError
        return None

    def answer(self, word: str) -> None:
        """Send it `go`, `prune` or `stop`; one that has ended gets nothing."""
        self.stopping |= word == "stop"
        with suppress(OSError):
            self._pipe.send_bytes(json.dumps(word).encode())

    def ending(self) -> str:
        """How its process ended, if without a last line."""
        self._process.join()
        status = self._process.exitcode or 0
        if status < 0:
            return f"its process was killed by signal {-status}"
        text = ""
        with suppress(OSError):
            text = self._log.read_bytes()[-LOG_TAIL:].decode(errors="replace")
        words = text.rstrip().rpartition("\n")[2].strip()  # the last line of a traceback names the error
        return f"its process ended with status {status}{': ' if words else ''}{words}"

    def close(self) -> None:
        """End it if it has not ended, and free its resources."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()


def wait(workers: Iterable[Worker], seconds: float) -> None:
    """Wait until a worker has sent a line or has ended, `seconds` at most."""
    handles = [handle for w in workers for handle in (w._pipe, w._process.sentinel)]
    connection.wait(handles, seconds)
