"""Malformed measurement files and datasets: how each must be refused, and what the message must say."""

import io
import json
import os
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from safetensors.numpy import save_file

from risctl.data import open_dataset, read_measurements, write_measurements
from risctl.errors import DamagedFileError, InputError, RisctlError
from tests.data.small import L, M, forge, forge_shard, good_arrays, write_small

Arrays = dict[str, Any]
Build = Callable[[Path], Path]


class Case(NamedTuple):
    """One malformed input, made in an empty directory; `words` all occur in the message."""

    name: str
    build: Build
    error: type[RisctlError]
    words: tuple[str, ...]


def refused(name: str, build: Build, *words: str) -> Case:
    return Case(name, build, InputError, words)


def damaged(name: str, build: Build, *words: str) -> Case:
    return Case(name, build, DamagedFileError, words)


def _saved(save: Callable[..., Any], suffix: str, change: Callable[[Arrays], Any], **options: Any) -> Build:
    """Build a file of good arrays after `change`."""

    def build(directory: Path) -> Path:
        arrays, path = good_arrays(), directory / f"bad{suffix}"
        change(arrays)
        save(path, arrays, **options)
        return path

    return build


_npz = partial(_saved, lambda path, arrays: np.savez(path, **arrays), ".npz")
_mat = partial(_saved, scipy.io.savemat, ".mat")
_safetensors = partial(_saved, lambda path, arrays: save_file(arrays, path), ".safetensors")


def _set(key: str, value: Callable[[Any], Any]) -> Build:
    return _npz(lambda arrays: arrays.update({key: value(arrays[key])}))


def _put(key: str, index: Any, value: complex) -> Build:
    return _npz(lambda arrays: arrays[key].__setitem__(index, value))


def _file(name: str, content: bytes) -> Build:
    def build(directory: Path) -> Path:
        (directory / name).write_bytes(content)
        return directory / name

    return build


def _changed(suffix: str, change: Callable[[bytearray], Any]) -> Build:
    """Build a good file and change its bytes."""

    def build(directory: Path) -> Path:
        write_measurements(directory / f"bad{suffix}", **good_arrays())
        return _rewrite(directory / f"bad{suffix}", change)

    return build


def _rewrite(path: Path, change: Callable[[bytearray], Any]) -> Path:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)
    return path


