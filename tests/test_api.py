"""The library as a user calls it: its names, their examples, README's lines, arrays in and positions out."""

import doctest
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import risctl
from risctl.data import read_measurements
from risctl.errors import CheckFailedError

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
HEAVY = ("torch", "numpy", "scipy", "optuna", "matplotlib")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", risctl.__all__)
def test_every_name_has_an_example_that_runs(name: str, here: Path) -> None:
    tests = [t for t in doctest.DocTestFinder(recurse=False).find(getattr(risctl, name), name) if t.examples]
    assert tests, f"{name}: no example in its docstring"
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0


LONG = {"search", "train_and_evaluate"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow if path.stem in LONG else ()) for path in EXAMPLES],
    ids=lambda path: path.stem,
)
def test_examples_run(path: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if path.stem == "search":  # its trials are processes, which import the script
        done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_the_readme_s_three_lines(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    scenes = risctl.simulate("quick", 2, seed=1)
    names = {"y": scenes.y.numpy(), "H": scenes.H.numpy(), "codes": scenes.codes.numpy()}
    lines = [line for line in blocks[0].splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) == 3
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert "azimuth deg" in capsys.readouterr().out


def test_importing_loads_nothing_heavy() -> None:
    code = (
        f"import sys, risctl, risctl.runs\n"
        f"sys.exit(', '.join(name for name in {HEAVY!r} if name in sys.modules) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_numpy_and_torch_give_the_same_positions() -> None:
    scenes = risctl.simulate("quick", 3, seed=2)
    from_torch = risctl.locate(scenes.y, scenes.H, scenes.codes)
    from_numpy = risctl.locate(scenes.y.numpy(), scenes.H.numpy(), scenes.codes.numpy())
    assert from_torch.estimator == "learned"
    np.testing.assert_array_equal(from_torch.azimuth, from_numpy.azimuth)
    for i, count in enumerate(from_numpy.num_sources):
        assert np.isfinite(from_numpy.positions[i, :count]).all()
        assert np.isnan(from_numpy.positions[i, count:]).all()


def test_a_tensor_may_be_conjugated_or_part_of_a_graph() -> None:
    scenes = risctl.simulate("quick", 2, seed=2)
    y, H, codes = scenes.y, scenes.H, scenes.codes
    plain = risctl.locate(y, H.conj().resolve_conj(), codes, num_sources=1)
    lazy = risctl.locate(y.clone().requires_grad_(), H.conj(), codes, num_sources=1)
    np.testing.assert_array_equal(plain.azimuth, lazy.azimuth)


def test_positions_are_those_of_angles_and_range() -> None:
    scenes = risctl.simulate("quick", 2, seed=3)
    located = risctl.locate(scenes.y, scenes.H, scenes.codes, num_sources=1)
    x, y, z = located.positions[:, 0].T
    np.testing.assert_allclose(np.sqrt(x**2 + y**2 + z**2), located.range[:, 0])
    np.testing.assert_allclose(np.arctan2(y, x), located.azimuth[:, 0])
    np.testing.assert_allclose(np.arcsin(z / located.range[:, 0]), located.elevation[:, 0])
    rows = located.rows()
    assert [row["scene"] for row in rows] == [0, 1]
    assert rows[0]["azimuth_deg"] == pytest.approx(np.degrees(located.azimuth[0, 0]))
    assert len(str(located).splitlines()) == 3 + len(located.doubts())


def test_one_scene_needs_no_scene_axis() -> None:
    scenes = risctl.simulate("quick", 1, seed=4)
    one = risctl.locate(scenes.y[0], scenes.H[0], scenes.codes[0], num_sources=1)
    np.testing.assert_array_equal(
        one.range, risctl.locate(scenes.y, scenes.H, scenes.codes, num_sources=1).range
    )


def test_another_surface_is_answered_by_nomp_which_is_said() -> None:
    config = risctl.load_config("quick", overrides=["physics.element_spacing=0.25"])
    scenes = risctl.simulate(config, 1)
    located = risctl.locate(scenes.y, scenes.H, scenes.codes, num_sources=1, config=config)
    assert located.estimator == "nomp"
    assert located.reason is not None
    assert "element_spacing" in located.reason
    with pytest.raises(risctl.InputError, match="element_spacing"):
        risctl.locate(scenes.y, scenes.H, scenes.codes, estimator="learned", config=config)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"y": np.ones((2, 4, 4))}, "y: expected complex"),
        ({"H": np.ones((4, 12), complex)}, "expected shape"),
        ({"codes": np.full((2, 4, 144), np.nan, complex)}, "codes: expected finite"),
        ({"num_sources": 9}, "num_sources: expected 1 to 5"),
        ({"num_sources": 2.5}, "num_sources: expected a whole number, 1 to 5, got 2.5"),
        ({"batch": 0}, "batch: expected 1 to"),
        ({"config": 3}, "config: expected a configuration, or the name of a preset, got 3"),
        ({"y": [[1j, 2j], [3j]]}, "y: expected an array, got rows of unequal length"),
        ({"y": torch.ones(2, 4, 4, dtype=torch.bfloat16)}, "y: expected an array, got .*BFloat16"),
        ({"estimator": "ceiling"}, "an oracle"),
        ({"estimator": "esprit"}, "estimator: expected one of"),
        ({"device": "tpu"}, "device: expected"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, object], match: str) -> None:
    arrays = {"y": torch.randn(2, 4, 4, dtype=torch.complex64), "H": np.ones((4, 144), complex)}
    arguments = {**arrays, "codes": np.ones((2, 4, 144), complex), **change}
    with pytest.raises(risctl.InputError, match=match):
        risctl.locate(**arguments)  # type: ignore[arg-type]


