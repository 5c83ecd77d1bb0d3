"""Writing a dataset: plan, verify, generate, record; safe to kill and to run from several processes at once.

Under a kernel lock `dataset.partial.json` collects the finished shards; whichever process adds the last one
turns it into `dataset.json`. A process killed at any instant leaves shards and documents that are each whole
or absent, and the next run completes them to the same bytes, because a shard's content follows from the plan
alone.
"""

import os
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
    ShardEntry,
    build_manifest,
    check_same_plan,
    read_manifest,
)
from risctl.data.shards import ShardJob, ensure_shard
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
    if not 0 <= shard[0] < shard[1]:
        raise InputError("dataset", "shard", "i/n with 0 <= i < n", f"{shard[0]}/{shard[1]}")
    if workers < 1:
        raise InputError("dataset", "workers", "at least 1", workers)
    directory = Path(directory)
    state = _begin(directory, plan)
    jobs = [ShardJob(directory, state, index) for index in range(shard[0], plan.num_shards, shard[1])]
    _check_free_space(directory, jobs)
    counts = {"written": 0, "kept": 0, "repaired": 0}
    with closing(_outcomes(jobs, workers, progress)) as outcomes:
        for entry, status in outcomes:
            state = _record(directory, plan, entry)
            counts[status] += 1
    return DatasetSummary(
        directory=directory,
        num_scenes=num_scenes,
        num_shards=state.num_shards,
        num_bytes=dataset_bytes(physics, num_scenes, shard_scenes),
        finished_shards=len(state.shards),
        fingerprint=state.digest if state.complete else None,
        **counts,
    )


def _outcomes(
    jobs: list[ShardJob], workers: int, progress: Progress | None
) -> Generator[tuple[ShardEntry, str], None, None]:
    """Yield entry and status of every shard, in order; report progress after each block, or each shard."""
    done, total = 0, sum(job.manifest.layout(job.index).scenes for job in jobs)

    def add(scenes: int) -> None:
        nonlocal done
        done += scenes
        if progress is not None:
            progress(done, total)

    workers = min(workers, len(jobs))
    if workers <= 1:
        for job in jobs:
            yield ensure_shard(job, add)
        return
    try:  # an interrupt lets running shards finish: they are short, and a killed writer leaves its file
        for entry, status in map_in_order(ensure_shard, jobs, workers, finish_running=True):
            add(entry.scenes)
            yield entry, status
    except WorkerDiedError:
        text = "a worker process was killed (out of memory?); run the same command again to go on"
        raise StorageError(f"{jobs[0].directory}: {text}") from None


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
            _store(directory, plan)
            return plan
        check_same_plan(directory, found, plan)
        if found.complete:
            _store(directory, found)
        return found


def _record(directory: Path, plan: Manifest, entry: ShardEntry) -> Manifest:
    """Add a finished shard to the manifest that all processes share."""
    with storage_errors(directory), exclusive_lock(directory / LOCK):
        found = _load(directory)
        if found is None:
            raise StorageError(f"{directory}: {PARTIAL} was taken away while the dataset was being written")
        check_same_plan(directory, found, plan)
        recorded = found.entry(entry.file)
        if recorded == entry:
            return found
        if recorded is not None:
            expected = f"{entry.file} with hash {entry.content_hash}, as its settings generate here"
            document = directory / (MANIFEST if found.complete else PARTIAL)
            raise DamagedFileError(document, expected, recorded.content_hash)
        state = found.with_shard(entry)
        _store(directory, state)
        return state


def _store(directory: Path, state: Manifest) -> None:
    """Write the manifest; the partial one is removed only when the final one is safely on the disk."""
    if not state.complete:
        write_atomically(directory / PARTIAL, state.to_bytes())
        return
    if not (directory / MANIFEST).exists():
        write_atomically(directory / MANIFEST, state.to_bytes())
    if (directory / PARTIAL).exists():
        (directory / PARTIAL).unlink()
        flush_directory(directory)


def _load(directory: Path) -> Manifest | None:
    for name in (MANIFEST, PARTIAL):
        if os.path.lexists(directory / name):  # a dangling link must reach the reader, which refuses it
            return read_manifest(directory / name)
    return None


def _check_free_space(directory: Path, jobs: list[ShardJob]) -> None:
    """Raise `StorageError` before any work if the shards still to be written cannot fit."""
    needed = sum(job.manifest.layout(job.index).nbytes for job in jobs if not job.path.exists())
    with storage_errors(directory):
        free = shutil.disk_usage(directory).free
    if needed and free < needed + SPARE_BYTES:
        total = (needed + SPARE_BYTES) / 1e6
        raise StorageError(f"{directory}: needs {total:.1f} MB of disk space, {free / 1e6:.1f} MB are free")
