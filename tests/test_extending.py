"""How many source files a typical addition touches: each case edits a copy of the package and uses it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.runs.tiny import TINY

TINY_EPOCH = (*TINY, "training.epochs=1")
PACKAGE = Path(__file__).resolve().parents[1] / "risctl"


class Case(NamedTuple):
    """An addition: new files by name, edits as (file, text, what follows it), a script that uses it."""

    limit: int
    files: dict[str, str]
    edits: list[tuple[str, str, str]]
    script: str


CASES: dict[str, Case] = {}
CASES["an estimator"] = Case(
    2,
    {
        "inference/boresight.py": '''
"""One source straight ahead."""
from risctl.inference.estimates import Estimates

class Boresight:
    name = "boresight"

    @classmethod
    def from_config(cls, physics, covariance, inference, device):
        return cls()

    def __call__(self, y, H, codes, num_sources=None):
        found = Estimates.empty(len(y), 5)
        found.num_sources[:] = 1
        found.azimuth[:, 0], found.elevation[:, 0], found.range[:, 0], found.power[:, 0] = 0.0, 0.0, 5.0, 1.0
        found.noise_var[:] = 1.0
        return found
'''
    },
    [
        (
            "registry.py",
            "ESTIMATORS: dict[str, EstimatorEntry] = {\n",
            '"boresight": EstimatorEntry("classical", "risctl.inference.boresight:Boresight", "ahead"),\n',
        )
    ],
    """
import risctl
from risctl.cli.app import main
scenes = risctl.simulate("quick", 2)
assert risctl.locate(scenes.y, scenes.H, scenes.codes, estimator="boresight").range[0, 0] == 5.0
results = risctl.evaluate("quick", ["boresight"], scenes=4, plots=False).evaluation.results
assert results.estimators == ("boresight",)
assert main(["locate", "--help"]) == 0
""",
)
CASES["a training figure"] = Case(
    1,
    {},
    [
        (
            "training/metrics.py",
            "FIGURES = (\n",
            'Figure("norm_blend", "norm of R_blend", "norm", ".2f"),\n',
        )
    ],
    """
import risctl
from risctl import runs
from risctl.cli.screens.training import TrainingState
state = TrainingState(verbose=True)
trained = risctl.train(risctl.load_config("quick", overrides=WORDS), listeners=[state.update])
assert "norm of R_blend" in state.epoch_line()
assert "norm of R_blend" in "".join(runs.figure_sentences(trained.best_metrics))
from risctl.hpo.files import trials_csv
assert "norm_blend" in trials_csv([], [])
from io import StringIO
from rich.console import Console
Console(file=(shown := StringIO()), width=120).print(state.render())
assert "norm of R_blend" in shown.getvalue()
""",
)
CASES["an impairment"] = Case(
    2,
    {},
    [
        (
            "config/physics.py",
            "class ImpairmentConfig(Section):\n",
            '    """More."""\n    common_phase: float = 0.0\n    """Phase of all elements, rad."""\n',
        ),
        (
            "physics/impairments.py",
            "    if imp.dead_elements:\n",
            "        pass\n    if imp.common_phase:\n"
            "        gain = gain * torch.exp(torch.tensor(1j * imp.common_phase))\n"
            "    if imp.dead_elements:\n",
        ),
        ("physics/impairments.py", "ideal = not (", "imp.common_phase or "),
    ],
    """
import risctl
model = risctl.load_model()  # what was written before the field was added stays readable
same = risctl.simulate(risctl.load_config("quick"), 2)
turned = risctl.simulate(risctl.load_config("quick", overrides=["physics.impairments.common_phase=0.5"]), 2)
assert bool((same.H == turned.H).all()) and not bool((same.y == turned.y).all())
""",
)
CASES["a loss term"] = Case(
    3,
    {
        "losses/spread.py": '''
"""Spread of the predicted powers."""

def power_spread(power):
    return power.var(dim=-1)
'''
    },
    [
        (
            "config/network.py",
            "class LossConfig(Section):\n",
            '    """More."""\n    spread: float = 0.01\n    """Weight of the spread of powers."""\n',
        ),
        ("losses/total.py", "TERMS = (\n", '    "spread",\n'),
        (
            "losses/total.py",
            "    ortho, cross = slot_coherence(prediction.A_angle, prediction.A_range)\n    return {\n",
            '        "spread": power_spread(prediction.power),\n',
        ),
        (
            "losses/total.py",
            "from risctl.losses.projector import energy_inside\n",
            "from risctl.losses.spread import power_spread\n",
        ),
    ],
    """
import risctl
trained = risctl.train(risctl.load_config("quick", overrides=WORDS))
assert "spread" in trained.epochs[0]["val"], trained.epochs[0]["val"]
""",
)
CASES["a measurement format"] = Case(
    1,
    {},
    (("data/formats.py", "FORMATS = {\n", '    ".zip": Format(_read_npz, _npz_bytes),\n'),),
    """
import risctl
scenes = risctl.simulate("quick", 2)
risctl.write_measurements("m.zip", scenes.y, scenes.H, scenes.codes)
assert len(risctl.read_measurements("m.zip")) == 2
""",
)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_addition_touches_few_files(case: Case, tmp_path: Path) -> None:
    assert len({*case.files, *(file for file, _, _ in case.edits)}) <= case.limit
    copy = shutil.copytree(PACKAGE, tmp_path / "risctl", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("presets", "runs/reference"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(PACKAGE.parent / name)
    for name, text in case.files.items():
        (copy / name).write_text(text)
    for name, before, text in case.edits:
        source = (copy / name).read_text()
        assert source.count(before) == 1, f"{name}: {before!r}"
        (copy / name).write_text(source.replace(before, before + text))
    (tmp_path / "work").mkdir()
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    how = {"cwd": tmp_path / "work", "env": environment, "capture_output": True, "text": True, "check": False}
    done = subprocess.run([sys.executable, "-c", f"WORDS = {TINY_EPOCH}\n{case.script}"], **how)
    assert done.returncode == 0, done.stderr
