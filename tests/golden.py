"""Golden outputs: what every command answers and writes, recorded from a checkout, compared with another's.

    python tests/golden.py record CHECKOUT OUT                   # three minutes of one core
    python tests/golden.py compare A B [--ignore REGEX] [--rename OLD=NEW]    # exit status 1 if they differ

A recording holds one JSON file per command line: exit status, the `--json` document, the lines of stderr, and
every file that the command wrote: weights as a digest per tensor, JSON as documents, text as lines, the rest
as a digest of the bytes. Left out is what differs between two recordings of the same code: times, run ids,
places, the state of git. Figures are compared bit for bit: record both on one machine, with the same
versions of everything.
`--ignore` is searched in `command: key`; the keys are `status`, `json/...`, `stderr/...`, `files/...`.
`--rename` replaces a word throughout A: what has another name in B and the same value.
`--only` takes the command lines whose names it matches, with those whose runs they use: `train$|eval$`.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from safetensors import safe_open

WORDS = {
    "SURFACE": "physics.ris_columns=6 physics.ris_rows=6 physics.num_snapshots=4 physics.num_antennas=4"
    " physics.max_sources=2",
    "NETWORK": "model.width=8 model.depth=1 model.map_rows=4 model.map_columns=8 model.map_ranges=2",
    "LENGTH": "data.train_scenes=32 data.val_scenes=32 training.batch=8 training.epochs=2 training.lr=0.0004",
    "EVERY": "model.dropout=0.05 training.checkpoint_seconds=0",
    "CELLS": "evaluation.snr_values_db=[10,20] evaluation.bootstrap=20",
    "SPACE": "search.epochs=1 search.spaces.wide.model.width.low=8 search.spaces.wide.model.width.high=24"
    " search.spaces.wide.model.depth.low=1 search.spaces.wide.model.depth.high=3",
    "SWEEP": "--estimators music,nomp --scenes 4 --sweep physics.num_snapshots=3,5",
    "SHARDS": "--scenes 96 --seed 3 data.shard_scenes=64",
}
# "NAME: COMMAND LINE", where @NAME is the run of an earlier one; "! SIGNAL n FILE": at the n-th such file
STEPS = """
config-list: config list
config-show: config show --preset full covariance.beta=0.25 --seed 4
config-diff: config diff quick search
doctor: doctor
gen-data: gen-data --out d/train --split train $SHARDS $SURFACE
gen-data-part: gen-data --out d/val --split val $SHARDS $SURFACE --shard 1/2
gen-data-rest: gen-data --out d/val --split val $SHARDS $SURFACE
gen-data-workers: gen-data --out d/test --split test --workers 2 $SHARDS $SURFACE
gen-data-shipped: gen-data --out s --split test --scenes 4
train: train $SURFACE $NETWORK $LENGTH $EVERY --seed 7
stopped: train $SURFACE $NETWORK $LENGTH $EVERY ! SIGTERM 7 last.safetensors
train-resumed: train --resume @stopped
train-forked: train --resume @train --fork training.epochs=3 training.lr=0.001
train-on-data: train --data d $NETWORK training.batch=8 training.epochs=1
overfit: overfit $SURFACE $NETWORK $LENGTH $EVERY
calibrate: calibrate @train --scenes 256 --val-scenes 256
export: export @train --out m
check-alignment: check-alignment $SURFACE $NETWORK --scenes 2
check-alignment-run: check-alignment @train --scenes 2
check-alignment-shipped: check-alignment --self-test --scenes 2
eval: eval @train --estimators learned,nomp,music,sbl,ceiling --scenes 32 $CELLS
eval-exported: eval m --estimators learned --scenes 8 --no-plots $CELLS inference.count_by=fusion
eval-data: eval --data d/test --estimators nomp,music --workers 2 --no-plots --scenes 30
eval-known: eval @train --known-num-sources --estimators learned,sbl --scenes 8 --batch 3 $CELLS
eval-shipped: eval --estimators learned --scenes 10 --no-plots $CELLS
sweep: eval $SWEEP $SURFACE $CELLS --no-plots
sweep-stopped: eval $SWEEP $SURFACE $CELLS ! SIGINT 1 _points/00.json
sweep-resumed: eval --resume @sweep-stopped
locate-nomp: locate m.npz $SURFACE --estimator nomp
locate-music: locate m.npz $SURFACE --estimator music
locate-sbl: locate m.npz $SURFACE --estimator sbl
locate-learned: locate m.npz --model @train --out found.json
locate-shipped: locate s.npz --num-sources 2
hpo: hpo $SURFACE $NETWORK $SPACE data.train_scenes=96 data.val_scenes=32 --force --trials 3
hpo-resumed: hpo --resume @hpo --trials 4
demo: demo --scenes 4 --workers 1 $NETWORK $LENGTH $CELLS inference.swap_rounds=0 inference.sbl_iterations=3
"""
DRY = """
gen-data --out e; train --preset full; overfit; calibrate @train; export @train --out n; check-alignment;
eval; locate m.npz --model @train; hpo --force; demo; bench; doctor"""
BAD = """
nosuch; config show physics.snr_mni_db=1; config show --preset fast; gen-data --out e --split dev;
train covariance.beta=1.5; train --resume /nonexistent; train --resume @train training.lr=0.01;
hpo --trials 0; eval --estimators oracle; eval @train covariance.beta=0.25 --scenes 4; train --val-data d/val;
locate none.npz; eval --data d/test physics.num_snapshots=3; locate m.npz $SURFACE --num-sources 6;
overfit --resume @train; check-alignment --scenes 1;
export @train --out m; eval --resume @hpo; hpo physics.ris_rows=6"""
STOP = """
import os, runpy, signal, sys
name, left, path = sys.argv[1:4]
def listen(event, arguments):  # files are committed by renaming, whatever the code that does it is called
    global left
    if event == "os.rename" and str(arguments[1]).endswith(path):
        left = int(left) - 1
        if left == 0:
            os.kill(os.getpid(), getattr(signal, name))
