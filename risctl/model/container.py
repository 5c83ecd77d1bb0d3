"""The file format of a checkpoint: named tensors and one JSON document.

A safetensors file whose metadata holds the document under `state`. The document's `content_hash` covers the
rest of it and every tensor's name, type, shape and bytes. A new file is written under a temporary name,
flushed, read back and compared by hash, and only then takes the old one's place.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import safetensors.torch
import torch
import xxhash
from safetensors import SafetensorError
from torch import Tensor

from risctl.data.atomic import replacing, storage_errors, write_at
from risctl.data.mapped import parse_object, read_regular
from risctl.errors import DamagedFileError, InputError, StorageError

MAX_BYTES: Final = 8 * 2**30
DOCUMENT = "state"
HASH = "content_hash"
CHUNK = 2**24


def write_container(path: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> dict[str, Any]:
    """Write `tensors` and `document` to `path`, whole or not at all; return the document with its hash.

    Raises:
        StorageError: the file cannot be written, or reads back as something else.
    """
    packed = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    complete = {**document, HASH: content_hash(packed, document)}
    text = json.dumps(complete, separators=(",", ":"), allow_nan=False)  # in the order it was given
    content = safetensors.torch.save(packed, {DOCUMENT: text})
    with replacing(path) as descriptor, storage_errors(path):
        write_at(descriptor, memoryview(content), 0)
        os.fsync(descriptor)
        hasher, offset = xxhash.xxh3_128(), 0
        while part := os.pread(descriptor, CHUNK, offset):
            hasher.update(part)
            offset += len(part)
        if hasher.hexdigest() != xxhash.xxh3_128_hexdigest(content):
            raise StorageError(f"{path}: what was written reads back as something else")
    return complete


def read_container(path: Path, **versions: str | int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the document of `path`, which must have each key of `versions` with its value.

    Raises:
        InputError: a safetensors file that is no checkpoint, or a document of another kind or version.
        DamagedFileError: truncated, edited, or no safetensors file at all.
        StorageError: it cannot be read.
    """
    content = read_regular(path, MAX_BYTES)
    try:
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__")
    except (SafetensorError, KeyError, ValueError, RecursionError, OverflowError) as error:
        raise DamagedFileError(path, "a whole safetensors file", str(error) or type(error).__name__) from None
    if not isinstance(metadata, dict) or DOCUMENT not in metadata:
        raise InputError(path, "", "a checkpoint of risctl", "a safetensors file of something else")
    document = parse_object(path, metadata[DOCUMENT])
    if document.get(HASH) != content_hash(tensors, document):
        raise DamagedFileError(path, "the content its hash was taken of", "an edited file")
    for key, expected in versions.items():
        if document.get(key) != expected:
            raise InputError(path, key, f"{expected!r}, which this version reads", repr(document.get(key)))
    return tensors, document


def check_weights(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise `DamagedFileError` unless names, shapes and types agree and every value is finite."""
    if differing := sorted(found.keys() ^ wanted.keys()):
        state = "missing" if differing[0] in wanted else "one too many"
        raise DamagedFileError(path, "the weights of its network", f"{differing[0]} {state}")
    for name, tensor in found.items():
        want = wanted[name]
        if (tensor.shape, tensor.dtype) != (want.shape, want.dtype):
            got = f"{tuple(tensor.shape)} {tensor.dtype}"
            raise DamagedFileError(path, f"{name} of {tuple(want.shape)} {want.dtype}", got)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DamagedFileError(path, f"finite weights in {name}", "others")


def content_hash(tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> str:
    """XXH3 (128 bits, 32 hexadecimal digits) over the document without its hash and over all tensors."""
    body = {k: v for k, v in document.items() if k != HASH}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    hasher = xxhash.xxh3_128(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        hasher.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        hasher.update(tensor.reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return hasher.hexdigest()
