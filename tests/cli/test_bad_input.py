"""Malformed input of every kind, through the command line: one line saying what is wrong, the right status.

Presets and configuration files, override words, flags, datasets, measurement files. No traceback, nothing on
stdout, nothing left behind that looks finished.
"""

import json
import pickle
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from safetensors.numpy import save_file

from risctl.config import PhysicsConfig
from risctl.data import write_dataset
from tests.cli.command import Capture, refused

Arguments = list[str]
Build = Callable[[Path], Arguments]
Case = tuple[str, Build, int, str]

# Arguments by command, and what else is refused with the words that must be in the line.
FLAGS = {
    "": "nosuch | config | config nosuch | gen-data | locate",
    "config show": (
        "--nope | --seed x | --seed -1 | --seed 9223372036854775808 | --threads 0 | --device gpu"
        " | --preset fast | --device cuda:x | --preset ../quick | --config /nonexistent.toml"
        " | physics.snr_mni_db=1 | word"
    ),
    "config diff": "quick | quick nosuch",
    "gen-data --out": " | d --split dev | d --scenes 0 | d --scenes 1.5 | d --workers 0",
    "eval": (
        "runs/train/somewhere | --estimators oracle | --estimators learned physics.ris_rows=6"
        " | --estimators '' | --estimators nomp,nomp | /nonexistent | / | runs/x covariance.beta=2"
        " | --batch 0 | --workers 1000 | --scenes 0 | physics.snapshots=3"
        " | --data d physics.num_snapshots=3 | --threads 2"
    ),
    "train": (
        "--resume /nonexistent | --resume / | --resume . | --fork | --data /nonexistent | --val-data d"
        " | runs/x | --device cuda:99 | --preset none | training.epochs=0 | training.epoch=1"
        " | data.source=store | data.train_scenes=8 training.batch=64"
        " | training.warmup_fraction=0.9 training.swa_fraction=0.5"
    ),
    "overfit": (
        "training.epochs=31 | data.validate_on=val | data.repeat=false | --resume /nonexistent"
        " | model.head=free"
    ),
    "locate f.npz": (
        "--estimator learned physics.ris_rows=6 | --model runs/x | --num-sources 0 | --num-sources 6"
        " | --num-sources two | --out /nonexistent/x.json | --out /"
    ),
}
SHARDS = ("", "1", "2/1", "3/2", "-1/2", "1/0", "0/0", "a/b", "1/2/3", "1/99999999")
SNAPSHOTS = "--sweep physics.num_snapshots=3,5"
REFUSED = {
    "train --val-data d/val": "--val-data: expected a training dataset",
    "train --data d physics.num_snapshots=5": "--data: expected no physics.* override",
    "train data.source=store": "--data: expected a dataset beside data.source",
    "train --fork": "--fork: expected a run to resume",
    "train --threads 0": "--threads: expected 1 to 1024",
    "eval --sweep nonsense": "--sweep: expected section.key=v1,v2,..., got 'nonsense'",
    "eval --sweep physics.num_snapshots=4,0": "--sweep physics.num_snapshots=0: physics.num_snapshots: ",
    f"eval {SNAPSHOTS} {SNAPSHOTS}": "--sweep: physics.num_snapshots: expected every setting once",
    f"eval {SNAPSHOTS} --data d": "--sweep: expected no dataset",
    f"eval {SNAPSHOTS} --estimators ceiling": "--estimators: expected an estimator beside the oracle",
    "eval --resume nowhere --scenes 4": "--resume: expected nothing beside it",
    "eval --resume nowhere": "--resume: expected a run of a sweep",
    "eval --resume . --preset full": "--preset: expected none for a sweep that is resumed",
    "eval --resume . --config c.toml": "--config: expected none for a sweep that is resumed",
    "eval --answers x --data d": "--answers: expected NAME=FILE",
    "eval --answers x=1 --answers x=2": "--answers: x: expected every name once",
    "locate x.npz --estimator ceiling": "music, sbl, got 'ceiling', an oracle that needs the true positions",
    "locate x.npz --num-sources 6": "--num-sources: expected 1 to 5",
    "locate x.npz --out nowhere/x.json": "--out: expected a file in an existing directory",
    "locate x.npz --estimator learned covariance.beta=0.26": "the reference model: covariance.beta: expected",
    **{f"gen-data --out d --shard '{shard}'": "--shard: expected i/n" for shard in SHARDS},
    "check-alignment --scenes 1": "--scenes: expected 2 to 1024",
    "check-alignment nowhere": "nowhere",
    "bench --quick --threads 2": "--threads: expected 1",
    "bench --quick --device cuda": "--device: expected cpu",
    "demo --device cuda:0": "--device: expected cpu",
    "hpo --force --trials 0": "--trials: expected 1",
    "hpo --force --workers 0": "--workers: expected 1",
    "hpo --force --resume nowhere": "nowhere: expected a run directory of a search",
    "hpo --force --device tpu": "--device: expected auto",
    "hpo --force --storage nonsense --dry-run": "--storage: expected postgresql+psycopg://",
}