sys.addaudithook(listen)
sys.argv[:] = ["risctl", *sys.argv[4:]]
runpy.run_module("risctl", run_name="__main__")
"""
CLOCKS = re.compile(r"(^|_)(seconds|wall|cpu|argv|git|versions|hardware|started|updated|elapsed|time)(_|$)")
RUN_ID = re.compile(r"\d{8}T\d{6}Z_([\w-]+?)_[0-9a-f]{6}")
DURATION = re.compile(r"\b\d+:\d\d(:\d\d)?\b|\d[\d.,e+-]*(?= ?(m?s|us|min|h|scenes/s)\b|( [kMGT]i?B)? free)")
TIME_COLUMN = re.compile(r"(CPU|elapsed|time) ?s?\b.*?(?=  |$)")
PROGRESS = re.compile(r"\d+ of \d+, # s|, (step|epoch) \d+/")  # lines that appear as time goes by
TIMED = [r"(curves|history|parallel|sweep_\w+)\.png$", r"dry-hpo: json/trial/.*/(step|validated_scene)$"]
TIMED += [r"export: json/bytes$"]


class Recording:
    """Command lines of one checkout, run one after another in one directory."""

    def __init__(self, checkout: Path, work: Path) -> None:
        self.places, self.work = {str(work): "WORK", str(checkout): "CHECKOUT"}, work
        self.runs: dict[str, Path] = {}
        self.seen: dict[Path, int] = {}  # when files were written, up to the command before
        threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
        self.environment = os.environ | threads | {"PYTHONPATH": str(checkout), "COLUMNS": "200"}

    def run(self, name: str, line: str) -> dict[str, Any]:
        """Run one command line; what came of it."""
        line, _, stop = re.sub(r"@([\w-]+)", lambda m: str(self.runs[m[1]]), line).partition(" ! ")
        program = [sys.executable, *(["-c", STOP, *stop.split()] if stop else ["-m", "risctl"])]
        how = {"cwd": self.work, "env": self.environment, "capture_output": True, "text": True}
        done = subprocess.run([*program, *line.split(), "--json"], check=False, **how)
        now = {path: path.stat().st_mtime_ns for path in self.work.rglob("*") if path.is_file()}
        written = sorted(path for path in now if now[path] != self.seen.get(path))
        self.seen = now
        made = {path.parents[-4] for p in written if (path := p.relative_to(self.work)).parts[0] == "runs"}
        self.runs[name] = min(made, default=Path())
        files = {self.text(str(path.relative_to(self.work))): self.content(path) for path in written}
        stderr = [line for line in self.lines(done.stderr) if not PROGRESS.search(line)]
        return {"status": done.returncode, "json": self.parsed(done.stdout), "stderr": stderr, "files": files}

    def text(self, text: str) -> str:
        """Text without run ids and places."""
        for place, word in self.places.items():
            text = text.replace(place, word)
        return RUN_ID.sub(r"RUN_\1", text)

    def lines(self, text: str) -> list[str]:
        """Lines without durations, in tables neither."""
        found, columns = [], []
        for line in self.text(text).splitlines():
            header = not re.search(r"\d", line) and [m.span() for m in TIME_COLUMN.finditer(line)]
            columns = (header or columns) if line.strip() else []
            for start, end in columns:
                line = (
                    line[:start]
                    + re.sub(r"\d[\d.:e+-]*", "#", line[start:end]).rjust(end - start)
                    + line[end:]
                )
            found.append(re.sub(r"\s+", " ", DURATION.sub("#", line)).strip())
        return found

    def table(self, text: str) -> list[str]:
        """Rows of a CSV file without columns of times."""
        rows = [line.split(",") for line in self.text(text).splitlines()]
        times = [index for index, name in enumerate(rows[0]) if CLOCKS.search(name)] if rows else []
        return [",".join("#" if i in times else cell for i, cell in enumerate(row)) for row in rows]

    def clean(self, value: Any) -> Any:
        """A JSON value without times, run ids, places."""
        if isinstance(value, dict):
            return {self.text(k): self.clean(v) for k, v in value.items() if not CLOCKS.search(k)}
        if isinstance(value, list):
            return [self.clean(item) for item in value]
        return DURATION.sub("#", self.text(value)) if isinstance(value, str) else value

    def parsed(self, text: str) -> Any:
        """JSON documents are cleaned, other text is taken as lines."""
        try:
            return self.clean(json.loads(text))
        except ValueError:
            return self.lines(text)

    def content(self, path: Path) -> Any:
        """What a file holds, in a form to compare."""
        if path.suffix == ".safetensors":
            with safe_open(path, "numpy") as file:
                tensors = {name: digest(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
                return {"tensors": tensors} | {k: self.parsed(v) for k, v in (file.metadata() or {}).items()}
        if path.suffix == ".jsonl":
            return [self.clean(json.loads(line)) for line in path.read_text().splitlines()]
        if path.suffix == ".csv":
            return self.table(path.read_text())
        if path.suffix in {".json", ".toml", ".log"}:
            return self.parsed(path.read_text())
        return "" if path.suffix == ".db" else hashlib.sha256(path.read_bytes()).hexdigest()


def digest(array: Any) -> str:
    """Type, shape and hash of a tensor."""
    return f"{array.dtype}{array.shape} {hashlib.sha256(np.ascontiguousarray(array)).hexdigest()}"


def measurements(shard: Path, path: Path) -> None:
    """Write the first three scenes of a shard as a measurement file (phases of 3 bits)."""
    with safe_open(shard, "numpy") as file:
        y, H, index = (file.get_tensor(name)[:3] for name in ("y", "H", "code_index"))
    np.savez(path, y=y, H=H, codes=np.exp(2j * np.pi / 8 * index).astype(np.complex64))


def commands() -> list[tuple[str, str]]:
    """Name and words of every command line, in their order."""
    dry, bad = ([line.strip() for line in text.split(";")] for text in (DRY, BAD))
    found = [(name, line) for name, _, line in (step.partition(": ") for step in STEPS.strip().splitlines())]
    found += [(f"dry-{line.split()[0]}", f"{line} --dry-run") for line in dry]
    found += [(f"bad-{number}", line) for number, line in enumerate(bad)]
    return [(name, Template(line).substitute(WORDS)) for name, line in found]


def record(checkout: Path, out: Path, only: str) -> None:
    """Run the command lines of `checkout` in a new directory; what came of it goes to `out`."""
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as work:
        recording = Recording(checkout.resolve(), Path(work).resolve())
        for name, line in commands():
            if not re.match(only, name):
                continue
            found = recording.run(name, line)
            (out / f"{name}.json").write_text(json.dumps(found, indent=1, sort_keys=True))
            print(f"{name}: {found['status']}", flush=True)
            for data, file in (("gen-data-workers", "d/test m.npz"), ("gen-data-shipped", "s s.npz")):
                if name == data:
                    folder, target = (Path(work) / part for part in file.split())
                    measurements(min(folder.glob("*.safetensors")), target)


def flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf with its path."""
    items: Iterable[Any] = ()
    if isinstance(value, (dict, list)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
    else:
        yield key, value
    for name, item in items:
        yield from flatten(item, f"{key}/{name}" if key else str(name))


def read(path: Path, renamed: list[str]) -> dict[str, Any]:
    """The leaves of one command's recording, with some words replaced."""
    text = path.read_text() if path.exists() else "{}"
    for old, _, new in (words.partition("=") for words in renamed):
        text = re.sub(rf"\b{old}", new, text)
    return dict(flatten(json.loads(text)))


def differences(a: Path, b: Path, options: argparse.Namespace) -> Iterator[str]:
    """Key and both values of everything in which two recordings differ."""
    ignored = [*TIMED, *options.ignore]
    names = {path.name for folder in (a, b) for path in folder.glob("*.json")}
    names = {name for name in names if re.match(options.only, name[:-5])}
    if not names:
        yield "nothing was compared"
    for name in sorted(names):
        left, right = read(a / name, options.rename), read(b / name, [])
        for key in sorted(left.keys() | right.keys()):
            place, values = f"{name[:-5]}: {key}", (left.get(key, "absent"), right.get(key, "absent"))
            if repr(values[0]) != repr(values[1]) and not any(re.search(word, place) for word in ignored):
                yield f"{place}\n  a: {values[0]}\n  b: {values[1]}"


def main() -> int:
    """Parse the command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=("record", "compare"))
    parser.add_argument("paths", nargs=2, type=Path, help="CHECKOUT OUT, or two recordings")
    parser.add_argument("--ignore", action="append", default=[], metavar="REGEX")
    parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW")
    parser.add_argument("--only", default="", metavar="REGEX")
    options = parser.parse_args()
    if options.command == "record":
        record(*options.paths, options.only)
        return 0
    found = list(differences(*options.paths, options))
    print(*found, f"{len(found)} differences", sep="\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
