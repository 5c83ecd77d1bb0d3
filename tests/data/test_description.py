"""What a measurement file says about itself: every key in every format, and one line for what is wrong."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from risctl.data import read_measurements, write_measurements
from risctl.data.measurements import read_description
from risctl.errors import InputError
from tests.data.small import good_arrays

SUFFIXES = (".npz", ".safetensors", ".mat")
PANEL: dict[str, Any] = {
    "wavelength": 0.0837,
    "ris_rows": 12,
    "ris_columns": 12,
    "element_spacing": 0.36,
    "symbols": "constant",
    "static_path": True,
    "known_elevation_deg": -3.5,
    "known_range_m": math.inf,
}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_said_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"f{suffix}"
    write_measurements(path, **good_arrays(), **PANEL)
    found = read_measurements(path, num_elements=7)  # the file's rows and columns are stronger
    assert found.description.values() == PANEL
    description, front_end = read_description(path)
    assert description == found.description
    assert front_end == {"H", "codes"}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_positions_are_read(tmp_path: Path, suffix: str) -> None:
    elements = np.random.default_rng(1).normal(size=(144, 3))
    write_measurements(tmp_path / f"f{suffix}", **good_arrays(), elements=elements)
    found = read_measurements(tmp_path / f"f{suffix}", num_elements=None)
    np.testing.assert_array_equal(found.description.elements, elements)
    assert found.description.num_elements == 144


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("axes", ["SLMN", "LMN", "MN"])
def test_matrices_are_a_front_end(tmp_path: Path, suffix: str, axes: str) -> None:
    arrays = good_arrays()
    Phi = arrays["H"] * arrays["codes"][:, :, None]
    Phi = {"SLMN": Phi, "LMN": Phi[0], "MN": Phi[0, 0]}[axes]
    write_measurements(tmp_path / f"f{suffix}", arrays["y"], Phi=Phi)
    found = read_measurements(tmp_path / f"f{suffix}")
    assert found.H is None
    assert found.codes is None
    assert found.Phi is not None
    assert found.Phi.shape == (2, 1 if axes == "MN" else 4, 6, 144)
    np.testing.assert_array_equal(found.Phi.numpy(), np.broadcast_to(Phi, found.Phi.shape))


def test_snapshots_alone_are_those_of_an_ordinary_array(tmp_path: Path) -> None:
    write_measurements(tmp_path / "f.npz", good_arrays()["y"])
    found = read_measurements(tmp_path / "f.npz", num_elements=6)
    assert found.Phi is not None
    np.testing.assert_array_equal(found.Phi.numpy(), np.broadcast_to(np.eye(6), (2, 1, 6, 6)))
    with pytest.raises(InputError, match="M = N, got only y, M=6, N=144"):
        read_measurements(tmp_path / "f.npz")


@pytest.mark.parametrize("given", ["H", "Phi"])
def test_one_antenna_without_the_last_axis_that_matlab_drops(tmp_path: Path, given: str) -> None:
    arrays = good_arrays()
    y, H, codes = arrays["y"][..., 0], arrays["H"][:1], arrays["codes"]
    seen = {"H": H, "codes": codes} if given == "H" else {"Phi": H * codes[:, :, None]}
    scipy.io.savemat(tmp_path / "f.mat", {"y": y} | seen)
    np.testing.assert_array_equal(read_measurements(tmp_path / "f.mat").y.numpy(), y[..., None])
    scipy.io.savemat(tmp_path / "f.mat", arrays | {"y": y})
    with pytest.raises(InputError, match=r"y: expected shape \[S, L, M\], no axis empty, got shape"):
        read_measurements(tmp_path / "f.mat")


def test_a_char_array_as_matlab_writes_it(tmp_path: Path) -> None:
    for packed in (False, True):
        scipy.io.savemat(tmp_path / "f.mat", good_arrays() | {"symbols": "constant"}, do_compression=packed)
        assert read_measurements(tmp_path / "f.mat").description.symbols == "constant"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"wavelength": 0.0}, "wavelength: expected one number"),
    ({"wavelength": np.array([0.1, 0.2])}, "wavelength: expected one number"),
    ({"wavelength": 1j}, "wavelength: expected one number"),
    ({"wavelength": math.nan}, "got nan"),
    ({"ris_rows": 2.5}, "ris_rows: expected one whole number"),
    ({"ris_rows": 65}, "ris_rows"),
    ({"known_range_m": -1.0}, "known_range_m"),
    ({"known_elevation_deg": 90.0}, "known_elevation_deg"),
    ({"static_path": 2}, "static_path"),
    ({"symbols": "coherent"}, "symbols: expected one of gaussian, constant, got 'coherent'"),
    ({"symbols": 3}, "symbols"),
    ({"elements": np.zeros((144, 2))}, r"elements: expected real numbers \[N,3\]"),
    ({"elements": np.full((144, 3), np.nan)}, "elements: expected finite metres"),
    ({"elements": np.zeros((144, 3), complex)}, "elements"),
    ({"elements": np.zeros((144, 3)), "ris_rows": 12}, "no panel beside elements"),
    ({"elements": np.zeros((100, 3))}, "H: expected shape .*N=100"),
    ({"Phi": np.ones((6, 144), complex)}, "expected H and codes, or Phi, got both"),
]


@pytest.mark.parametrize(("extra", "message"), WRONG, ids=lambda case: str(case)[:40])
def test_what_is_wrong_is_refused_in_one_line(tmp_path: Path, extra: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "f.npz", **good_arrays(), **extra)
    with pytest.raises(InputError, match=message) as caught:
        read_measurements(tmp_path / "f.npz")
    assert "\n" not in str(caught.value)
    assert "f.npz" in str(caught.value)


def test_a_long_text_is_no_text(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", **good_arrays(), symbols=np.array("x" * 10_000))
    with pytest.raises(InputError, match="symbols"):
        read_measurements(tmp_path / "f.npz")
