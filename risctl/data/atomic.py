"""Files that are either whole or absent, a lock between processes, and one-line storage errors.

A file is written under a temporary name, flushed to the disk, renamed into place, and its directory flushed.
The temporary file is held with a kernel lock while its writer lives, so a later run can tell a dead writer's
leftover (which it removes) from a live one's work (which it leaves alone).
"""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from risctl.errors import StorageError, one_line

TEMPORARY_SUFFIX = ".tmp"


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` inside the block into a `StorageError` of one line that names the file."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        named = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        place = path if not named or named.endswith(TEMPORARY_SUFFIX) else named
        reason = error.strerror or str(error)
        raise StorageError(one_line(f"{place}: {reason}")) from error


@contextmanager
def exclusive_lock(path: Path, timeout: float = 60.0) -> Iterator[None]:
    """Hold the kernel lock of the file `path` (created if need be); it ends with the process.

    `StorageError` if another process still holds it after `timeout` seconds.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        deadline = time.monotonic() + timeout
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise StorageError(f"{path}: still locked by another process after {timeout:g} s")
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[int]:
    """Yield a descriptor to write the new content of `path` to; on a clean exit it takes the place of `path`.

    On an error nothing of it is left, and what `path` held before is untouched. Errors of the block pass as
    they are.

    Raises:
        StorageError: the file cannot be created, flushed or renamed.
    """
    with storage_errors(path):
        temporary, descriptor = _create_temporary(path)
    try:
        yield descriptor
        with storage_errors(path):
            os.fsync(descriptor)
            os.replace(temporary, path)
            flush_directory(path.parent)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all; `StorageError` if it cannot be written."""
    with replacing(path) as descriptor, storage_errors(path):
        write_at(descriptor, memoryview(content), 0)


def try_writing(path: Path) -> None:
    """Raise `StorageError` now if `path` could not be written later."""
    with storage_errors(path):
        temporary, descriptor = _create_temporary(path)
        temporary.unlink()
        os.close(descriptor)


def write_at(descriptor: int, content: memoryview, offset: int) -> None:
    """Write every byte of `content` from `offset` on, in as many calls as it takes."""
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


def flush_directory(directory: Path) -> None:
    """Flush the names in `directory` to the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Mark a directory as in use by this process for `is_held`; the mark ends with the process."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks: nobody can tell then
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits for no more than another's `is_held`
        yield
    finally:
        os.close(descriptor)


def is_held(directory: Path) -> bool:
    """Whether a living process marked the directory with `held`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(directory: Path) -> None:
    """Remove temporary files whose writer has died."""
    for path in directory.glob(f".*{TEMPORARY_SUFFIX}"):
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if _try_lock(descriptor):
                    path.unlink()
            finally:
                os.close(descriptor)


def _create_temporary(path: Path) -> tuple[Path, int]:
    """Create and lock a temporary file beside `path`."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}{TEMPORARY_SUFFIX}")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        # Between creation and lock a cleaner may take the file for a leftover: then it is gone, try again.
        if _try_lock(descriptor) and os.fstat(descriptor).st_nlink == 1:
            return temporary, descriptor
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
