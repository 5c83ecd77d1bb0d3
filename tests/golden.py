"""Golden outputs: what every command answers and writes, recorded from a checkout, compared with another's.

    python tests/golden.py record CHECKOUT OUT                   # three minutes of one core
    python tests/golden.py compare A B [--ignore REGEX] [--rename OLD=NEW]    # exit status 1 if they differ

A recording holds one JSON file per command line: exit status, the `--json` document, the lines of stderr, and
every file written: weights as a digest per tensor, JSON and text as they are, the rest as a digest. Left out
is what differs between two recordings of the same code: times, run ids, places, the state of git. Figures
are compared bit for bit: record both on one machine, with the same versions of everything.
The command lines are in golden.txt.
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
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from safetensors import safe_open

COMMANDS = Path(__file__).with_suffix(".txt")
# files to locate in: of which dataset, and their name
MEASURED = {"gen-data-workers": ("d/test", "m.npz"), "gen-data-shipped": ("s", "s.npz")}
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
TIME = re.compile(r"\d[\d.:e+-]*")
PROGRESS = re.compile(r"\d+ of \d+, # s|, (step|epoch) \d+/")  # lines that appear as time goes by
TIMED = [r"(curves|history|parallel|sweep_\w+)\.png$", r"dry-hpo: json/trial/.*/(step|validated_scene)$"]
TIMED += [r"export: json/bytes$"]


class Recording:
    """Command lines of one checkout, run one after another in one directory."""

    def __init__(self, checkout: Path, work: Path) -> None:
        self.work, self.places = work, {str(work): "WORK", str(checkout): "CHECKOUT"}
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
                times = TIME.sub("#", line[start:end]).rjust(end - start)
                line = line[:start] + times + line[end:]
            found.append(re.sub(r"\s+", " ", DURATION.sub("#", line)).strip())
        return found

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
        match path.suffix:
            case ".safetensors":
                with safe_open(path, "numpy") as file:
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                    texts = {key: self.parsed(text) for key, text in (file.metadata() or {}).items()}
                return texts | {
                    "tensors": {k: f"{x.dtype}{x.shape} {digest(x.tobytes())}" for k, x in tensors.items()}
                }
            case ".jsonl":
                return [self.clean(json.loads(line)) for line in path.read_text().splitlines()]
            case ".csv":
                rows = [line.split(",") for line in self.text(path.read_text()).splitlines()]
                times = {i for i, name in enumerate(rows[0]) if CLOCKS.search(name)} if rows else set()
                return [",".join("#" if i in times else cell for i, cell in enumerate(row)) for row in rows]
            case ".json" | ".toml" | ".log":
                return self.parsed(path.read_text())
            case ".db":
                return ""
        return digest(path.read_bytes())


def digest(content: bytes) -> str:
    """Hash of bytes."""
    return hashlib.sha256(content).hexdigest()


def commands(only: str) -> list[tuple[str, str]]:
    """Name and words of the command lines whose names match, in their order."""
    text = COMMANDS.read_text()
    words = dict(re.findall(r"^\$(\w+) = (.*)", text, re.M))
    found = re.findall(r"^([\w-]+): (.*)", text, re.M)
    return [(name, Template(line).substitute(words)) for name, line in found if re.match(only, name)]


def record(checkout: Path, out: Path, only: str) -> None:
    """Run the command lines of `checkout` in a new directory; what came of it goes to `out`."""
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as work:
        recording = Recording(checkout.resolve(), Path(work).resolve())
        for name, line in commands(only):
            found = recording.run(name, line)
            (out / f"{name}.json").write_text(json.dumps(found, indent=1, sort_keys=True))
            print(f"{name}: {found['status']}", flush=True)
            if name in MEASURED:  # the first three scenes of its first shard as a measurement file
                folder, target = MEASURED[name]
                with safe_open(min(Path(work, folder).glob("*.safetensors")), "numpy") as file:
                    y, H, index = (file.get_tensor(key)[:3] for key in ("y", "H", "code_index"))
                codes = np.exp(2j * np.pi / 8 * index).astype(np.complex64)  # phases of 3 bits
                np.savez(Path(work, target), y=y, H=H, codes=codes)


def flatten(value: Any, key: str = "") -> dict[str, Any]:
    """Every leaf by its path."""
    if not value or not isinstance(value, dict | list):
        return {key: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {k: v for name, item in items for k, v in flatten(item, f"{key}/{name}".lstrip("/")).items()}


def differences(a: Path, b: Path, options: argparse.Namespace) -> Iterator[str]:
    """Key and both values of everything in which two recordings differ."""
    names = {path.stem for folder in (a, b) for path in folder.glob("*.json")}
    names = {name for name in names if re.match(options.only, name)}
    if not names:
        yield "nothing was compared"
    for name in sorted(names):
        texts = [
            path.read_text() if path.exists() else "{}" for path in (a / f"{name}.json", b / f"{name}.json")
        ]
        for old, _, new in (words.partition("=") for words in options.rename):
            texts[0] = re.sub(rf"\b{old}", new, texts[0])
        left, right = (flatten(json.loads(text)) for text in texts)
        for key in sorted(left.keys() | right.keys()):
            place, values = f"{name}: {key}", (left.get(key, "absent"), right.get(key, "absent"))
            ignored = any(re.search(word, place) for word in [*TIMED, *options.ignore])
            if repr(values[0]) != repr(values[1]) and not ignored:
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
