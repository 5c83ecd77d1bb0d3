"""A process that searches on request, so that tests can kill searches without paying for each start.

`{"start": {"directory": ..., settings...}}` forks a search; `{"server": null}` answers with the id of the
process whose children all the workers are. A search resumes what is there, and writes what it reports into
`events.jsonl`.
"""

import json
import os
from dataclasses import asdict
from functools import partial
from multiprocessing import forkserver, get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import risctl.hpo.run  # noqa: F401  (imported before anything is forked)
from risctl.hpo import SearchEvent, run_search
from risctl.hpo.pool import PRELOADED
from risctl.training import StopFlag
from tests.hpo.clerk import Clerk
from tests.hpo.small import small_config, small_plan
from tests.processes import fork, serve, stop_on_signals


def search(request: dict[str, Any]) -> int:
    if request.pop("group", False):
        os.setsid()
        forkserver._forkserver.__init__()  # starts another server, in this group
    else:  # saves that, but the server of the workers is not this process's child then
        forkserver._forkserver.ensure_running = lambda: None
    directory, stop = Path(request.pop("directory")), StopFlag()
    stop_on_signals(stop.request)
    directory.mkdir(parents=True, exist_ok=True)
    plan = small_plan(config=small_config(**request.pop("search", {})), **request)

    def log(event: SearchEvent) -> None:
        with (directory / "events.jsonl").open("a") as stream:
            stream.write(json.dumps({"kind": type(event).__name__, **asdict(event)}) + "\n")

    outcome = run_search(plan, directory, [log], stop, resume=True)
    return 0 if outcome.stopped_by is None else 128 + outcome.stopped_by


def answer(request: dict[str, Any]) -> Any:
    if "start" in request:
        return fork(partial(search, request["start"]))
    return forkserver._forkserver._forkserver_pid


if __name__ == "__main__":
    torch.set_num_threads(1)
    context = get_context("forkserver")
    # Every worker imports this module again: what it imports must be there already.
    context.set_forkserver_preload([*PRELOADED, "risctl.hpo.run", "tests.hpo.clerk"])
    forkserver.ensure_running()
    with TemporaryDirectory() as directory:  # everything is imported and warm after this
        clerk = Clerk(small_plan(), Path(directory))
        clerk.claim()
        clerk.study.report(0, 2, 1.0, {}, 1.0)
        clerk.finish(0, 1.0)
        clerk.claim()
        clerk.storage.close()
    serve(answer)
