"""Opening files that somebody else may have prepared: regular files only, no symbolic links."""

import errno
import json
import mmap
import os
import stat
from pathlib import Path
from typing import Any

from risctl.data.atomic import storage_errors
from risctl.errors import DamagedFileError, InputError

REGULAR = "a regular file inside the dataset directory"
# Noise cannot be compressed: what unpacks to far more than the file's size holds no snapshots.
UNPACKED_BYTES, UNPACKED_RATIO, MAX_UNPACKED_BYTES = 256 << 20, 100, 4 << 30


def open_regular(path: Path) -> int:
    """Open the regular file `path` read-only and return its descriptor.

    The last component may not be a symbolic link (it could lead anywhere), a directory, a pipe or a device.

    Raises:
        DamagedFileError: if the file is missing or is something else.
        StorageError: if it cannot be read.
    """
    with storage_errors(path):
        try:
            # O_NONBLOCK: opening a pipe nobody writes to would wait for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise DamagedFileError(path, REGULAR, "a symbolic link") from None
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENXIO):
                raise DamagedFileError(path, REGULAR, "nothing to read there") from None
            raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DamagedFileError(path, REGULAR, "something else")
    return descriptor


def file_size(path: Path) -> int:
    """Size in bytes of the regular file `path`; same errors as `open_regular`."""
    with os.fdopen(open_regular(path), "rb") as stream:
        return os.fstat(stream.fileno()).st_size


def read_regular(path: Path, limit: int) -> bytes:
    """Read the regular file `path`, which may have at most `limit` bytes."""
    descriptor = open_regular(path)
    with storage_errors(path), os.fdopen(descriptor, "rb") as stream:
        content = stream.read(min(os.fstat(descriptor).st_size, limit) + 1)  # one more: has it grown since?
    if len(content) > limit:
        raise DamagedFileError(path, f"at most {limit} bytes", "a larger file")
    return content


def check_unpacked(path: Path, size: int) -> None:
    """Refuse a measurement file whose arrays would take `size` bytes, before that memory is asked for."""
    limit = min(max(UNPACKED_BYTES, UNPACKED_RATIO * path.stat().st_size), MAX_UNPACKED_BYTES)
    if size > limit:
        expected = f"at most {limit / 2**30:.2f} GiB once unpacked (arrays that repeat: once for all scenes)"
        raise InputError(path, "", expected, f"{size / 2**30:.2f} GiB")


def parse_object(path: Path, text: str | bytes) -> dict[str, Any]:
    """Parse the JSON object `text` of the file `path`; DamagedFileError for anything else, NaN included."""
    try:
        values = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise DamagedFileError(path, "a JSON document", "something else") from None
    if not isinstance(values, dict):
        raise DamagedFileError(path, "a JSON object", type(values).__name__)
    return values


def _refuse(text: str) -> None:
    raise ValueError(text)


def map_regular(path: Path, size: int) -> mmap.mmap:
    """Map the regular file `path`, which must hold exactly `size` bytes, read-only into memory."""
    with os.fdopen(open_regular(path), "rb") as stream, storage_errors(path):
        found = os.fstat(stream.fileno()).st_size
        if found != size or size == 0:
            raise DamagedFileError(path, f"{size} bytes", f"{found} bytes")
        return mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
