"""Two processes that share every batch do what one does with the whole of it."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from risctl.errors import InputError
from risctl.model.checkpoint import read_checkpoint
from risctl.training.process_group import ProcessGroup, join_group, launched_rank
from tests.processes import ROOT, Server, wait_until
from tests.training.small import train_small

SCRIPT = """
import sys
from pathlib import Path
from risctl.training import launched_rank
from tests.training.small import train_small
train_small(Path("{directory}") / str(launched_rank()), epochs=1)
threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
sys.exit([name for name in threads if "gloo" in name] or 0)
"""
SETTINGS: dict[str, Any] = {"dropout": 0.0, "checkpoint_seconds": 1e6}


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _records(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "records.jsonl").read_text().splitlines()]


def _curve(directory: Path) -> list[float]:
    found = []
    for record in _records(directory):
        step = record["kind"] == "StepResult"
        for part in ("terms", "detection", "grad_norm") if step else ("val", "metrics"):
            found += record[part].values()
    return found


@pytest.mark.parametrize(
    "settings",
    [{}, {"accumulate": 2, "batch": 4}, {"curriculum": True, "repeat": False}, {"real": True, "lr": 1e-3}],
    ids=str,
)
def test_two_processes_have_the_curve_of_one(tmp_path: Path, trainers: Server, settings: Any) -> None:
    """Jitter included: it is drawn for the whole batch."""
    assert trainers.run(tmp_path / "one", **SETTINGS, **settings) == [0]
    shared = SETTINGS | settings | {"ranks": 2, "port": _free_port()}
    assert trainers.run(tmp_path / "two", **shared) == [0, 0]
    assert _curve(tmp_path / "two") == pytest.approx(_curve(tmp_path / "one"), rel=1e-5, abs=1e-6)
    assert len(_curve(tmp_path / "one")) > 50


def test_two_processes_resume_together(tmp_path: Path, trainers: Server) -> None:
    """With dropout, which each draws for itself; a signal to one of them stops both."""
    shared = {"ranks": 2, "checkpoint_seconds": 1e6}
    assert trainers.run(tmp_path / "reference", **shared, port=_free_port()) == [0, 0]
    pids = trainers.start(tmp_path / "run", **shared, port=_free_port(), phases=True)
    records = tmp_path / "run/records.jsonl"
    wait_until(lambda: records.exists() and _records(records.parent), pause=0.002)
    os.kill(pids[1], signal.SIGTERM)
    assert trainers.wait(pids) == [143, 143]
    state = read_checkpoint(tmp_path / "run/checkpoints/last.safetensors")
    assert 0 < state.state.step < 12
    assert len(state.tensors["generator/dropout"]) == 2
    assert trainers.run(tmp_path / "run", **shared, port=_free_port()) == [0, 0]
    assert _records(tmp_path / "run") == _records(tmp_path / "reference")


@pytest.mark.slow
def test_started_by_torchrun(tmp_path: Path) -> None:
    """The real launcher; its processes name different directories, and the first one's counts.

    None of the group's threads is left behind: at the end of the interpreter it could kill the process.
    """
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(directory=tmp_path))
    port = ["--master-addr", "127.0.0.1", "--master-port", str(_free_port())]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *port, str(script)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "0/checkpoints/best.safetensors").is_file()
    assert not (tmp_path / "1").exists()


def test_a_batch_that_does_not_divide_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joined = nullcontext(ProcessGroup(0, 3))
    monkeypatch.setattr("risctl.training.run.join_group", lambda _device: joined)
    monkeypatch.setattr(ProcessGroup, "broadcast_text", lambda _self, text: text)
    with pytest.raises(InputError, match="multiple of the 3 processes"):
        train_small(tmp_path)


def test_alone_there_is_nothing_to_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    with join_group(torch.device("cpu")) as group:
        assert (group.rank, group.size, group.is_main) == (0, 1, True)
        assert group.all_reduce_max(3) == 3
        assert group.shard(8) == slice(0, 8)
        assert group.broadcast_text("x") == "x"
        assert group.gather(torch.arange(3)).shape == (1, 3)
    assert launched_rank() == 0


def test_an_environment_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(InputError, match="WORLD_SIZE"), join_group(torch.device("cpu")):
        pass
