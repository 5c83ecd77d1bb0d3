"""Malformed input of every kind, through the command line: one line saying what is wrong, the right status.

No traceback, nothing on stdout, nothing left behind that looks finished. The files are those of tests/data.
"""

import shlex
from pathlib import Path

import pytest

from tests.cli.command import Capture, refused
from tests.data.test_malformed import DATASET_CASES, MEASUREMENT_CASES, Case

# Arguments by command, and what else is refused with the words that must be in the line.
FLAGS = {
    "": "nosuch | config | config nosuch | gen-data | locate",
    "config show": (
        "--nope | --seed x | --seed -1 | --seed 9223372036854775808 | --threads 0 | --device gpu"
        " | --preset fast | --device cuda:x | --preset ../quick | --config /nonexistent.toml"
        " | physics.snr_mni_db=1 | word"
    ),
    "config diff": "quick | quick nosuch",
    "gen-data --out": "'' | d --split dev | d --scenes 0 | d --scenes 1.5 | d --workers 0",
    "eval": (
        "runs/train/somewhere | --estimators oracle | --estimators learned physics.ris_rows=6"
        " | --estimators '' | --estimators nomp,nomp | /nonexistent | / | runs/x covariance.beta=2"
        " | --batch 0 | --workers 1000 | --scenes 0 | physics.snapshots=3"
        " | --data d physics.num_snapshots=3 | --threads 2"
    ),
    "train": (
        "--resume /nonexistent | --resume / | --resume . | --data /nonexistent"
        " | runs/x | --device cuda:99 | --preset none | training.epochs=0 | training.epoch=1"
        " | data.train_scenes=8 training.batch=64 | training.warmup_fraction=0.9 training.swa_fraction=0.5"
    ),
    "overfit": (
        "training.epochs=31 | data.validate_on=val | data.repeat=false | --resume /nonexistent"
        " | model.head=free"
    ),
    "locate f.npz": (
        "--estimator learned physics.ris_rows=6 | --model runs/x | --num-sources 0"
        " | --num-sources two | --out /nonexistent/x.json | --out / | --out x.txt | --picture x.jpg"
    ),
    "example": " | x.txt | nowhere/x.npz | . | x.npz --scenes 0 | x.npz --preset none",
}
PARTS = ("", "1", "2/1", "3/2", "-1/2", "1/0", "0/0", "a/b", "1/2/3", "1/99999999")
SNAPSHOTS = "--sweep physics.num_snapshots=3,5"
REFUSED = {
    "train --val-data d/val": "--val-data: expected a training dataset",
    "train --data d physics.num_snapshots=5": "--data: expected no physics.* override",
    "train data.source=store": "--data: expected a dataset beside data.source",
    "eval physics.wavelength": "override: expected section.key=value, got physics.wavelength",
    "train trainin.epochs=1": "(nearest: training.epochs), got 'trainin'",
    "config explain covarianc.beta": "section.key (nearest: covariance.beta), got 'covarianc.beta'",
    "config diff quick nope": "nope: expected a preset (",
    "eval --nope": "(see risctl eval --help)",
    "export runs/x --out ' '": "expected a path, got nothing",
    f"config show physics.ris_rows=0x{'f' * 3900}": "physics.ris_rows: expected ",
    f"config show data.seed=0x{'f' * 10_000}": "data.seed: expected a TOML scalar or array of at most",
    "train --name a/b": "--name: expected letters, digits",
    "train --name a --out b": "--out: expected nothing beside name",
    "eval --out .": "--out: expected a directory that does not exist",
    "eval --resume . --name a": "--resume: expected nothing beside it",
    "train physics.range_min=1e-300": "physics.range_min: expected greater than or equal to",
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
    "locate x.npz --estimator ceiling": "sbl, got 'ceiling', an oracle that needs the true positions",
    "locate x.npz --num-sources 6": "--num-sources: expected 1 to 5",
    "locate x.npz --out nowhere/x.json": "--out: expected a file in an existing directory",
    "locate x.npz --estimator learned covariance.beta=0.26": "the shipped model: covariance.beta: expected",
    **{f"gen-data --out d --shard '{shard}'": "--shard: expected i/n" for shard in PARTS},
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
    "physics=3 | physics.wavelength= | physics.wavelength=nan | physics.wavelength='0.3'"
    " | physics.impairments=1 | physics.min_sources=6 | physics.range_min=20 | physics.symbols=constant"
    " | evaluation.estimators=[]"
)
LINES = (
    *((f"{command} {words}", "") for command, cases in FLAGS.items() for words in cases.split(" | ")),
    *REFUSED.items(),
    *((f"config show {shlex.quote(word)}", "") for word in OVERRIDES.split(" | ")),
)


def _check(capsys: Capture, arguments: list[str], status: int, *parts: str) -> None:
    before = set(Path().iterdir())
    line = refused(capsys, *arguments, status=status)
    assert all(part in line for part in parts)
    assert len(line) < 600
    assert set(Path().iterdir()) - before <= {Path("runs")}
    assert not list(Path().glob("runs/*/*/eval/results.json"))


@pytest.mark.parametrize(("line", "part"), LINES)
def test_a_bad_command_line_is_answered_in_one_line(line: str, part: str, capsys: Capture) -> None:
    _check(capsys, shlex.split(line), 2, part)


@pytest.mark.parametrize(
    "content", [b"[physics", b"[physics.phase_bits]\nx = 1\n", b".".join([b"a"] * 20_000) + b" = 1"]
)
def test_a_bad_configuration_file_is_answered_in_one_line(content: bytes, capsys: Capture) -> None:
    Path("c.toml").write_bytes(content)
    _check(capsys, ["config", "show", "--config", "c.toml"], 2, "c.toml: ")


@pytest.mark.parametrize("case", MEASUREMENT_CASES, ids=lambda case: case.name)
def test_a_bad_measurement_file_is_answered_in_one_line(case: Case, tmp_path: Path, capsys: Capture) -> None:
    _check(capsys, ["locate", str(case.build(tmp_path))], case.error.exit_status, *case.words)


@pytest.mark.parametrize("case", DATASET_CASES, ids=lambda case: case.name)
def test_a_bad_dataset_is_answered_in_one_line(case: Case, tmp_path: Path, capsys: Capture) -> None:
    evaluation = ("eval", "--estimators", "music", "--no-plots", "--data", str(case.build(tmp_path)))
    _check(capsys, [*evaluation], case.error.exit_status, *case.words)
