"""One shard: simulated, hashed and written in one pass; mapped and verified."""

import hashlib
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from risctl.config import PhysicsConfig
from risctl.data.atomic import replacing, storage_errors, write_at
from risctl.data.layout import ShardLayout
from risctl.data.manifest import Manifest, ShardEntry, shard_name
from risctl.data.mapped import map_regular
from risctl.data.stream import SceneStream
from risctl.errors import DamagedFileError, InputError

Arrays = dict[str, npt.NDArray[np.generic]]
FLOATING = ("y", "H", "symbols", "azimuth", "elevation", "range", "power", "snr_db", "noise_var")
# In fresh scenes a NaN of the channel or the symbols is in y too: four fifths of the bytes need no look.
FRESH_FLOATING = tuple(name for name in FLOATING if name not in ("H", "symbols"))


@dataclass(frozen=True)
class ShardJob:
    """Shard `index` of the dataset of `manifest`, whose entry of the shard, if there is one, must match."""

    directory: Path
    manifest: Manifest
    index: int

    @property
    def path(self) -> Path:
        """The shard's file."""
        return self.directory / shard_name(self.index)


def ensure_shard(job: ShardJob, on_scenes: Callable[[int], None] = lambda _: None) -> tuple[ShardEntry, str]:
    """Keep the shard if it has an entry and is intact, otherwise simulate and write it.

    `on_scenes` is called with the number of scenes just finished, as generation proceeds. Returned are the
    entry of the shard as it is now, and `kept`, `written` or `repaired`; or, with `conflict`, the entry that
    it would have, against the recorded one.

    Raises:
        InputError: scenes that no reader would accept (all elements dead, say).
        StorageError: disk full, permission denied, and the like; nothing half written stays.
    """
    recorded = job.manifest.entry(job.path.name)
    if recorded is None:
        return _write_shard(job, None, on_scenes), "written"
    try:
        map_shard(job.path, recorded, job.manifest.layout(job.index), verify=True)
    except DamagedFileError:
        entry = _write_shard(job, recorded, on_scenes)
        return entry, "repaired" if entry == recorded else "conflict"
    on_scenes(recorded.scenes)
    return recorded, "kept"


class _DiffersFromRecordError(Exception):
    """Raised inside `replacing` to leave the file as it was."""


def _write_shard(job: ShardJob, recorded: ShardEntry | None, on_scenes: Callable[[int], None]) -> ShardEntry:
    """Write the shard unless it differs from its entry; return the entry that it has or would have.

    It is written block by block without a copy of the tensors; the hashes need the rows in order.
    """
    layout, (start, stop) = job.manifest.layout(job.index), job.manifest.interval(job.index)
    stream = SceneStream(job.manifest.physics, job.manifest.seed, job.manifest.split)
    hashes = {name: xxhash.xxh3_128() for name in layout.tensors}
    with suppress(_DiffersFromRecordError), replacing(job.path) as descriptor:
        with storage_errors(job.path):
            write_at(descriptor, memoryview(layout.header), 0)
        for first, scenes in stream.blocks(start, stop):
            arrays = {name: t.resolve_conj().contiguous().numpy() for name, t in scenes.tensors().items()}
            if wrong := wrong_values(arrays, layout.physics, FRESH_FLOATING):
                raise InputError("physics", "", f"settings that give {wrong[0]} in every scene", wrong[1])
            for name, place in layout.tensors.items():
                array = arrays[name]
                assert array.dtype == place.dtype, name
                assert array.shape[1:] == place.shape[1:], name
                raw = array.reshape(-1).view(np.uint8).data
                hashes[name].update(raw)
                with storage_errors(job.path):
                    write_at(descriptor, raw, place.start + (first - start) * place.row_bytes)
            on_scenes(len(scenes))
        digest = combine_hashes(layout, [h.digest() for h in hashes.values()])
        size, name = layout.nbytes, job.path.name
        entry = ShardEntry(file=name, scenes=layout.scenes, bytes=size, content_hash=digest)
        if recorded not in (None, entry):
            raise _DiffersFromRecordError
    return entry


def combine_hashes(layout: ShardLayout, digests: list[bytes]) -> str:
    """Hash of a shard: BLAKE2b of its header and of its tensors' own XXH3 hashes, in file order.

    XXH3 (128 bits) guards against damage, not against forgery, and costs a few microseconds per scene where a
    cryptographic hash took a fifth of the time of the simulation. A tensor's rows arrive block by block, and
    the tensors lie one after another: hashing each on its own lets a shard of any size be written in one pass
    with the memory of one block.
    """
    return hashlib.blake2b(layout.header + b"".join(digests), digest_size=32).hexdigest()


def hash_file(layout: ShardLayout, content: memoryview) -> str:
    """Hash of a shard of this layout and content."""
    regions = (content[place.start : place.stop] for place in layout.tensors.values())
    digests = [xxhash.xxh3_128(region).digest() for region in regions]
    return combine_hashes(layout, digests)


def map_shard(path: Path, recorded: ShardEntry, layout: ShardLayout, verify: bool) -> Arrays:
    """The tensors of the shard `path` as read-only views of a memory map, as its recorded entry has them.

    `verify` checks the hash and the values too (reads the whole file once).

    Raises:
        DamagedFileError: the file is missing, a link, of another size, or not what was written.
    """
    mapped = map_regular(path, recorded.bytes)
    if mapped[: len(layout.header)] != layout.header:
        raise DamagedFileError(path, "the header its manifest calls for", "another")
    arrays = layout.arrays(np.frombuffer(mapped, dtype=np.uint8))
    if verify:
        found = hash_file(layout, memoryview(mapped))
        if found != recorded.content_hash:
            raise DamagedFileError(path, f"content hash {recorded.content_hash}", found)
        if wrong := wrong_values(arrays, layout.physics):
            raise DamagedFileError(path, *wrong)
    return arrays


def wrong_values(
    arrays: Arrays, physics: PhysicsConfig, floating: Sequence[str] = FLOATING
) -> tuple[str, str] | None:
    """Expectation and finding if a scene has impossible values (NaN, six sources of five), else None.

    `floating` are the tensors that are searched for NaN and infinity; plane waves have infinite ranges.
    """
    for name in floating:
        if name == "range" and physics.known_range == math.inf:
            continue
        numbers = arrays[name].reshape(-1).view(np.float32)
        # A finite sum proves all terms finite and needs no array of flags; an overflowing one proves nothing.
        with np.errstate(over="ignore", invalid="ignore"):
            if not (np.isfinite(numbers.sum()) or np.isfinite(numbers).all()):
                return f"finite {name}", "NaN or infinity"
    counts = arrays["num_sources"].astype(np.int64)
    if counts.min() < physics.min_sources or counts.max() > physics.max_sources:
        expected = f"num_sources from {physics.min_sources} to {physics.max_sources}"
        return expected, f"{counts.min()} to {counts.max()}"
    used = np.arange(physics.max_sources) < counts[:, None]
    levels = 2**physics.phase_bits
    if arrays["code_index"].astype(np.uint8, copy=False).max() > levels - 1:
        return f"code_index below {levels}", "a larger one"
    if not (arrays["noise_var"].astype(np.float32, copy=False) > 0).all():
        return "noise_var above 0", "0 or less"
    for name in ("range", "power"):
        numbers = arrays[name].astype(np.float32, copy=False)
        if not np.where(used, numbers > 0, numbers == 0).all():
            return f"{name} above 0 where there is a source, 0 elsewhere", "other values"
    return None
