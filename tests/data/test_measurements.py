import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch

from risctl.data import read_measurements, write_measurements
from risctl.errors import DamagedFileError, InputError, StorageError
from tests.data.small import good_arrays

SUFFIXES = (".npz", ".safetensors", ".mat")


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".MAT"])
@pytest.mark.parametrize("shared", [True, False])
def test_what_is_written_is_read(tmp_path: Path, suffix: str, shared: bool) -> None:
    arrays = good_arrays()
    if not shared:
        arrays["H"] = np.stack([arrays["H"], 2 * arrays["H"]])
        arrays["codes"] = arrays["codes"] * 0.9
    path = tmp_path / f"file{suffix}"
    write_measurements(path, **{key: torch.from_numpy(value) for key, value in arrays.items()})
    found = read_measurements(path)
    assert len(found) == 2
    for key, value in arrays.items():
        tensor = getattr(found, key)
        assert tensor.dtype == torch.complex64
        np.testing.assert_array_equal(tensor.numpy(), np.broadcast_to(value, tensor.shape))
    assert found.H.shape == (2, 6, 144)


def test_codes_given_once_serve_all_scenes(tmp_path: Path) -> None:
    arrays = good_arrays()
    arrays["codes"] = arrays["codes"][0]
    write_measurements(tmp_path / "f.npz", **arrays)
    found = read_measurements(tmp_path / "f.npz").codes
    assert found.shape == (2, 4, 144)
    np.testing.assert_array_equal(found[1].numpy(), arrays["codes"])


def test_what_comes_back_is_writable_and_its_own(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        write_measurements(tmp_path / f"f{suffix}", **good_arrays())
        read_measurements(tmp_path / f"f{suffix}").y.zero_()
        assert read_measurements(tmp_path / f"f{suffix}").y.abs().min() > 0


def test_lazy_conjugates_are_written_as_what_they_are(tmp_path: Path) -> None:
    arrays = {key: torch.from_numpy(value) for key, value in good_arrays().items()}
    write_measurements(tmp_path / "f.npz", arrays["y"].conj(), arrays["H"], arrays["codes"])
    assert torch.equal(read_measurements(tmp_path / "f.npz").y, arrays["y"].conj().resolve_conj())


@pytest.mark.parametrize("dtype", ["<c16", ">c8", ">c16", "c8"])
def test_other_widths_and_byte_orders_and_column_order(tmp_path: Path, dtype: str) -> None:
    arrays = {key: np.asfortranarray(value.astype(dtype)) for key, value in good_arrays().items()}
    np.savez_compressed(tmp_path / "f.npz", note=np.array("kept"), **arrays)
    np.testing.assert_array_equal(read_measurements(tmp_path / "f.npz").y.numpy(), good_arrays()["y"])


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_matlab_files_as_scipy_writes_them(tmp_path: Path, compressed: bool, dtype: Any) -> None:
    arrays = {key: value.astype(dtype) for key, value in good_arrays().items()}
    extra = {"note": "text", "table": np.array([1, "a"], object), "x": 3.0}
    scipy.io.savemat(tmp_path / "f.mat", extra | arrays, do_compression=compressed)
    found = read_measurements(tmp_path / "f.mat")
    np.testing.assert_array_equal(found.y.numpy(), good_arrays()["y"])
    np.testing.assert_array_equal(found.codes.numpy(), good_arrays()["codes"])


def _element(order: str, kind: int, content: bytes) -> bytes:
    head = np.array([kind, len(content)], f"{order}u4").tobytes()
    return head + content + bytes(-len(content) % 8)


@pytest.mark.parametrize("order", ["<", ">"])
def test_matlab_stores_whole_numbers_small_and_short_names_packed(tmp_path: Path, order: str) -> None:
    """Doubles that are small integers are stored as bytes, names of up to four letters inside the tag."""
    content = b"MATLAB 5.0".ljust(124) + np.array([0x0100, 0x4D49], f"{order}u2").tobytes()
    shapes = {"y": (1, 2, 3), "H": (3, 4), "codes": (2, 4)}
    numbers = np.arange(1, 13, dtype=np.uint8)
    for key, shape in shapes.items():
        count = int(np.prod(shape))
        name = _element(order, 1, key.encode())
        if len(key) <= 4:
            name = np.array([len(key) << 16 | 1], f"{order}u4").tobytes() + key.encode().ljust(4, b"\0")
        body = _element(order, 6, np.array([0x0806, 0], f"{order}u4").tobytes())
        body += _element(order, 5, np.array(shape, f"{order}i4").tobytes()) + name
        body += _element(order, 2, numbers[:count].tobytes())
        body += _element(order, 3, (-numbers[:count].astype("i2")).astype(f"{order}i2").tobytes())
        content += _element(order, 14, body)
    (tmp_path / "f.mat").write_bytes(content)
    found = read_measurements(tmp_path / "f.mat", num_elements=4)
    expected = (np.arange(1, 7) * (1 - 1j)).reshape((1, 2, 3), order="F")
    np.testing.assert_array_equal(found.y.numpy(), expected)
    np.testing.assert_array_equal(scipy.io.loadmat(tmp_path / "f.mat")["y"], expected)


def _mutant(content: bytes, rng: random.Random) -> bytes:
    """Cut, flip bits, overwrite, delete or insert."""
    raw = bytearray(content)
    at = rng.randrange(len(raw))
    match rng.randrange(5):
        case 0:
            return bytes(raw[:at])
        case 1:
            raw[at] ^= 1 << rng.randrange(8)
        case 2:
            raw[at] = rng.choice([0, 1, 127, 128, 255])
        case 3:
            del raw[at : at + rng.choice([1, 4, 8, 100])]
        case _:
            raw[at:at] = rng.randbytes(rng.choice([1, 4, 8, 100]))
    return bytes(raw)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_mutants_are_read_or_refused_in_one_line(tmp_path: Path, suffix: str, packed: bool) -> None:
    path, rng = tmp_path / f"f{suffix}", random.Random(11)
    arrays = good_arrays()
    arrays = {"y": arrays["y"], "H": arrays["H"][:, :6].copy(), "codes": arrays["codes"][..., :6].copy()}
    write_measurements(path, **arrays)
    if packed and suffix == ".npz":
        np.savez_compressed(path, **arrays)
    elif packed and suffix == ".mat":
        scipy.io.savemat(path, arrays, do_compression=True)
    content, refusals = path.read_bytes(), []
    for _ in range(300):
        path.write_bytes(_mutant(content, rng))
        try:
            read_measurements(path, num_elements=6)
        except (InputError, DamagedFileError) as error:
            refusals.append(str(error))
    assert len(refusals) > 100
    assert not any("\n" in message for message in refusals)


def test_an_unwritable_place_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory"):
        write_measurements(tmp_path / "none" / "f.npz", **good_arrays())
