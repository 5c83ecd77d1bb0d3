"""Malformed measurement files and datasets: what is made, how it must be refused, what the message must say.

`build(directory)` makes the case in an empty directory and returns the path to hand to a command.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.io
import scipy.sparse

from risctl.data import write_measurements
from risctl.errors import DamagedFileError, InputError, RisctlError
from tests.data.small import forge, forge_shard, write_small

S, L, M, N = 2, 4, 6, 144
Arrays = dict[str, Any]


class Case(NamedTuple):
    """One malformed input; `words` all occur in the message."""

    name: str
    build: Callable[[Path], Path]
    error: type[RisctlError]
    words: tuple[str, ...]


def good_arrays() -> Arrays:
    """Return a well-formed measurement for N = 144."""
    rng = np.random.default_rng(7)

    def draw(*shape: int) -> Any:
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)

    codes = draw(S, L, N)
    return {"y": draw(S, L, M), "H": draw(M, N), "codes": codes / np.abs(codes)}


def _npz(change: Callable[[Arrays], Any]) -> Callable[[Path], Path]:
    """Build an .npz of good arrays after `change`."""

    def build(directory: Path) -> Path:
        arrays = good_arrays()
        change(arrays)
        np.savez(directory / "bad.npz", **arrays)
        return directory / "bad.npz"

    return build


def _set(key: str, value: Callable[[Any], Any]) -> Callable[[Path], Path]:
    return _npz(lambda arrays: arrays.update({key: value(arrays[key])}))


def _put(key: str, index: Any, value: complex) -> Callable[[Path], Path]:
    return _npz(lambda arrays: arrays[key].__setitem__(index, value))


def _file(name: str, content: bytes) -> Callable[[Path], Path]:
    def build(directory: Path) -> Path:
        (directory / name).write_bytes(content)
        return directory / name

    return build


def _changed(suffix: str, change: Callable[[bytearray], Any]) -> Callable[[Path], Path]:
    """Build a good file and change its bytes."""

    def build(directory: Path) -> Path:
        path = directory / f"bad{suffix}"
        write_measurements(path, **good_arrays())
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)
        return path

    return build


def _halve(content: bytearray) -> None:
    del content[len(content) // 2 :]


def _flip(content: bytearray) -> None:
    content[len(content) // 2] ^= 0x10


def _mat(change: Callable[[Arrays], Any], **options: Any) -> Callable[[Path], Path]:
    def build(directory: Path) -> Path:
        arrays = good_arrays()
        change(arrays)
        scipy.io.savemat(directory / "bad.mat", arrays, **options)
        return directory / "bad.mat"

    return build


def _flipped_packed_mat(directory: Path) -> Path:
    stream = io.BytesIO()
    scipy.io.savemat(stream, good_arrays(), do_compression=True)
    content = bytearray(stream.getvalue())
    _flip(content)
    return _file("bad.mat", bytes(content))(directory)


def _lying_npy(directory: Path) -> Path:
    """Build a `y.npy` whose header promises far more numbers than follow."""
    path = _npz(lambda arrays: arrays.pop("y"))(directory)
    stream = io.BytesIO()
    header = {"descr": "<c8", "fortran_order": False, "shape": (1 << 40, L, M)}
    np.lib.format.write_array_header_1_0(stream, header)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y.npy", stream.getvalue())
    return path


def _safetensors(change: Callable[[Arrays], Any]) -> Callable[[Path], Path]:
    def build(directory: Path) -> Path:
        import torch
        from safetensors.torch import save_file

        arrays = good_arrays()
        change(arrays)
        save_file({key: torch.from_numpy(a) for key, a in arrays.items()}, directory / "bad.safetensors")
        return directory / "bad.safetensors"

    return build


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
    Case("missing file", lambda d: d / "none.npz", InputError, ("none.npz", "existing file")),
    Case("directory", _directory, InputError, ("existing file", "a directory")),
    Case("unknown suffix", _file("bad.h5", b"x"), InputError, ("*.npz", "bad.h5")),
    Case("no suffix", _file("bad", b"x"), InputError, ("*.npz",)),
    Case("empty npz", _file("bad.npz", b""), DamagedFileError, ("empty file",)),
    Case("text as npz", _file("bad.npz", b"hello"), InputError, ("zip", "another format")),
    Case("pickle as npz", _file("bad.npz", pickle.dumps(_Bomb())), InputError, ("zip",)),
    Case("y missing", _npz(lambda a: a.pop("y")), InputError, ("bad.npz: y", "only H, codes")),
    Case("codes missing", _npz(lambda a: a.pop("codes")), InputError, ("bad.npz: codes",)),
    Case("h for H", _npz(lambda a: a.update(h=a.pop("H"))), InputError, ("bad.npz: H", "codes, h, y")),
    Case("pickled y", _set("y", lambda y: np.array([_Bomb()])), InputError, ("bad.npz: y", "pickled")),
    Case("y real", _set("y", _real), InputError, ("bad.npz: y", "complex", "float32")),
    Case("H real", _set("H", _real), InputError, ("bad.npz: H", "complex", "float32")),
    Case(
        "codes are indices",
        _set("codes", lambda c: _real(c).astype(np.uint8)),
        InputError,
        ("codes", "uint8"),
    ),
    Case("y of strings", _set("y", lambda y: np.array(["a"])), InputError, ("y", "plain numbers")),
    Case("y of records", _set("y", lambda y: np.zeros(3, "f4,f4")), InputError, ("y", "plain numbers")),
    Case("y two-dimensional", _set("y", lambda y: y[0]), InputError, ("y", "[S, L, M]", "[4, 6]")),
    Case("y four-dimensional", _set("y", lambda y: y[None]), InputError, ("y", "[1, 2, 4, 6]")),
    Case("y scalar", _set("y", lambda y: y[0, 0, 0]), InputError, ("y", "[S, L, M]", "[]")),
    Case("no scenes", _set("y", lambda y: y[:0]), InputError, ("y", "no axis empty", "[0, 4, 6]")),
    Case("H of another RIS", _set("H", lambda h: h[:, :100]), InputError, ("H", "N=144", "[6, 100]")),
    Case("H transposed", _set("H", lambda h: h.T), InputError, ("H", "M=6", "[144, 6]")),
    Case("H of other antennas", _set("H", lambda h: h[:5]), InputError, ("H", "M=6", "[5, 144]")),
    Case(
        "codes of other length",
        _set("codes", lambda c: c[:, :3]),
        InputError,
        ("codes", "L=4", "[2, 3, 144]"),
    ),
    Case(
        "codes of other scenes", _set("codes", lambda c: c[:1]), InputError, ("codes", "S=2", "[1, 4, 144]")
    ),
    Case("NaN in y", _put("y", (1, 2, 3), np.nan), InputError, ("y", "finite", "scene 1")),
    Case("infinity in H", _put("H", (0, 0), np.inf), InputError, ("H", "finite")),
    Case(
        "NaN in codes",
        _put("codes", (0, 1, 2), complex(0, np.nan)),
        InputError,
        ("codes", "finite", "scene 0"),
    ),
    Case(
        "y beyond single precision",
        _set("y", lambda y: y.astype(np.complex128) * 1e60),
        InputError,
        ("y", "single precision"),
    ),
    Case("a scene without signal", _put("y", (1,), 0), InputError, ("y", "all zero", "scene 1")),
    Case("codes all zero", _put("codes", (0,), 0), InputError, ("codes", "all zero", "scene 0")),
    Case("npz cut in half", _changed(".npz", _halve), DamagedFileError, ("bad.npz", ".npz archive")),
    Case("bit flip in npz", _changed(".npz", _flip), DamagedFileError, ("bad.npz", "CRC")),
    Case("header that lies", _lying_npy, DamagedFileError, ("bytes of y",)),
    Case("empty safetensors", _file("bad.safetensors", b""), DamagedFileError, ("empty file",)),
    Case(
        "text as safetensors", _file("bad.safetensors", b"hello world"), DamagedFileError, (".safetensors",)
    ),
    Case("safetensors cut in half", _changed(".safetensors", _halve), DamagedFileError, (".safetensors",)),
    Case("safetensors without H", _safetensors(lambda a: a.pop("H")), InputError, (": H", "codes, y")),
    Case(
        "safetensors y real",
        _safetensors(lambda a: a.update(y=_real(a["y"]))),
        InputError,
        (": y", "complex", "float32"),
    ),
    Case("text as mat", _file("bad.mat", b"hello"), InputError, (".mat", "another format")),
    Case(
        "mat v7.3",
        _file("bad.mat", b"MATLAB 7.3".ljust(512) + b"\x89HDF\r\n\x1a\n"),
        InputError,
        ("v7.3", "-v7"),
    ),
    Case(
        "mat v4",
        _mat(lambda a: a.update(y=a["y"][0], codes=a["codes"][0]), format="4"),
        InputError,
        (".mat",),
    ),
    Case("mat cut in half", _changed(".mat", _halve), DamagedFileError, (".mat", "too few")),
    Case("bit flip in packed mat", _flipped_packed_mat, DamagedFileError, (".mat",)),
    Case("mat cell array", _mat(lambda a: a.update(y=np.array([1, "a"], object))), InputError, ("y", "cell")),
    Case("mat text", _mat(lambda a: a.update(codes="abc")), InputError, ("codes", "char")),
    Case(
        "mat sparse", _mat(lambda a: a.update(H=scipy.sparse.csc_matrix(a["H"]))), InputError, ("H", "sparse")
    ),
    Case("mat without codes", _mat(lambda a: a.pop("codes")), InputError, ("codes", "only H, y")),
    Case("mat H real", _mat(lambda a: a.update(H=_real(a["H"]))), InputError, ("H", "complex", "float32")),
]


def _dataset(change: Callable[[Path], Any]) -> Callable[[Path], Path]:
    """Build a good dataset (three shards of 280, 280 and 10 scenes) and change it."""

    def build(directory: Path) -> Path:
        dataset = write_small(directory / "dataset")
        change(dataset)
        return dataset

    return build


def _forged(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Path]:
    return _dataset(lambda d: forge(d, change))


def _forged_shard(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Path]:
    return _dataset(lambda d: forge_shard(d, change))


def _edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Path]:
    def edit(directory: Path) -> None:
        values = json.loads((directory / "dataset.json").read_text())
        change(values)
        (directory / "dataset.json").write_text(json.dumps(values))

    return _dataset(edit)


def _bytes(name: str, change: Callable[[bytearray], Any]) -> Callable[[Path], Path]:
    def edit(directory: Path) -> None:
        content = bytearray((directory / name).read_bytes())
        change(content)
        (directory / name).write_bytes(content)

    return _dataset(edit)


def _flip_at(position: int) -> Callable[[bytearray], None]:
    def flip(content: bytearray) -> None:
        content[position] ^= 0x01

    return flip


def _link(name: str) -> Callable[[Path], Path]:
    """Move a file out of the dataset and leave a symbolic link to it."""

    def link(directory: Path) -> None:
        outside = directory.parent / "outside"
        (directory / name).rename(outside)
        (directory / name).symlink_to(outside)

    return _dataset(link)


def _unfinished(directory: Path) -> Path:
    return write_small(directory / "dataset", shard=(0, 2))


def _swap(directory: Path) -> None:
    first, second = (directory / f"shard-0000{i}.safetensors" for i in (0, 1))
    first.rename(directory / "x")
    second.rename(first)
    (directory / "x").rename(second)


def _pipe(directory: Path) -> None:
    (directory / SHARD).unlink()
    os.mkfifo(directory / SHARD)


def _escape(directory: Path) -> None:
    (directory / SHARD).rename(directory.parent / "x.safetensors")
    forge(directory, lambda v: v["shards"][0].update(file="../x.safetensors"))


def _absolute(directory: Path) -> None:
    forge(directory, lambda v: v["shards"][0].update(file=str(directory / SHARD)))


SHARD, LAST, MANIFEST = "shard-00000.safetensors", "shard-00002.safetensors", "dataset.json"
DATASET_CASES = [
    Case("no such directory", lambda d: d / "none", InputError, ("none", "dataset directory")),
    Case("a file", _file("dataset", b"x"), InputError, ("dataset directory", "a file")),
    Case("an empty directory", lambda d: d, InputError, (MANIFEST,)),
    Case(
        "no manifest", _dataset(lambda d: (d / MANIFEST).unlink()), DamagedFileError, (MANIFEST, "manifest")
    ),
    Case("unfinished", _unfinished, DamagedFileError, ("2 of 3 shards",)),
    Case(
        "manifest is no JSON",
        _bytes(MANIFEST, lambda b: b.insert(0, 120)),
        DamagedFileError,
        ("JSON document",),
    ),
    Case("manifest cut in half", _bytes(MANIFEST, _halve), DamagedFileError, ("JSON document",)),
    Case("manifest empty", _bytes(MANIFEST, bytearray.clear), DamagedFileError, ("JSON document",)),
    Case(
        "manifest a list",
        _dataset(lambda d: (d / MANIFEST).write_text("[1]")),
        DamagedFileError,
        ("JSON object",),
    ),
    Case(
        "manifest nested deeply",
        _dataset(lambda d: (d / MANIFEST).write_text("[" * 100_000)),
        DamagedFileError,
        ("JSON document",),
    ),
    Case("another schema version", _edited(lambda v: v.update(schema_version=99)), InputError, ("99",)),
    Case("seed edited", _edited(lambda v: v.update(seed=6)), DamagedFileError, (MANIFEST, "edited")),
    Case(
        "physics edited",
        _edited(lambda v: v["generator"]["physics"].update(wavelength=0.4)),
        DamagedFileError,
        (MANIFEST, "edited"),
    ),
    Case(
        "hash edited",
        _edited(lambda v: v["shards"][0].update(content_hash="0" * 64)),
        DamagedFileError,
        (MANIFEST, "edited"),
    ),
    Case("digest missing", _edited(lambda v: v.pop("digest")), DamagedFileError, (MANIFEST, "edited")),
    Case(
        "NaN in manifest",
        _edited(lambda v: v.update(seed=float("nan"))),
        DamagedFileError,
        ("JSON document",),
    ),
    Case("unknown manifest key", _forged(lambda v: v.update(extra=1)), DamagedFileError, ("extra",)),
    Case(
        "unknown physics key",
        _forged(lambda v: v["generator"]["physics"].update(colour=1)),
        DamagedFileError,
        ("colour",),
    ),
    Case("negative seed", _forged(lambda v: v.update(seed=-1)), DamagedFileError, ("seed",)),
    Case("a shard too few", _forged(lambda v: v["shards"].pop()), DamagedFileError, ("3 shards", "2")),
    Case(
        "a shard twice",
        _forged(lambda v: v["shards"].append(v["shards"][0])),
        DamagedFileError,
        ("listed twice",),
    ),
    Case(
        "other scene count",
        _forged(lambda v: v["shards"][0].update(scenes=71)),
        DamagedFileError,
        ("280 scenes",),
    ),
    Case("path escape", _dataset(_escape), DamagedFileError, (MANIFEST, "../x.safetensors")),
    Case(
        "absolute path", _dataset(_absolute), DamagedFileError, (MANIFEST, "shard-00000.safetensors and on")
    ),
    Case("shard is a link", _link(SHARD), DamagedFileError, (SHARD, "symbolic link")),
    Case("manifest is a link", _link(MANIFEST), DamagedFileError, (MANIFEST, "symbolic link")),
    Case("shard is a pipe", _dataset(_pipe), DamagedFileError, (SHARD, "regular file")),
    Case("shard missing", _dataset(lambda d: (d / LAST).unlink()), DamagedFileError, (LAST,)),
    Case("shard cut in half", _bytes(LAST, _halve), DamagedFileError, (LAST, "bytes")),
    Case("shard cut by a byte", _bytes(LAST, lambda b: b.pop()), DamagedFileError, (LAST, "bytes")),
    Case("shard longer", _bytes(SHARD, lambda b: b.append(0)), DamagedFileError, (SHARD, "bytes")),
    Case("bit flip in data", _bytes(SHARD, _flip), DamagedFileError, (SHARD, "content hash")),
    Case("bit flip in last byte", _bytes(LAST, _flip_at(-1)), DamagedFileError, (LAST, "content hash")),
    Case("bit flip in header", _bytes(SHARD, _flip_at(12)), DamagedFileError, (SHARD, "header")),
    Case("shards swapped", _dataset(_swap), DamagedFileError, (SHARD, "content hash")),
    Case(
        "NaN in a shard", _forged_shard(lambda a: a["H"].fill(np.nan)), DamagedFileError, (SHARD, "finite H")
    ),
    Case(
        "infinity in a shard",
        _forged_shard(lambda a: a["snr_db"].fill(np.inf)),
        DamagedFileError,
        ("finite snr_db",),
    ),
    Case(
        "too many sources",
        _forged_shard(lambda a: a["num_sources"].fill(9)),
        DamagedFileError,
        ("num_sources",),
    ),
    Case("no sources", _forged_shard(lambda a: a["num_sources"].fill(0)), DamagedFileError, ("num_sources",)),
    Case(
        "code out of range",
        _forged_shard(lambda a: a["code_index"].fill(8)),
        DamagedFileError,
        ("code_index",),
    ),
    Case("no noise", _forged_shard(lambda a: a["noise_var"].fill(0)), DamagedFileError, ("noise_var",)),
    Case("power past the sources", _forged_shard(lambda a: a["power"].fill(1)), DamagedFileError, ("power",)),
]
