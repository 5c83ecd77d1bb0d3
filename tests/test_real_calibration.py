"""Calibration of the real measurements: on look-alikes with gains of their own, and on the files if there."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from tests.test_real_examples import REAL, _nflopnet_look_alike, _run, _sfwcmf_look_alike, needs_real


def gains(number: int) -> np.ndarray:
    """Gains with phase errors of 0.4 rad and 1 dB of jitter."""
    rng = np.random.default_rng(8)
    result: np.ndarray = 10 ** (rng.standard_normal(number) / 20) * np.exp(0.4j * rng.standard_normal(number))
    return result


def medians(lines: list[list[str]]) -> dict[str, list[float]]:
    """The first figure of every column by the words that a line starts with."""
    rows = {}
    for line in lines[1:]:
        words = [word for word in line if not word[0].isdigit() and word != "+-"]
        numbers = [float(word) for word in line if word[0].isdigit()]
        rows[" ".join(words)] = numbers[::3]
    return rows


@pytest.mark.slow
def test_a_line_of_radios_is_calibrated(tmp_path: Path) -> None:
    _nflopnet_look_alike(tmp_path)
    file = tmp_path / "nflopnet_positions.npz"
    published = dict(np.load(file))
    np.savez(file, **(published | {"y": (published["y"] * gains(9)).astype(np.complex64)}))
    asked = ("--splits", "2", "--known", "6")
    found = medians(_run("calibrate.py", tmp_path, tmp_path / "out", *asked, first=("nflopnet",)))
    assert found["known"][0] < 0.3 * found["nominal"][0]
    assert found["known"][1] < 0.5 * found["nominal"][1]


@pytest.mark.slow
def test_an_array_of_microphones_is_calibrated(tmp_path: Path) -> None:
    _sfwcmf_look_alike(tmp_path)
    file = tmp_path / "data_sfw.mat"
    published = loadmat(file)
    data = published["data"] * gains(len(published["data"]))[:, None]
    savemat(file, {"data": data, "Pmic": published["Pmic"], "k": published["k"]})
    found = medians(_run("calibrate.py", tmp_path, tmp_path / "out", "--draws", "3", first=("sfwcmf",)))
    for front in ("array", "surface"):
        assert found[f"{front}, known"][0] < 0.6 * found[f"{front}, nominal"][0]


@needs_real
@pytest.mark.slow
def test_openris_itself(tmp_path: Path) -> None:
    lines = _run("calibrate.py", REAL / "OpenRIS", tmp_path / "out", "--splits", "2", first=("openris",))
    found = medians(lines)
    assert found["known"][0] < 0.5 < found["nominal"][0]