OVERRIDES = (
    "physics.snr_mni_db=3 | modle.width=8 | physics=3 | wavelength=3 | physics.wavelength="
    " | physics.wavelength=nan | physics.wavelength=inf | physics.wavelength=-1 | physics.wavelength='0.3'"
    " | physics.wavelength=true | physics.num_antennas=16.0 | physics.amplitude_taper=1"
    " | physics.wavefront=round | physics.impairments=1 | physics.impairments.dead_elements=1"
    " | physics.min_sources=6 | physics.range_min=20 | physics.snr_values_db=[1, nan]"
    " | physics.symbols=coherent | covariance.beta=1.5 | covariance.normalisation=none"
    " | evaluation.estimators=[] | data.seed=-1"
)

FILES: dict[str, bytes] = {
    "broken syntax": b"[physics",
    "a key twice": b"[physics]\nphase_bits = 1\nphase_bits = 2\n",
    "not text": b"\xff\x00\xfe",
    "an unknown section": b"[phisics]\nphase_bits = 1\n",
    "an unknown key": b"[physics]\nphase_bitz = 1\n",
    "a value for a section": b"physics = 3\n",
    "a section for a value": b"[physics.phase_bits]\nx = 1\n",
    "out of range": b"[physics]\nphase_bits = 99\n",
    "nested past the limit": b"x = " + b"[" * 20_000,
    "another type": b"[physics]\nphase_bits = 2020-01-01\n",
}


