"""Trainings on several processes of this machine: the same curve, resumed with as many, and gone together."""

import os
import signal
import subprocess
import sys
from multiprocessing import active_children
from pathlib import Path

import pytest

from risctl import runs
from risctl.config.layers import Layers, Machine
from risctl.errors import InputError
from risctl.parallel import WorkerDiedError
from risctl.runs.records import METRICS
from risctl.runs.training import default_processes
from tests.processes import ROOT, wait_until
from tests.runs.tiny import (
    TINY,
    WITHOUT_SCENES,
    after_step,
    status_of,
    tiny,
    train,
    train_until,
    write_datasets,
)

pytestmark = pytest.mark.slow  # each starts several trainings

TWO = Machine("cpu", workers=2)


def _processes(run: Path) -> int:
    record = runs.read_document(run / "provenance.json")
    return int((record.get("resumed") or [record])[-1]["processes"])


def _totals(trained: runs.Trained) -> list[float]:
    return [entry["val"]["total"] for entry in trained.epochs]


@pytest.mark.parametrize("stored", [False, True])
def test_two_processes_have_the_curve_of_one(stored: bool) -> None:
    data = Path("d") if stored else None
    if stored:
        write_datasets(Path("d"))
    words = (*(WITHOUT_SCENES if stored else TINY), "model.dropout=0.0")  # each process draws its own
    one, two = (train(Layers(overrides=words), data=data, machine=Machine("cpu", workers=n)) for n in (1, 2))
    assert _totals(two) == pytest.approx(_totals(one), rel=1e-5)
    assert (_processes(one.run), _processes(two.run)) == (1, 2)
    assert not active_children()


def test_a_run_goes_on_with_as_many_and_ends_the_same() -> None:
    whole = train(tiny(), machine=TWO)
    part = train_until(3, tiny(), machine=TWO)
    assert part.outcome.steps == 3
    ended = train(Layers(), resume=part.run)
    assert _processes(part.run) == 2
    assert _totals(ended) == _totals(whole)


def test_a_process_that_dies_ends_the_training() -> None:
    def kill() -> None:
        (child,) = active_children()
        os.kill(child.pid or 0, signal.SIGKILL)

    with pytest.raises(WorkerDiedError):
        train(tiny(), after_step(2, kill), machine=TWO)
    assert not active_children()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_closed_terminal_and_ctrl_c_save(number: int, status: int) -> None:
    """A terminal sends its signal to every process: the first answers for all."""
    words = [*TINY, "data.train_scenes=100000", "--workers", "2", "--name", "long"]
    process = subprocess.Popen(
        [sys.executable, "-m", "risctl", "train", *words],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    run = Path("runs/train/long")
    wait_until(lambda: (run / METRICS).is_file() and (run / METRICS).read_text().count('"step"') > 5)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert "stopped and saved after step" in said
    assert status_of(run)["state"] == "interrupted"


def test_all_cores_for_a_long_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("risctl.runs.training.cores", lambda: 6)
    long = tiny("data.train_scenes=50000", "training.batch=32")

    def chosen(layers: Layers, **how: object) -> int:
        return runs.prepare_training(layers, **how).processes

    assert chosen(long, all_cores=True) == 4  # of 6, 32 scenes divide into four parts
    assert chosen(long) == 1
    assert chosen(tiny(), all_cores=True) == 1
    assert chosen(long, all_cores=True, machine=Machine(workers=2)) == 2
    assert default_processes(long.resolve(), threads=3) == 2
    with pytest.raises(InputError, match="workers: expected a divisor of the batch, 32, got 5"):
        chosen(long, machine=Machine(workers=5))
