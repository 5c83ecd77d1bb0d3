"""The examples on real measurements: on look-alikes of the same format and, if present, on the real files."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.io import savemat

from tests.oracle import Array, steering_matrix
from tests.physics.layouts import LAYOUTS

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT / "shared" / "real" if (ROOT / "shared").exists() else ROOT.parent / "shared" / "real"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real measurements lie not beside the checkout")
NFLOPNET = 299_792_458 / 1.24e9


def _run(name: str, data: Path, out: Path, *words: str, first: tuple[str, ...] = ()) -> list[list[str]]:
    """Run an example with the words `first` before its options; return the words of its lines."""
    script = str(ROOT / "examples" / "real" / name)
    command = [sys.executable, script, *first, "--data", str(data), "--out", str(out)]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert first or (out / f"{Path(name).stem}.png").stat().st_size > 5_000
    return [line.split() for line in done.stdout.splitlines()]


def _gaussian(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def _nflopnet_look_alike(folder: Path) -> None:
    rng = np.random.default_rng(2)
    layout = tuple((0.0, (i - 4) * NFLOPNET / 2, 0.0) for i in range(9))
    azimuth, r = (x.ravel() for x in np.meshgrid(np.radians([-30.0, -10.0, 15.0]), [0.5, 1.5, 2.5]))
    y = []
    for source in zip(azimuth, np.zeros(9), r, strict=True):
        a = steering_matrix(Array(layout=layout, wavelength=NFLOPNET), np.array([source]))[:, 0]
        y.append(_gaussian(rng, 4096, 1) * a + 0.03 * _gaussian(rng, 4096, 9))
    numbers = {"range_m": r, "azimuth_rad": azimuth, "file_number": np.arange(9)}
    np.savez(folder / "nflopnet_positions.npz", y=np.array(y, np.complex64), **numbers)


def _sfwcmf_look_alike(folder: Path) -> None:
    rng, wavenumber = np.random.default_rng(3), 33.2
    layout = LAYOUTS["spiral"]
    places = np.array([[4.6, -1.6, -0.5], [4.6, -0.8, -0.5], [4.5, 0.15, -0.5], [4.65, -0.7, -1.2]])
    r = np.linalg.norm(places, axis=1)
    sources = np.stack([np.arctan2(places[:, 1], places[:, 0]), np.arcsin(places[:, 2] / r), r], axis=1)
    A = steering_matrix(Array(layout=layout, wavelength=2 * np.pi / wavenumber, taper=True), sources)
    x = _gaussian(rng, 196, 4) @ A.T
    x = x + 0.1 * np.sqrt(np.mean(np.abs(x) ** 2)) * _gaussian(rng, *x.shape)
    sensors = np.array(layout)[:, [1, 2, 0]]
    savemat(folder / "data_sfw.mat", {"data": x.T, "Pmic": sensors, "k": wavenumber})
    savemat(folder / "Xgt.mat", {"Xgt": places[:, [1, 2, 0]]})


def _openris_look_alike(folder: Path) -> None:
    """Files of one fixed horn: an ideal tile, a path past it, noise 30 dB below."""
    rng, wavelength = np.random.default_rng(4), 299_792_458 / 3.58e9
    place = (np.arange(16) - 7.5) * 0.03
    layout = tuple((0.0, y, z) for z in place for y in place)

    def steer(angle: float) -> np.ndarray:
        source = np.array([[np.radians(90.0 - angle), 0.0, 8.3]])
        return steering_matrix(Array(layout=layout, wavelength=wavelength), source)[:, 0]

    codes = 1j * _openris().codes_of_rule(135).reshape(11, -1)
    past = 3.0 * _gaussian(rng)
    for angle in range(0, 181, 6):
        y = 40.0 * codes * steer(135.0) @ steer(float(angle)) + past
        y = y + 0.03 * np.std(y) * _gaussian(rng, 11)
        path = folder / "measurements" / "ff_singletile" / "tx_135_VV" / f"rx_{angle}"
        path.mkdir(parents=True)
        for k, value in enumerate(y, start=1):
            numbers = f"{20 * np.log10(np.abs(value)):.6f},{np.degrees(np.angle(value)):.5f}"
            lines = ["!CSV A.01.01", "", "BEGIN CH1_DATA", "Freq(Hz),S34(DB),S34(DEG),S43(DB),S43(DEG)"]
            lines += [f"3575000000,0,0,{numbers}", f"3580000000,{numbers},{numbers}", "END"]
            (path / f"{k}.csv").write_text("\n".join(lines) + "\n")


def _openris() -> ModuleType:
    spec = importlib.util.spec_from_file_location("openris", ROOT / "examples" / "real" / "openris.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _openris_figures(lines: list[list[str]]) -> tuple[float, float, float, float]:
    """Median error and share within 6 degrees, p of the fit of all, recall of two sources."""
    one = next(line for line in lines if line[1:3] == ["positions:", "median"])
    fit = next(line for line in lines if line[:1] == ["goodness"])
    two = next(line for line in lines if line[1:3] == ["sums", "of"])
    return float(one[4]), float(one[6].rstrip("%")), float(fit[-1]), float(two[11])


@pytest.mark.slow
def test_openris_look_alike_is_located_and_explained(tmp_path: Path) -> None:
    _openris_look_alike(tmp_path)
    median, within, p, recall = _openris_figures(
        _run("openris.py", tmp_path, tmp_path / "out", "--pairs", "40")
    )
    assert median < 0.3
    assert within == 100
    assert recall > 0.95
    assert p >= 0.01


@needs_real
def test_the_rule_of_openris_makes_its_codes() -> None:
    published = np.load(REAL / "OpenRIS" / "codes.npz")
    for transmit in (90, 105, 120, 135):
        assert (_openris().codes_of_rule(transmit) == published[f"tx_{transmit}"]).all()


@pytest.mark.slow
@needs_real
def test_openris_itself(tmp_path: Path) -> None:
    lines = _run("openris.py", REAL / "OpenRIS", tmp_path / "out", "--pairs", "200")
    median, within, p, recall = _openris_figures(lines)
    assert p < 1e-6
    assert median <= 2.0
    assert within >= 95
    assert recall >= 0.75


@pytest.mark.slow
def test_nflopnet_look_alike_is_located_and_explained(tmp_path: Path) -> None:
    _nflopnet_look_alike(tmp_path)
    lines = _run("nflopnet.py", tmp_path, tmp_path / "out")
    azimuth, range_ = map(float, next(line for line in lines if line[:1] == ["all"])[2:])
    assert azimuth < 0.2
    assert range_ < 0.05
    assert float(next(line for line in lines if line[:1] == ["goodness"])[-1]) >= 0.01


@pytest.mark.slow
def test_sfwcmf_look_alike_is_located_and_explained(tmp_path: Path) -> None:
    _sfwcmf_look_alike(tmp_path)
    lines = _run("sfwcmf.py", tmp_path, tmp_path / "out", "--draws", "3")
    array = next(line for line in lines if line[:1] == ["array"])
    surface = next(line for line in lines if line[:2] == ["through", "surface"])
    assert float(array[1]) < 0.03
    assert float(surface[6]) == 1.0
    assert float(array[-1]) >= 0.01
    assert float(surface[-1]) >= 0.01


@pytest.mark.slow
@needs_real
def test_nflopnet_itself(tmp_path: Path) -> None:
    lines = _run("nflopnet.py", REAL, tmp_path / "out")
    azimuth, range_ = map(float, next(line for line in lines if line[:1] == ["all"])[2:])
    assert azimuth <= 3.5
    assert range_ <= 0.70
    assert float(next(line for line in lines if line[:1] == ["goodness"])[-1]) < 1e-6


@pytest.mark.slow
@needs_real
@pytest.mark.slow
def test_sfwcmf_itself(tmp_path: Path) -> None:
    lines = _run("sfwcmf.py", REAL / "SFWCMF", tmp_path / "out")
    array = next(line for line in lines if line[:1] == ["array"])
    surface = next(line for line in lines if line[:2] == ["through", "surface"])
    assert float(array[1]) <= 0.05
    assert float(array[2]) <= 0.026
    assert max(float(array[-1]), float(surface[-1])) < 1e-6
    assert float(surface[6]) >= 0.97
    assert float(surface[4]) <= 0.033
    assert float(surface[5]) <= 0.105
