"""A process that trains on request, so that tests can kill trainings without paying for each start.

`{"start": {"directory": ..., "ranks": n, settings...}}` forks n trainers that share every batch and answers
with the list of their ids. A trainer keeps the records of its run in `records.jsonl`, resumes what is
there, and says in `phase` what it is doing if asked to (`"phases": true`).
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

import risctl.training.run as run_module
from risctl.training import EpochResult, Event, Started, StepResult, StopFlag, run_training
from risctl.training.validation import Validator
from tests.processes import fork, serve, stop_on_signals
from tests.training.small import CLOCKS, SmallNetwork, real_network, small_plan, train_small, weighted_terms

KINDS = {kind.__name__: kind for kind in (StepResult, EpochResult)}


def record(path: Path, event: Event) -> None:
    """Keep a log file, which drops on a new start what will be made again."""
    if isinstance(event, Started):
        lines = path.read_text().splitlines() if path.exists() else []
        path.write_text("".join(f"{line}\n" for line in lines if event.keeps(_parse(line))))
    elif isinstance(event, StepResult | EpochResult):
        values = {k: v for k, v in asdict(event).items() if k not in CLOCKS}
        with path.open("a") as stream:
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


def train(request: dict[str, Any], environment: Mapping[str, str] = MappingProxyType({})) -> int:
    os.environ.update(environment)
    directory, stop = Path(request.pop("directory")), StopFlag()
    stop_on_signals(stop.request)
    directory.mkdir(exist_ok=True)
    if request.pop("phases", False):
        announce_phases(directory)
    if "dropout" in request:
        request["network"] = SmallNetwork(dropout=request.pop("dropout"))
    if request.pop("real", False):
        request |= {"network": real_network(dropout=0.0), "objective": weighted_terms()}
    records = partial(record, directory / "records.jsonl")
    outcome = run_training(small_plan(**request), directory, [records], stop, resume=True)
    told = {"steps": outcome.steps, "finished": outcome.finished}
    (directory / "outcome.json").write_text(json.dumps(told))
    return 0 if outcome.stopped_by is None else 128 + outcome.stopped_by


def start(request: dict[str, Any]) -> list[int]:
    ranks, port = request.pop("ranks", 1), request.pop("port", 0)
    if ranks == 1:
        return [fork(partial(train, request))]
    shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    own = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
    return [fork(partial(train, dict(request), environment)) for environment in own]


if __name__ == "__main__":
    torch.set_num_threads(1)
    train_small(Path(sys.argv[1]), epochs=1, train_scenes=24, val_scenes=8)  # everything is warm after this
    serve(lambda request: start(request["start"]))
