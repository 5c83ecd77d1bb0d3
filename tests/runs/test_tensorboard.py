"""TensorBoard scalars of a training's events; the package itself is optional."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from risctl.losses import TERMS
from risctl.runs.tensorboard import tensorboard_listener, write_scalars
from tests.runs.events import epoch, step, training


class Notebook:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.scalars: dict[tuple[str, int], float] = {}

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars[tag, step] = value


def test_steps_and_validations_become_scalars() -> None:
    notebook = Notebook()
    for event in training():
        write_scalars(notebook, event)
    assert notebook.scalars["step/total", 3] == 2.5
    assert notebook.scalars["rate/head", 12] == 4e-4
    assert notebook.scalars["gradient_norm/backbone", 1] == 1.5
    assert notebook.scalars["validation/total", 8] == 1.0
    assert notebook.scalars["figures/count_accuracy", 4] == 0.97
    assert {f"train/{name}" for name in TERMS} <= {tag for tag, _ in notebook.scalars}


def test_what_is_not_finite_is_left_out() -> None:
    notebook = Notebook()
    write_scalars(notebook, step(1, skipped=True, total=None))
    write_scalars(notebook, epoch(0, float("nan")))
    assert ("step/total", 1) not in notebook.scalars
    assert notebook.scalars["step/skipped", 1] == 1.0
    assert ("validation/total", 4) not in notebook.scalars


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_the_package_writes_a_file(tmp_path: Path) -> None:
    with tensorboard_listener(tmp_path) as listen:
        for event in training():
            listen(event)
    assert list((tmp_path / "tensorboard").glob("events.out.*"))