def _arrays() -> dict[str, Any]:
    """Return two good scenes of four snapshots and eight antennas."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)

    codes = np.exp(1j * rng.uniform(0, 6, (4, 144))).astype(np.complex64)
    return {"y": draw(2, 4, 8), "H": draw(2, 8, 144), "codes": codes}


def _without(key: str) -> dict[str, Any]:
    return {name: array for name, array in _arrays().items() if name != key}


def _changed(key: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    arrays = _arrays()
    return arrays | {key: change(arrays[key])}


def _poisoned(key: str, value: float) -> dict[str, Any]:
    arrays = _arrays()
    arrays[key].flat[3] = value
    return arrays


MEASUREMENTS: dict[str, dict[str, Any]] = {
    "no y": _without("y"),
    "no H": _without("H"),
    "no codes": _without("codes"),
    "real y": _changed("y", np.real),
    "real H": _changed("H", np.real),
    "real codes": _changed("codes", np.real),
    "integer codes": _changed("codes", lambda c: np.ones(c.shape, np.int64)),
    "text": _changed("y", lambda y: np.full(y.shape, "a")),
    "NaN in y": _poisoned("y", np.nan),
    "infinity in H": _poisoned("H", np.inf),
    "NaN in codes": _poisoned("codes", np.nan),
    "y of two axes": _changed("y", lambda y: y[0]),
    "y of four axes": _changed("y", lambda y: y[None]),
    "no scene": _changed("y", lambda y: y[:0]),
    "H of other scenes": _changed("H", lambda h: np.concatenate([h, h])),
    "H of other antennas": _changed("H", lambda h: h[:, :7]),
    "H of other elements": _changed("H", lambda h: h[:, :, :100]),
    "codes of other snapshots": _changed("codes", lambda c: c[:3]),
    "codes of other elements": _changed("codes", lambda c: c[:, :100]),
    "transposed H": _changed("H", lambda h: h.swapaxes(1, 2)),
    "y all zero": _changed("y", np.zeros_like),
    "codes all zero": _changed("codes", np.zeros_like),
    "a scene of zeros": _changed("y", lambda y: np.concatenate([y[:1], 0 * y[:1]])),
}


def _npz(arrays: dict[str, Any]) -> Build:
    def build(directory: Path) -> Arguments:
        np.savez(directory / "m.npz", **arrays)
        return ["locate", str(directory / "m.npz")]

    return build


def _file(name: str, content: bytes) -> Build:
    def build(directory: Path) -> Arguments:
        (directory / name).write_bytes(content)
        return ["locate", str(directory / name)]

    return build


def _half(name: str, write: Callable[[Path], None]) -> Build:
    def build(directory: Path) -> Arguments:
        write(directory / name)
        content = (directory / name).read_bytes()
        (directory / name).write_bytes(content[: len(content) // 2])
        return ["locate", str(directory / name)]

    return build


def _config(content: bytes) -> Build:
    def build(directory: Path) -> Arguments:
        (directory / "c.toml").write_bytes(content)
        return ["config", "show", "--config", str(directory / "c.toml")]

    return build


def _words(*words: str) -> Build:
    return lambda _directory: list(words)


def _dataset(spoil: Callable[[Path], object]) -> Build:
    """Copy a good dataset, spoil it, evaluate on it."""

    def build(directory: Path) -> Arguments:
        shutil.copytree(directory.parent / "dataset", directory / "d")
        spoil(directory / "d")
        flags = ["--estimators", "music", "--no-plots", "--scenes", "64", "--device", "cpu"]
        return ["eval", "--data", str(directory / "d"), *flags]

    return build


def _manifest(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Change the manifest's values; an edit that returns a list replaces them."""

    def spoil(directory: Path) -> None:
        path = directory / "dataset.json"
        values = json.loads(path.read_text())
        edited = edit(values)
        path.write_text(json.dumps(edited if isinstance(edited, list) else values))

    return spoil


def _shard(**changes: object) -> Callable[[Path], object]:
    return _manifest(lambda values: values["shards"][0].update(changes))


