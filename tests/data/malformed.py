"""Malformed measurement files and datasets: what is made, how it must be refused, what the message must say.

`build(directory)` makes the case in an empty directory and returns the path to hand to a command.
"""

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
Build = Callable[[Path], Path]


class Case(NamedTuple):
    """One malformed input; `words` all occur in the message."""

    name: str
    build: Build
    error: type[RisctlError]
    words: tuple[str, ...]


def refused(name: str, build: Build, *words: str) -> Case:
    return Case(name, build, InputError, words)


def damaged(name: str, build: Build, *words: str) -> Case:
    return Case(name, build, DamagedFileError, words)


def good_arrays() -> Arrays:
    """Return a well-formed measurement for N = 144."""
    rng = np.random.default_rng(7)

    def draw(*shape: int) -> Any:
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)

    codes = draw(S, L, N)
    return {"y": draw(S, L, M), "H": draw(M, N), "codes": codes / np.abs(codes)}


def _npz(change: Callable[[Arrays], Any]) -> Build:
    """Build an .npz of good arrays after `change`."""

    def build(directory: Path) -> Path:
        arrays = good_arrays()
        change(arrays)
        np.savez(directory / "bad.npz", **arrays)
        return directory / "bad.npz"

    return build


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


def _mat(change: Callable[[Arrays], Any], **options: Any) -> Build:
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


def _safetensors(change: Callable[[Arrays], Any]) -> Build:
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
    refused("NaN in y", _put("y", (1, 2, 3), np.nan), "y", "finite", "scene 1"),
    refused("infinity in H", _put("H", (0, 0), np.inf), "H", "finite"),
    refused("NaN in codes", _put("codes", (0, 1, 2), complex(0, np.nan)), "codes", "finite", "scene 0"),
    refused(
        "y beyond single precision",
        _set("y", lambda y: y.astype(np.complex128) * 1e60),
        "y",
        "single precision",
    ),
    refused("a scene without signal", _put("y", (1,), 0), "y", "all zero", "scene 1"),
    refused("codes all zero", _put("codes", (0,), 0), "codes", "all zero", "scene 0"),
    damaged("npz cut in half", _changed(".npz", _halve), "bad.npz", ".npz archive"),
    damaged("bit flip in npz", _changed(".npz", _flip), "bad.npz", "CRC"),
    damaged("header that lies", _lying_npy, "bytes of y"),
    damaged("empty safetensors", _file("bad.safetensors", b""), "empty file"),
    damaged("text as safetensors", _file("bad.safetensors", b"hello world"), ".safetensors"),
    damaged("safetensors cut in half", _changed(".safetensors", _halve), ".safetensors"),
    refused("safetensors without H", _safetensors(lambda a: a.pop("H")), ": H", "codes, y"),
    refused(
        "safetensors y real", _safetensors(lambda a: a.update(y=_real(a["y"]))), ": y", "complex", "float32"
    ),
    refused("text as mat", _file("bad.mat", b"hello"), ".mat", "another format"),
    refused("mat v7.3", _file("bad.mat", b"MATLAB 7.3".ljust(512) + b"\x89HDF\r\n\x1a\n"), "v7.3", "-v7"),
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


def _bytes(name: str, change: Callable[[bytearray], Any]) -> Build:
    def edit(directory: Path) -> None:
        content = bytearray((directory / name).read_bytes())
        change(content)
        (directory / name).write_bytes(content)

    return _dataset(edit)


def _flip_at(position: int) -> Callable[[bytearray], None]:
    def flip(content: bytearray) -> None:
        content[position] ^= 0x01

    return flip


def _link(name: str) -> Build:
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
    refused("no such directory", lambda d: d / "none", "none", "dataset directory"),
    refused("a file", _file("dataset", b"x"), "dataset directory", "a file"),
    refused("an empty directory", lambda d: d, MANIFEST),
    damaged("no manifest", _dataset(lambda d: (d / MANIFEST).unlink()), MANIFEST, "manifest"),
    damaged("unfinished", _unfinished, "2 of 3 shards"),
    damaged("manifest is no JSON", _bytes(MANIFEST, lambda b: b.insert(0, 120)), "JSON document"),
    damaged("manifest cut in half", _bytes(MANIFEST, _halve), "JSON document"),
    damaged("manifest empty", _bytes(MANIFEST, bytearray.clear), "JSON document"),
    damaged("manifest a list", _dataset(lambda d: (d / MANIFEST).write_text("[1]")), "JSON object"),
    damaged(
        "manifest nested deeply",
        _dataset(lambda d: (d / MANIFEST).write_text("[" * 100_000)),
        "JSON document",
    ),
    refused("another schema version", _edited(lambda v: v.update(schema_version=99)), "99"),
    damaged("seed edited", _edited(lambda v: v.update(seed=6)), MANIFEST, "edited"),
    damaged(
        "physics edited",
        _edited(lambda v: v["generator"]["physics"].update(wavelength=0.4)),
        MANIFEST,
        "edited",
    ),
    damaged(
        "hash edited", _edited(lambda v: v["shards"][0].update(content_hash="0" * 64)), MANIFEST, "edited"
    ),
    damaged("digest missing", _edited(lambda v: v.pop("digest")), MANIFEST, "edited"),
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
    damaged("shard is a pipe", _dataset(_pipe), SHARD, "regular file"),
    damaged("shard missing", _dataset(lambda d: (d / LAST).unlink()), LAST),
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
