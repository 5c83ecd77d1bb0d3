"""Writing a dataset: plan, verify, generate, record; safe to kill and to run from several processes at once.

Under a kernel lock `dataset.partial.json` collects the finished shards; whichever process adds the last one
turns it into `dataset.json`. A process killed at any instant leaves shards and documents that are each whole
or absent, and the next run completes them to the same bytes, because a shard's content follows from the plan
alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from risctl.config import PhysicsConfig
from risctl.data.atomic import (
    exclusive_lock,
    flush_directory,
    remove_leftovers,
    storage_errors,
    write_atomically,
)
from risctl.data.layout import dataset_bytes
from risctl.data.manifest import (
    MANIFEST,
    PARTIAL,
    Manifest,
    build_manifest,
    check_same_plan,
    read_manifest,
)
from risctl.data.shards import ShardJob, ShardOutcome, ensure_shard
from risctl.errors import DamagedFileError, InputError, StorageError
from risctl.parallel import WorkerDiedError, map_in_order

LOCK = ".dataset.lock"
SPARE_BYTES = 1_000_000
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DatasetSummary:
    """Result of a call of `write_dataset`.

    Attributes:
        directory: the dataset.
        num_scenes: scenes of the whole dataset.
        num_shards: shards of the whole dataset.
        num_bytes: size of all its shard files.
        written: shards of this call that were simulated.
        kept: shards of this call that were found intact.
        repaired: shards of this call that were found damaged and simulated again.
        finished_shards: shards recorded so far, by every process that worked on the directory.
        fingerprint: hash of the whole dataset, None while shards are missing.
    """

    directory: Path
    num_scenes: int
    num_shards: int
    num_bytes: int
    written: int
    kept: int
    repaired: int
    finished_shards: int
    fingerprint: str | None

    @property
    def complete(self) -> bool:
        """Whether every shard is there and `dataset.json` is written."""
        return self.fingerprint is not None


def write_dataset(
    directory: str | Path,
    physics: PhysicsConfig,
    seed: int,
    split: str,
    num_scenes: int,
    shard_scenes: int = 4096,
    shard: tuple[int, int] = (0, 1),
    workers: int = 1,
    progress: Progress | None = None,
) -> DatasetSummary:
    """Write, continue or verify a dataset.

    Args:
        directory: created if it does not exist.
        physics: physics section.
        seed: seed, 0 <= seed < 2^63.
        split: "train", "val" or "test".
        num_scenes: scenes of the whole dataset.
        shard_scenes: scenes of a shard file.
        shard: `(i, n)`: do only the shard files whose index is i modulo n (several machines, one directory).
        workers: processes; 1 works in this one.
        progress: called with `(scenes done, scenes to do)` of this call.

    Raises:
        InputError: a value is refused, or the directory holds another dataset.
        DamagedFileError: its manifest is damaged, or contradicts what its own settings generate.
        StorageError: disk full, permission denied, lock not obtained.
    """
    plan = build_manifest(physics, seed, split, num_scenes, shard_scenes)
    _check_shares(shard, workers)
    directory = Path(directory)
    state = _begin(directory, plan)
    jobs = [ShardJob(directory, state, index) for index in range(shard[0], plan.num_shards, shard[1])]
    _check_free_space(directory, jobs)
    counts = {"written": 0, "kept": 0, "repaired": 0}
    with closing(_outcomes(jobs, workers, _scene_counter(jobs, progress))) as outcomes:
        for outcome in outcomes:
            state = _record(directory, plan, outcome)
            counts[outcome.status] += 1
    return _summary(directory, state, counts)


def _outcomes(
    jobs: list[ShardJob], workers: int, on_scenes: Callable[[int], None]
) -> Generator[ShardOutcome, None, None]:
    """Yield the outcome of every job, in order; `on_scenes` gets the scenes of each block, or each shard."""
    workers = min(workers, len(jobs))
    if workers <= 1:
        for job in jobs:
            yield ensure_shard(job, on_scenes)
        return
    try:  # an interrupt lets running shards finish: they are short, and a killed writer leaves its file
        for outcome in map_in_order(ensure_shard, jobs, workers, finish_running=True):
            on_scenes(outcome.entry.scenes)
            yield outcome
    except WorkerDiedError:
        text = "a worker process was killed (out of memory?); run the same command again to go on"
        raise StorageError(f"{jobs[0].directory}: {text}") from None


def _summary(directory: Path, state: Manifest, counts: dict[str, int]) -> DatasetSummary:
    return DatasetSummary(
        directory=directory,
        num_scenes=state.num_scenes,
        num_shards=state.num_shards,
        num_bytes=dataset_bytes(state.physics, state.num_scenes, state.shard_scenes),
        finished_shards=len(state.shards),
        fingerprint=state.digest if state.complete else None,
        **counts,
    )


def _check_shares(shard: tuple[int, int], workers: int) -> None:
    index, count = shard
    if not 0 <= index < count:
        raise InputError("dataset", "shard", "i/n with 0 <= i < n", f"{index}/{count}")
    if workers < 1:
        raise InputError("dataset", "workers", "at least 1", workers)


def _scene_counter(jobs: list[ShardJob], progress: Progress | None) -> Callable[[int], None]:
    total = sum(job.manifest.layout(job.index).scenes for job in jobs)
    done = 0

    def add(scenes: int) -> None:
        nonlocal done
        done += scenes
        if progress is not None:
            progress(done, total)

    return add


def _begin(directory: Path, plan: Manifest) -> Manifest:
    """Create the directory and its partial manifest, or check that an existing one is of the same dataset."""
    with storage_errors(directory):
        if directory.exists() and not directory.is_dir():
            raise InputError(directory, "", "a directory", "a file")
        directory.mkdir(parents=True, exist_ok=True)
    with storage_errors(directory), exclusive_lock(directory / LOCK):
        remove_leftovers(directory)
        found = _load(directory)
        if found is None:
            if any(directory.glob("shard-*.safetensors")):
                raise InputError(
                    directory, "", "an empty or unfinished dataset", f"shards without {MANIFEST}"
                )
            write_atomically(directory / PARTIAL, plan.to_bytes())
            return plan
        check_same_plan(directory, found, plan)
        if found.complete:
            _finish(directory, found)
        return found


def _record(directory: Path, plan: Manifest, outcome: ShardOutcome) -> Manifest:
    """Add a finished shard to the manifest that all processes share."""
    entry = outcome.entry
    with storage_errors(directory), exclusive_lock(directory / LOCK):
        found = _load(directory)
        if found is None:
            raise StorageError(f"{directory}: {PARTIAL} was taken away while the dataset was being written")
        check_same_plan(directory, found, plan)
        recorded = found.entry(outcome.index)
        if recorded == entry:
            return found
        if recorded is not None:
            expected = f"{entry.file} with hash {entry.content_hash}, as its settings generate here"
            raise DamagedFileError(_document(directory, found), expected, recorded.content_hash)
        state = found.with_shard(entry)
        if state.complete:
            _finish(directory, state)
        else:
            write_atomically(directory / PARTIAL, state.to_bytes())
        return state


def _document(directory: Path, state: Manifest) -> Path:
    return directory / (MANIFEST if state.complete else PARTIAL)


def _finish(directory: Path, state: Manifest) -> None:
    """Write the final manifest; the partial one is removed only when that is safely on the disk."""
    if not (directory / MANIFEST).exists():
        write_atomically(directory / MANIFEST, state.to_bytes())
    if (directory / PARTIAL).exists():
        (directory / PARTIAL).unlink()
        flush_directory(directory)


def _load(directory: Path) -> Manifest | None:
    for name in (MANIFEST, PARTIAL):
        # lexists semantics: a dangling link must reach the reader, which refuses it.
        if (directory / name).is_symlink() or (directory / name).exists():
            return read_manifest(directory / name)
    return None


def _check_free_space(directory: Path, jobs: list[ShardJob]) -> None:
    """Raise `StorageError` before any work if the shards still to be written cannot fit."""
    needed = sum(job.manifest.layout(job.index).nbytes for job in jobs if not job.path.exists())
    with storage_errors(directory):
        free = shutil.disk_usage(directory).free
    if needed and free < needed + SPARE_BYTES:
        raise StorageError(
            f"{directory}: needs {needed / 1e6:.1f} MB of disk space, {free / 1e6:.1f} MB are free"
        )