def _bytes(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda directory: (directory / name).write_bytes(change((directory / name).read_bytes()))


def _flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def _link(directory: Path) -> None:
    (directory / SHARD).rename(directory.parent / "elsewhere.safetensors")
    (directory / SHARD).symlink_to(directory.parent / "elsewhere.safetensors")


def _exchange(directory: Path) -> None:
    (directory / SHARD).write_bytes((directory / "shard-00001.safetensors").read_bytes())


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()


def _directory_for_shard(directory: Path) -> None:
    (directory / SHARD).unlink()
    (directory / SHARD).mkdir()


SHARD = "shard-00000.safetensors"
DATASETS: dict[str, tuple[Callable[[Path], object], int]] = {
    "no directory": (shutil.rmtree, 2),
    "an empty directory": (_empty, 2),
    "no manifest": (lambda d: (d / "dataset.json").unlink(), 4),
    "an empty manifest": (_bytes("dataset.json", lambda _: b""), 4),
    "half a manifest": (_bytes("dataset.json", lambda b: b[: len(b) // 2]), 4),
    "a manifest that is a list": (_manifest(lambda v: [v]), 4),
    "a manifest of another version": (_manifest(lambda v: v.update(schema_version=99)), 2),
    "an edited seed": (_manifest(lambda v: v.update(seed=1)), 4),
    "an edited digest": (_manifest(lambda v: v.update(digest="0" * 64)), 4),
    "an edited shard hash": (_shard(content_hash="0" * 64), 4),
    "a path out of the directory": (_shard(file="../x"), 4),
    "an absolute path": (_shard(file="/etc/passwd"), 4),
    "a missing shard": (lambda d: (d / SHARD).unlink(), 4),
    "a truncated shard": (_bytes(SHARD, lambda b: b[:1000]), 4),
    "an empty shard": (_bytes(SHARD, lambda _: b""), 4),
    "a longer shard": (_bytes(SHARD, lambda b: b + b"0"), 4),
    "a flipped bit in a shard": (_bytes(SHARD, lambda b: _flipped(b, len(b) // 2)), 4),
    "a flipped bit in a header": (_bytes(SHARD, lambda b: _flipped(b, 20)), 4),
    "shards exchanged": (_exchange, 4),
    "a link for a shard": (_link, 4),
    "a directory for a shard": (_directory_for_shard, 4),
}


def _write_npz(path: Path) -> None:
    np.savez(path, **_arrays())


def _write_pickled(directory: Path) -> Arguments:
    np.savez(directory / "m.npz", **_arrays() | {"y": np.array([{"a": 1}], dtype=object)})
    return ["locate", str(directory / "m.npz")]


CASES: list[Case] = [
    *(
        (f"{command} {arguments}", _words(*shlex.split(f"{command} {arguments}")), 2, "")
        for command, alternatives in FLAGS.items()
        for arguments in alternatives.split(" | ")
    ),
    *((f"{command}: {part}", _words(*shlex.split(command)), 2, part) for command, part in REFUSED.items()),
    *((word, _words("config", "show", word), 2, "") for word in OVERRIDES.split(" | ")),
    *((f"configuration: {name}", _config(content), 2, "c.toml: ") for name, content in FILES.items()),
    *((f"measurements: {name}", _npz(arrays), 2, "m.npz: ") for name, arrays in MEASUREMENTS.items()),
    ("measurements: pickled objects", _write_pickled, 2, "m.npz: "),
    ("measurements: no file", lambda d: ["locate", str(d / "m.npz")], 2, "m.npz: "),
    ("measurements: a directory", lambda d: ["locate", str(d)], 2, ""),
    ("measurements: an empty file", _file("m.npz", b""), 4, "m.npz: "),
    ("measurements: a pickle", _file("m.npz", pickle.dumps([1, 2])), 2, "m.npz: "),
    ("measurements: another suffix", _file("m.csv", b"1,2"), 2, "m.csv: "),
    ("measurements: HDF5", _file("m.mat", b"\x89HDF\r\n\x1a\n" + bytes(600)), 2, "m.mat: "),
    ("measurements: half an npz", _half("m.npz", _write_npz), 4, "m.npz: "),
    ("measurements: half a mat", _half("m.mat", lambda p: scipy.io.savemat(p, _arrays())), 4, "m.mat: "),
    (
        "measurements: half a safetensors",
        _half("m.safetensors", lambda p: save_file(_arrays(), p)),
        4,
        "m.safetensors: ",
    ),
    *((f"dataset: {name}", _dataset(spoil), status, "") for name, (spoil, status) in DATASETS.items()),
]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a good dataset in it."""
    directory = tmp_path_factory.mktemp("bad")
    physics = PhysicsConfig(num_snapshots=4)
    write_dataset(directory / "dataset", physics, seed=0, split="test", num_scenes=128, shard_scenes=64)
    return directory


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 60
    assert len({name for name, *_ in CASES}) == len(CASES)


@pytest.mark.parametrize(("name", "build", "status", "part"), CASES, ids=[case[0] for case in CASES])
def test_bad_input_is_answered_in_one_line(
    name: str,
    build: Build,
    status: int,
    part: str,
    workshop: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = workshop / f"case{[case[0] for case in CASES].index(name)}"
    directory.mkdir()
    arguments = build(directory)
    before = set(directory.iterdir())
    monkeypatch.chdir(directory)
    line = refused(capsys, *arguments, status=status)
    assert part in line
    assert len(line) < 600
    assert set(directory.iterdir()) - before <= {directory / "runs"}
    assert not list(directory.glob("runs/*/*/eval/results.json"))
