"""A process that trains on request, so that tests can kill trainings without paying for each start.

Reads one JSON request a line. `{"start": {"directory": ..., "ranks": n, settings...}}` forks a trainer (or n
that share every batch) and answers with its process id (or theirs); `{"wait": pid}` answers with its exit
status (negative: the signal). A trainer keeps the records of its run in `records.jsonl`, resumes what is
there, and says in `phase` what it is doing if asked to (`"phases": true`).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import risctl.training.run as run_module
from risctl.training import EpochResult, Event, Started, StepResult, StopFlag, run_training
from risctl.training.validation import Validator
from tests.training.small import CLOCKS, SmallNetwork, real_network, small_plan, train_small, weighted_terms

KINDS = {kind.__name__: kind for kind in (StepResult, EpochResult)}


class Records:
    """A log file that drops, on a new start, what will be made again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            lines = self._path.read_text().splitlines() if self._path.exists() else []
            kept = [line for line in lines if event.keeps(_parse(line))]
            self._path.write_text("".join(f"{line}\n" for line in kept))
        elif isinstance(event, StepResult | EpochResult):
            values = {k: v for k, v in asdict(event).items() if k not in CLOCKS}
            with self._path.open("a") as stream:
                stream.write(json.dumps({"kind": type(event).__name__, **values}) + "\n")


def _parse(line: str) -> Event:
    values = json.loads(line)
    return KINDS[values.pop("kind")](**values, seconds=0.0)


def announce_phases(directory: Path) -> None:
    """Write the name of each phase to a file when it begins."""

    def announced(owner: Any, name: str, phase: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def call(*args: Any, **options: Any) -> Any:
            (directory / "phase").write_text(phase)
            return original(*args, **options)

        setattr(owner, name, call)

    announced(run_module, "_build_loop", "start")
    announced(run_module, "save_checkpoint", "saving")
    announced(Validator, "_rows", "validation")
    announced(torch.optim.AdamW, "step", "step")


def train(request: dict[str, Any]) -> int:
    directory, stop = Path(request.pop("directory")), StopFlag()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: stop.request(received))
    directory.mkdir(exist_ok=True)
    if request.pop("phases", False):
        announce_phases(directory)
    if "dropout" in request:
        request["network"] = SmallNetwork(dropout=request.pop("dropout"))
    if request.pop("real", False):
        request |= {"network": real_network(dropout=0.0), "objective": weighted_terms()}
    records = Records(directory / "records.jsonl")
    outcome = run_training(small_plan(**request), directory, [records], stop, resume=True)
    (directory / "outcome.json").write_text(
        json.dumps({"steps": outcome.steps, "finished": outcome.finished})
    )
    return 0 if outcome.stopped_by is None else 128 + outcome.stopped_by


def fork(request: dict[str, Any], environment: dict[str, str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.environ.update(environment)
    os.fsync = lambda _descriptor: None  # a killed process, unlike a power failure, loses nothing cached
    os._exit(train(request))  # an exception ends the process as well, with its traceback and status 1


def start(request: dict[str, Any]) -> list[int]:
    ranks, port = request.pop("ranks", 1), request.pop("port", 0)
    if ranks == 1:
        return [fork(request, {})]
    shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        fork(dict(request), shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(ranks)
    ]


def main() -> None:
    torch.set_num_threads(1)
    train_small(
        Path(sys.argv[1]), epochs=1, train_scenes=24, val_scenes=8
    )  # everything is imported and warm after this
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            answer: Any = start(request["start"])
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
