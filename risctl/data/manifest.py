"""`dataset.json`: description of a dataset, with a hash of itself so that an edited one is noticed.

While a dataset is being written the same document, listing the shards finished so far, is
`dataset.partial.json`; `dataset.json` appears when all of them are there. It holds no time or host name: the
same scenes give the same bytes.

Two datasets are compared by their settings as this version reads them (`check_same_plan`); a file keeps the
digest that it was written with when fields are added here.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, PrivateAttr

from risctl.config import PhysicsConfig, current_names, fingerprint, parse_section
from risctl.config.base import SceneCount, Section, Seed, as_tuple
from risctl.data.layout import ShardLayout
from risctl.data.mapped import parse_object, read_regular
from risctl.data.stream import BLOCK, GENERATOR_VERSION
from risctl.errors import DamagedFileError, InputError

SCHEMA_VERSION: Final = 1
MANIFEST = "dataset.json"
PARTIAL = "dataset.partial.json"
MAX_BYTES = 64_000_000
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class GeneratorInfo(Section):
    """Settings of the scenes, besides seed and split."""

    version: Annotated[int, Field(ge=1)] = GENERATOR_VERSION
    """Version of the simulator: another one makes other scenes from the same configuration."""
    block_scenes: Annotated[int, Field(ge=1)] = BLOCK
    """Scenes that share one random generator."""
    physics: PhysicsConfig
    """The physics section of the configuration."""


class ShardEntry(Section):
    """One shard file."""

    file: str
    """Name inside the dataset directory."""
    scenes: SceneCount
    """Scenes in it."""
    bytes: Annotated[int, Field(ge=1)]
    """Its size."""
    content_hash: Hash
    """BLAKE2b hash (32 bytes) of the file's header and its tensors' own hashes, in file order."""


class Manifest(Section):
    """The whole document, without its own hash (`digest`, added when it is written)."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of this document."""
    generator: GeneratorInfo
    """Settings of the scenes, besides seed and split."""
    fingerprint: str | None = None
    """Fingerprint of the physics section, for readers of the file; never compared."""
    seed: Seed
    split: Literal["train", "val", "test"]
    num_scenes: SceneCount
    """Scenes of the dataset."""
    shard_scenes: SceneCount
    """Scenes of every shard but the last, which may have fewer."""
    shards: Annotated[tuple[ShardEntry, ...], as_tuple] = ()
    """The shards in order (those finished so far, in a partial document)."""
    _digest_read: str | None = PrivateAttr(None)

    @property
    def physics(self) -> PhysicsConfig:
        """The physics section."""
        return self.generator.physics

    @property
    def num_shards(self) -> int:
        """Shards of the complete dataset."""
        return -(-self.num_scenes // self.shard_scenes)

    @property
    def complete(self) -> bool:
        """Whether every shard is listed."""
        return len(self.shards) == self.num_shards

    def interval(self, index: int) -> tuple[int, int]:
        """First scene of shard `index` and one past its last."""
        return index * self.shard_scenes, min((index + 1) * self.shard_scenes, self.num_scenes)

    def layout(self, index: int) -> ShardLayout:
        """Byte layout of shard `index`."""
        start, stop = self.interval(index)
        return ShardLayout(self.physics, stop - start)

    def entry(self, file: str) -> ShardEntry | None:
        """The entry of the shard `file`, None if it is not finished."""
        return next((shard for shard in self.shards if shard.file == file), None)

    def with_shard(self, entry: ShardEntry) -> Manifest:
        """The document with `entry` added, in order."""
        shards = {_shard_index(shard.file): shard for shard in (*self.shards, entry)}
        changed = self.model_copy(update={"shards": tuple(shards[index] for index in sorted(shards))})
        changed._digest_read = None
        return changed

    @property
    def digest(self) -> str:
        """Hash of the document, shard hashes included; as the file has it if it was read from one."""
        return self._digest_read or _digest(self.model_dump(mode="json"))

    def to_bytes(self) -> bytes:
        """The document as it is written, with its digest."""
        values = self.model_dump(mode="json")
        return (json.dumps(values | {"digest": _digest(values)}, indent=1) + "\n").encode()


def shard_name(index: int) -> str:
    """File name of shard `index`."""
    return f"shard-{index:05d}.safetensors"


def _shard_index(name: str) -> int:
    """Index in a shard's file name, -1 for any other name (`../x`, say)."""
    digits = name.removeprefix("shard-").removesuffix(".safetensors")
    index = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 10 else -1
    return index if name == shard_name(index) else -1


def build_manifest(
    physics: PhysicsConfig, seed: int, split: str, num_scenes: int, shard_scenes: int
) -> Manifest:
    """Build the document of a dataset without shards; InputError if a value is refused."""
    plan = {"seed": seed, "split": split, "num_scenes": num_scenes, "shard_scenes": shard_scenes}
    generator = {"generator": {"physics": physics}, "fingerprint": fingerprint(physics)}
    return parse_section(Manifest, generator | plan, "dataset")


def read_manifest(path: Path) -> Manifest:
    """Read and check a (partial or complete) manifest.

    Raises:
        InputError: it was written by another version.
        DamagedFileError: it is missing, unreadable as JSON, edited, or contradicts itself.
    """
    values = parse_object(path, read_regular(path, MAX_BYTES))
    version = values.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InputError(path, "schema_version", f"{SCHEMA_VERSION}, which this version reads", repr(version))
    digest = values.pop("digest", None)
    if digest != _digest(values):
        raise DamagedFileError(path, "the content its digest was taken of", "an edited file")
    if isinstance(values.get("generator"), dict):
        values["generator"] = current_names(values["generator"], path)
    try:
        manifest = parse_section(Manifest, values, path)
    except InputError as error:
        raise DamagedFileError(path, f"{error.key}: {error.expected}", error.got) from None
    manifest._digest_read = digest
    if len({shard.file for shard in manifest.shards}) != len(manifest.shards):
        raise DamagedFileError(path, "every shard once", "a shard listed twice")
    for shard in manifest.shards:
        index = _shard_index(shard.file)
        if not 0 <= index < manifest.num_shards:
            raise DamagedFileError(path, "shard files named shard-00000.safetensors and on", repr(shard.file))
        layout = manifest.layout(index)
        if (shard.scenes, shard.bytes) != (layout.scenes, layout.nbytes):
            wanted = f"{shard.file} with {layout.scenes} scenes in {layout.nbytes} bytes"
            raise DamagedFileError(path, wanted, f"{shard.scenes} scenes in {shard.bytes} bytes")
    return manifest


def check_same_plan(path: Path, found: Manifest, wanted: Manifest) -> None:
    """Raise `InputError` unless the dataset at `path` is the one to be written."""
    for old, new, prefix, free in (
        (found, wanted, "", {"shards", "generator", "fingerprint"}),
        (found.generator, wanted.generator, "generator.", {"physics"}),
        (found.physics, wanted.physics, "physics.", set()),
    ):
        before = old.model_dump(mode="json", exclude=free)
        for key, value in new.model_dump(mode="json", exclude=free).items():
            if before[key] != value:
                raise InputError(path, f"{prefix}{key}", f"{before[key]}, as the dataset there has it", value)


def _digest(values: dict[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