def test_measurements_stand_alone(here: Path) -> None:
    scenes = risctl.simulate("quick", 2, seed=1)
    np.savez("m.npz", y=scenes.y, H=scenes.H, codes=scenes.codes)
    data = read_measurements(Path("m.npz"))
    one = risctl.locate(data, num_sources=1)
    np.testing.assert_array_equal(
        one.azimuth, risctl.locate(scenes.y, scenes.H, scenes.codes, num_sources=1).azimuth
    )
    with pytest.raises(risctl.InputError, match="wavelength: expected nothing beside Measurements"):
        risctl.locate(data, wavelength=0.1)
    with pytest.raises(risctl.InputError, match="H: expected nothing beside Measurements"):
        risctl.calibrate_surface(data, scenes.H)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"anchors": {5: [[0.0, 0.0, 3.0]]}}, "anchors: expected scenes from 0 to 1, got 5"),
        ({"anchors": {0: [[0.0, 0.0]]}}, "anchors: 0: expected azimuth, elevation"),
        ({"anchors": {0: "here"}}, "anchors: 0: expected azimuth, elevation, range, got str"),
        ({"num_sources": 9}, "num_sources: expected 1 to 5, got 9"),
        ({"out": "no/such/folder.json"}, "out: expected a file in an existing directory"),
    ],
)
def test_a_calibration_refuses_before_it_works(change: dict[str, object], match: str, here: Path) -> None:
    scenes = risctl.simulate("quick", 2, seed=1)
    with pytest.raises(risctl.InputError, match=match):
        risctl.calibrate_surface(scenes.y, scenes.H, scenes.codes, **change)  # type: ignore[arg-type]


def test_an_alteration_that_nobody_notices_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    unaltered = {"nothing at all": lambda subject, side: subject}
    monkeypatch.setattr("risctl.evaluation.alignment.mutants.alterations", lambda subject, scenes: unaltered)
    with pytest.raises(CheckFailedError, match="2 alterations went unnoticed: nothing at all"):
        risctl.check_alignment(self_test=True)
    assert risctl.check_alignment().passed


def test_a_configuration_of_one_s_own_is_what_is_run(here: Path) -> None:
    words = ["evaluation.snr_values_db=[20]", "evaluation.bootstrap=0", "physics.num_snapshots=8"]
    config = risctl.load_config("quick", overrides=words)
    evaluated = risctl.evaluate(config, ["music"], scenes=5, plots=False)
    stored = risctl.load_config(None, evaluated.run / "config.json")
    assert stored.physics.num_snapshots == 8
    assert evaluated.evaluation.results.snr_values_db == (20.0,)
    assert "_config_" in evaluated.run.name
