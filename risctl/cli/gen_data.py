"""`risctl gen-data`: write a dataset."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from risctl.cli.console import closing, progress, say
from risctl.cli.documents import Document
from risctl.cli.machine import use_threads
from risctl.cli.options import Common, common_options, require_range
from risctl.errors import InputError

if TYPE_CHECKING:
    from risctl.config import Config
    from risctl.data import DatasetSummary

SPLITS = ("train", "val", "test")
MAX_SCENES = 100_000_000


@common_options
def gen_data(
    common: Common,
    out: Annotated[Path, typer.Option(help="Directory of the dataset; an unfinished one is continued.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    scenes: Annotated[
        int | None, typer.Option(help="Scenes; the preset's number of the split if absent.")
    ] = None,
    shard: Annotated[
        str, typer.Option(help="Write part i of n only; several processes share a directory.")
    ] = "1/1",
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 1,
) -> Document:
    """Write a dataset of simulated scenes: shards with hashes, the manifest last."""
    config = common.resolve()
    count = _scene_count(config, split, scenes)
    part = parse_shard(shard)
    require_range("--workers", workers, 1, 256)
    if common.dry_run:
        return _dry_run(config, count, out, workers)
    use_threads(common.threads)
    summary = write_scenes(config, out, split, count, part, workers)
    _report(summary)
    return {"command": "gen-data"} | asdict(summary) | {"directory": str(out), "complete": summary.complete}


def parse_shard(text: str) -> tuple[int, int]:
    """Return (part counted from 0, n) of `i/n`.

    People count parts from 0 and from 1; as n/n means 0/n, both ways cover all parts exactly once.
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    index, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 <= index <= count or count == 0:
        raise InputError("--shard", "", "i/n with i = 0..n-1 or i = 1..n", repr(text))
    return index % count, count


def _scene_count(config: Config, split: str, scenes: int | None) -> int:
    if split not in SPLITS:
        raise InputError("--split", "", ", ".join(SPLITS), repr(split))
    require_range("--scenes", scenes, 1, MAX_SCENES)
    data = config.data
    preset = {"train": data.train_scenes, "val": data.val_scenes, "test": data.test_scenes}
    return scenes or preset[split]


def _dry_run(config: Config, count: int, out: Path, workers: int) -> Document:
    from risctl.cli.needs import PROCESS_BYTES, Needs, dry_run
    from risctl.data.layout import dataset_bytes

    shard = dataset_bytes(config.physics, min(count, config.data.shard_scenes), config.data.shard_scenes)
    needs = Needs(
        disk_bytes=dataset_bytes(config.physics, count, config.data.shard_scenes),
        memory_bytes=workers * (PROCESS_BYTES + 2 * shard),
    )
    return dry_run("gen-data", config, needs, f"{count} scenes in {out}")


def write_scenes(
    config: Config, out: Path, split: str, count: int, part: tuple[int, int] = (0, 1), workers: int = 1
) -> DatasetSummary:
    """Write, continue or verify a dataset, showing progress."""
    from risctl.data import write_dataset

    with progress("scenes") as update:
        return write_dataset(
            out,
            config.physics,
            seed=config.data.seed,
            split=split,
            num_scenes=count,
            shard_scenes=config.data.shard_scenes,
            shard=part,
            workers=workers,
            progress=update,
        )


def _report(summary: DatasetSummary) -> None:
    from risctl.cli.needs import readable_bytes

    each = readable_bytes(summary.num_bytes / summary.num_scenes)
    headline = (
        f"{summary.num_scenes} scenes, {readable_bytes(summary.num_bytes)} ({each} a scene); "
        f"shards: {summary.written} written, {summary.kept} kept, {summary.repaired} repaired"
    )
    if not summary.complete:
        headline += (
            f"; {summary.finished_shards} of {summary.num_shards} finished, the other parts are missing"
        )
    say("a dataset has no bound or baseline of its own; eval shows both")
    closing(summary.directory, headline, f"risctl eval --data {summary.directory}")