def _halve(content: bytearray) -> None:
    del content[len(content) // 2 :]


def _flip(content: bytearray) -> None:
    content[len(content) // 2] ^= 0x10


def _flipped_packed_mat(directory: Path) -> Path:
    return _rewrite(_mat(lambda arrays: None, do_compression=True)(directory), _flip)


def _lying_npy(directory: Path) -> Path:
    """Build a `y.npy` whose header promises far more numbers than follow."""
    path = _npz(lambda arrays: arrays.pop("y"))(directory)
    stream = io.BytesIO()
    header = {"descr": "<c8", "fortran_order": False, "shape": (1 << 40, L, M)}
    np.lib.format.write_array_header_1_0(stream, header)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y.npy", stream.getvalue())
    return path


def _signs(directory: Path) -> Path:
    """Build a `y.npy` with a header that a parser needs all its stack for."""
    path = _npz(lambda arrays: arrays.pop("y"))(directory)
    header = b"{'descr': " + b"-" * 9000 + b"1, 'fortran_order': False, 'shape': (1,), }"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    return path


def _beyond_memory(directory: Path) -> Path:
    """Build a safetensors file of arrays whose number of bytes overflows."""
    entry = {"dtype": "C64", "shape": [0, 1 << 60, 16], "data_offsets": [0, 0]}
    header = json.dumps(dict.fromkeys(("y", "H", "codes"), entry)).encode()
    return _file("bad.safetensors", len(header).to_bytes(8, "little") + header)(directory)


def _directory(directory: Path) -> Path:
    (directory / "bad.npz").mkdir()
    return directory / "bad.npz"


class _Bomb:
    """Leaves a mark if it is ever unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("unpickled",)


def _real(array: Any) -> Any:
    return np.ascontiguousarray(array.real)


MEASUREMENT_CASES = [
    refused("missing file", lambda d: d / "none.npz", "none.npz", "existing file"),
    refused("directory", _directory, "existing file", "a directory"),
    refused("unknown suffix", _file("bad.h5", b"x"), "*.npz", "bad.h5"),
    refused("no suffix", _file("bad", b"x"), "*.npz"),
    damaged("empty npz", _file("bad.npz", b""), "empty file"),
    refused("text as npz", _file("bad.npz", b"hello"), "zip", "another format"),
    refused("pickle as npz", _file("bad.npz", pickle.dumps(_Bomb())), "zip"),
    refused("y missing", _npz(lambda a: a.pop("y")), "bad.npz: y", "only H, codes"),
    refused("codes missing", _npz(lambda a: a.pop("codes")), "bad.npz: codes"),
    refused("h for H", _npz(lambda a: a.update(h=a.pop("H"))), "bad.npz: H", "codes, h, y"),
    refused("pickled y", _set("y", lambda y: np.array([_Bomb()])), "bad.npz: y", "pickled"),
    refused("y real", _set("y", _real), "bad.npz: y", "complex", "float32"),
    refused("H real", _set("H", _real), "bad.npz: H", "complex", "float32"),
    refused("codes are indices", _set("codes", lambda c: _real(c).astype(np.uint8)), "codes", "uint8"),
    refused("y of strings", _set("y", lambda y: np.array(["a"])), "y", "plain numbers"),
    refused("y of records", _set("y", lambda y: np.zeros(3, "f4,f4")), "y", "plain numbers"),
    refused("y two-dimensional", _set("y", lambda y: y[0]), "y", "[S, L, M]", "[4, 6]"),
    refused("y four-dimensional", _set("y", lambda y: y[None]), "y", "[1, 2, 4, 6]"),
    refused("y scalar", _set("y", lambda y: y[0, 0, 0]), "y", "[S, L, M]", "[]"),
    refused("no scenes", _set("y", lambda y: y[:0]), "y", "no axis empty", "[0, 4, 6]"),
    refused("H of another RIS", _set("H", lambda h: h[:, :100]), "H", "N=144", "[6, 100]"),
    refused("H transposed", _set("H", lambda h: h.T), "H", "M=6", "[144, 6]"),
    refused("H of other antennas", _set("H", lambda h: h[:5]), "H", "M=6", "[5, 144]"),
    refused("codes of other length", _set("codes", lambda c: c[:, :3]), "codes", "L=4", "[2, 3, 144]"),
    refused("codes of other scenes", _set("codes", lambda c: c[:1]), "codes", "S=2", "[1, 4, 144]"),
    refused("codes of other RIS", _set("codes", lambda c: c[..., :100]), "codes", "N=144", "[2, 4, 100]"),
    refused("H of other scenes", _set("H", lambda h: np.stack([h] * 3)), "H", "S=2", "[3, 6, 144]"),
    refused("NaN in y", _put("y", (1, 2, 3), np.nan), "y", "finite", "scene 1"),
    refused("infinity in H", _put("H", (0, 0), np.inf), "H", "finite"),
    refused("NaN in codes", _put("codes", (0, 1, 2), complex(0, np.nan)), "codes", "finite", "scene 0"),
    refused("y too large", _set("y", lambda y: y.astype(complex) * 1e60), "y", "single precision"),
    refused("a scene without signal", _put("y", (1,), 0), "y", "all zero", "scene 1"),
    refused("codes all zero", _put("codes", (0,), 0), "codes", "all zero", "scene 0"),
    damaged("npz cut in half", _changed(".npz", _halve), "bad.npz", ".npz archive"),
    damaged("bit flip in npz", _changed(".npz", _flip), "bad.npz", "CRC"),
    damaged("header that lies", _lying_npy, "bytes of y"),
    damaged("header of signs", _signs, "header of y", "too deep"),
    damaged("safetensors beyond all memory", _beyond_memory, ".safetensors", "too big"),
    damaged("empty safetensors", _file("bad.safetensors", b""), "empty file"),
    damaged("text as safetensors", _file("bad.safetensors", b"hello world"), ".safetensors"),
    damaged("safetensors cut in half", _changed(".safetensors", _halve), ".safetensors"),
    refused("safetensors without H", _safetensors(lambda a: a.pop("H")), ": H", "codes, y"),
    refused(
        "safetensors real", _safetensors(lambda a: a.update(y=_real(a["y"]))), ": y", "complex", "float32"
    ),
    refused("text as mat", _file("bad.mat", b"hello"), ".mat", "another format"),
    refused("mat v7.3", _file("bad.mat", b"MATLAB 7.3".ljust(512) + b"\x89HDF\r\n\x1a\n"), "v7.3", "-v7"),
    refused("HDF5 as mat", _file("bad.mat", b"\x89HDF\r\n\x1a\n" + bytes(600)), "v7.3"),
    refused("mat v4", _mat(lambda a: a.update(y=a["y"][0], codes=a["codes"][0]), format="4"), ".mat"),
    damaged("mat cut in half", _changed(".mat", _halve), ".mat", "too few"),
    damaged("bit flip in packed mat", _flipped_packed_mat, ".mat"),
    refused("mat cell array", _mat(lambda a: a.update(y=np.array([1, "a"], object))), "y", "cell"),
    refused("mat text", _mat(lambda a: a.update(codes="abc")), "codes", "char"),
    refused("mat sparse", _mat(lambda a: a.update(H=scipy.sparse.csc_matrix(a["H"]))), "H", "sparse"),
    refused("mat without codes", _mat(lambda a: a.pop("codes")), "codes", "only H, y"),
    refused("mat H real", _mat(lambda a: a.update(H=_real(a["H"]))), "H", "complex", "float32"),
]


def _dataset(change: Callable[[Path], Any]) -> Build:
    """Build a good dataset (three shards of 280, 280 and 10 scenes) and change it."""

    def build(directory: Path) -> Path:
        dataset = write_small(directory / "dataset")
        change(dataset)
        return dataset

    return build


def _forged(change: Callable[[dict[str, Any]], Any]) -> Build:
    return _dataset(lambda d: forge(d, change))


def _forged_shard(change: Callable[[dict[str, Any]], Any]) -> Build:
    return _dataset(lambda d: forge_shard(d, change))


def _edited(change: Callable[[dict[str, Any]], Any]) -> Build:
    def edit(directory: Path) -> None:
        values = json.loads((directory / "dataset.json").read_text())
        change(values)
        (directory / "dataset.json").write_text(json.dumps(values))

    return _dataset(edit)


def edited(name: str, change: Callable[[dict[str, Any]], Any]) -> Case:
    return damaged(name, _edited(change), MANIFEST, "edited")


def _bytes(name: str, change: Callable[[bytearray], Any]) -> Build:
    return _dataset(lambda directory: _rewrite(directory / name, change))


def _flip_at(position: int) -> Callable[[bytearray], None]:
    return lambda content: content.__setitem__(position, content[position] ^ 0x01)


def _link(name: str) -> Build:
    """Move a file out of the dataset and leave a symbolic link to it."""

    def link(directory: Path) -> None:
        outside = directory.parent / "outside"
        (directory / name).rename(outside)
        (directory / name).symlink_to(outside)

    return _dataset(link)


def _swap(directory: Path) -> None:
    first, second = (directory / f"shard-0000{i}.safetensors" for i in (0, 1))
    first.rename(directory / "x")
    second.rename(first)
    (directory / "x").rename(second)


def _in_place_of_shard(make: Callable[[Path], None]) -> Build:
    def change(directory: Path) -> None:
        (directory / SHARD).unlink()
        make(directory / SHARD)

    return _dataset(change)


def _escape(directory: Path) -> None:
    (directory / SHARD).rename(directory.parent / "x.safetensors")
    forge(directory, lambda v: v["shards"][0].update(file="../x.safetensors"))


def _absolute(directory: Path) -> None:
    forge(directory, lambda v: v["shards"][0].update(file=str(directory / SHARD)))


SHARD, LAST, MANIFEST = "shard-00000.safetensors", "shard-00002.safetensors", "dataset.json"
DATASET_CASES = [
    refused("no such directory", lambda d: d / "none", "none", "dataset directory"),
    refused("a file", _file("dataset", b"x"), "dataset directory", "a file"),
    refused("an empty directory", lambda d: d, MANIFEST),
    damaged("no manifest", _dataset(lambda d: (d / MANIFEST).unlink()), MANIFEST, "manifest"),
    damaged("unfinished", lambda d: write_small(d / "dataset", shard=(0, 2)), "2 of 3 shards"),
    damaged("manifest is no JSON", _bytes(MANIFEST, lambda b: b.insert(0, 120)), "JSON document"),
    damaged("manifest cut in half", _bytes(MANIFEST, _halve), "JSON document"),
    damaged("manifest empty", _bytes(MANIFEST, bytearray.clear), "JSON document"),
    damaged("manifest a list", _dataset(lambda d: (d / MANIFEST).write_text("[1]")), "JSON object"),
    damaged("manifest nested", _dataset(lambda d: (d / MANIFEST).write_text("[" * 100_000)), "JSON document"),
    refused("another schema version", _edited(lambda v: v.update(schema_version=99)), "99"),
    edited("seed edited", lambda v: v.update(seed=6)),
    edited("physics edited", lambda v: v["generator"]["physics"].update(wavelength=0.4)),
    edited("hash edited", lambda v: v["shards"][0].update(content_hash="0" * 64)),
    edited("digest missing", lambda v: v.pop("digest")),
    edited("digest edited", lambda v: v.update(digest="0" * 64)),
    damaged("NaN in manifest", _edited(lambda v: v.update(seed=float("nan"))), "JSON document"),
    damaged("unknown manifest key", _forged(lambda v: v.update(extra=1)), "extra"),
    damaged("unknown physics key", _forged(lambda v: v["generator"]["physics"].update(colour=1)), "colour"),
    damaged("negative seed", _forged(lambda v: v.update(seed=-1)), "seed"),
    damaged("a shard too few", _forged(lambda v: v["shards"].pop()), "3 shards", "2"),
    damaged("a shard twice", _forged(lambda v: v["shards"].append(v["shards"][0])), "listed twice"),
    damaged("other scene count", _forged(lambda v: v["shards"][0].update(scenes=71)), "280 scenes"),
    damaged("path escape", _dataset(_escape), MANIFEST, "../x.safetensors"),
    damaged("absolute path", _dataset(_absolute), MANIFEST, "shard-00000.safetensors and on"),
    damaged("shard is a link", _link(SHARD), SHARD, "symbolic link"),
    damaged("manifest is a link", _link(MANIFEST), MANIFEST, "symbolic link"),
    damaged("shard is a pipe", _in_place_of_shard(os.mkfifo), SHARD, "regular file"),
    damaged("shard missing", _dataset(lambda d: (d / LAST).unlink()), LAST),
    damaged("shard empty", _bytes(SHARD, bytearray.clear), SHARD, "bytes"),
    damaged("shard a directory", _in_place_of_shard(Path.mkdir), SHARD, "regular file"),
    damaged("shard cut in half", _bytes(LAST, _halve), LAST, "bytes"),
    damaged("shard cut by a byte", _bytes(LAST, lambda b: b.pop()), LAST, "bytes"),
    damaged("shard longer", _bytes(SHARD, lambda b: b.append(0)), SHARD, "bytes"),
    damaged("bit flip in data", _bytes(SHARD, _flip), SHARD, "content hash"),
    damaged("bit flip in last byte", _bytes(LAST, _flip_at(-1)), LAST, "content hash"),
    damaged("bit flip in header", _bytes(SHARD, _flip_at(12)), SHARD, "header"),
    damaged("shards swapped", _dataset(_swap), SHARD, "content hash"),
    damaged("NaN in a shard", _forged_shard(lambda a: a["H"].fill(np.nan)), SHARD, "finite H"),
    damaged("infinity in a shard", _forged_shard(lambda a: a["snr_db"].fill(np.inf)), "finite snr_db"),
    damaged("too many sources", _forged_shard(lambda a: a["num_sources"].fill(9)), "num_sources"),
    damaged("no sources", _forged_shard(lambda a: a["num_sources"].fill(0)), "num_sources"),
    damaged("code out of range", _forged_shard(lambda a: a["code_index"].fill(8)), "code_index"),
    damaged("no noise", _forged_shard(lambda a: a["noise_var"].fill(0)), "noise_var"),
    damaged("power past the sources", _forged_shard(lambda a: a["power"].fill(1)), "power"),
]


@pytest.mark.parametrize("case", [*MEASUREMENT_CASES, *DATASET_CASES], ids=lambda case: case.name)
def test_malformed_input_is_refused(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = case.build(tmp_path)
    with pytest.raises(case.error) as caught:
        read_measurements(path) if case in MEASUREMENT_CASES else open_dataset(path).verify()
    message = str(caught.value)
    assert type(caught.value) is case.error, message
    assert all(word in message for word in case.words), message
    assert "\n" not in message
    assert len(message) < 600
    assert not (tmp_path / "unpickled").exists()


def test_names_are_distinct_and_the_good_versions_are_accepted(tmp_path: Path) -> None:
    for cases in (MEASUREMENT_CASES, DATASET_CASES):
        assert len({case.name for case in cases}) == len(cases)
    write_measurements(tmp_path / "good.npz", **good_arrays())
    assert len(read_measurements(tmp_path / "good.npz")) == 2
    open_dataset(write_small(tmp_path / "dataset")).verify()


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
def test_an_archive_that_unpacks_to_far_more_is_refused_before_it_is(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("risctl.data.mapped.UNPACKED_BYTES", 1 << 20)
    arrays = good_arrays() | {"y": np.zeros((1000, 64, 64), np.complex128)}
    path = tmp_path / f"bomb{suffix}"
    if suffix == ".npz":
        np.savez_compressed(path, **arrays)
    else:
        scipy.io.savemat(path, arrays, do_compression=True)
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(InputError, match=r"once unpacked .* got 0\.06 GiB"):
        read_measurements(path)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
