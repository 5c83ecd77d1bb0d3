"""`risctl gen-data`: write a dataset."""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from risctl import runs
from risctl.cli.console import closing, dry_run, progress
from risctl.cli.options import Common, common_options, named_path
from risctl.errors import InputError, require_range
from risctl.text import Document, counted, readable_bytes

if TYPE_CHECKING:
    from risctl.config import Config
    from risctl.data import DatasetSummary

SPLITS = ("train", "val", "test")
MAX_SCENES = 100_000_000


@common_options
def gen_data(
    common: Common,
    out: Annotated[
        Path,
        typer.Option(
            parser=named_path,
            metavar="PATH",
            help="Directory of the dataset; an unfinished one is continued.",
        ),
    ],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    scenes: Annotated[
        int | None, typer.Option(help="Scenes; the preset's number of the split if absent.")
    ] = None,
    shard: Annotated[
        str, typer.Option(help="Write part i of n only; several processes share a directory.")
    ] = "1/1",
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 1,
) -> Document:
    """Write a dataset of simulated scenes.

    Shards have hashes; the manifest is written last.
    """
    config = common.layers.resolve()
    count = _scene_count(config, split, scenes)
    part = parse_shard(shard)
    require_range("workers", workers, 1, 256)
    if common.dry_run:
        seconds = runs.seconds_of_dataset(config, -(-count // part[1]), workers)
        needs = runs.needs_of_dataset(config, count, workers)
        return dry_run("gen-data", config, needs, f"{count} scenes in {out}", seconds)
    summary = runs.generate(config, out, split, count, part, workers, progress)
    _report(summary, split)
    return {"command": "gen-data"} | asdict(summary) | {"directory": str(out), "complete": summary.complete}


def parse_shard(text: str) -> tuple[int, int]:
    """Part (counted from 0) and number of parts of `i/n`.

    People count parts from 0 and from 1; as n/n means 0/n, both ways cover all parts exactly once.
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    index, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 <= index <= count or count == 0:
        raise InputError("shard", "", "i/n with i = 0..n-1 or i = 1..n", repr(text))
    return index % count, count


def _scene_count(config: Config, split: str, scenes: int | None) -> int:
    if split not in SPLITS:
        raise InputError("split", "", ", ".join(SPLITS), repr(split))
    require_range("scenes", scenes, 1, MAX_SCENES)
    data = config.data
    return scenes or {"train": data.train_scenes, "val": data.val_scenes, "test": data.test_scenes}[split]


def _report(summary: DatasetSummary, split: str) -> None:
    each = readable_bytes(summary.num_bytes / summary.num_scenes)
    headline = (
        f"{counted(summary.num_scenes, 'scene')}, {readable_bytes(summary.num_bytes)} ({each} per scene); "
        f"shards: {summary.written} written, {summary.kept} kept, {summary.repaired} repaired"
    )
    if not summary.complete:
        headline += (
            f"; {summary.finished_shards} of {summary.num_shards} finished, the other parts are missing"
        )
    closing(summary.directory, headline, _next_command(summary, split))


def _next_command(summary: DatasetSummary, split: str) -> str:
    if not summary.complete:
        return "the same command with the other parts (--shard)"
    use = {"train": "train", "test": "eval"}.get(split)
    directory = shlex.quote(str(summary.directory))
    return f"risctl {use} --data {directory}" if use else f"risctl train --data TRAIN --val-data {directory}"
