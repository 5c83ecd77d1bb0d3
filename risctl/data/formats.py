"""Named arrays in `.npz`, `.safetensors` and `.mat` files, which may be wrong, damaged or hostile.

Nothing here unpickles. Sizes are checked against the file before memory is asked for. A file that is not
of its format is an input error; one that begins as its format does but cannot be read to the end is a damaged
file.
"""

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch
from numpy.lib import format as npy
from scipy.io import savemat

from risctl.data.atomic import storage_errors
from risctl.data.description import TEXT_BYTES, TEXTS
from risctl.data.mapped import check_unpacked
from risctl.data.matlab import read_matlab
from risctl.errors import DamagedFileError, InputError, require_file

Array = npt.NDArray[np.generic]
SIGNATURE_BYTES = 520
# Exceptions of the libraries on corrupted files; each of them was observed.
NPZ_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, SyntaxError, tokenize.TokenError, OSError)


@dataclass(frozen=True)
class Format:
    """How files of one suffix are read and written.

    Attributes:
        read: from the path, the keys wanted and the file's first bytes to those arrays that it has, and the
            names of all.
        write: from the arrays to the file's bytes.
    """

    read: Callable[[Path, Sequence[str], bytes], tuple[dict[str, Array], list[str]]]
    write: Callable[[Mapping[str, Array]], bytes]


def read_arrays(path: Path, keys: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Array]:
    """Read the arrays `keys`, and the `optional` ones that are there, with type and shape as they are stored.

    A text (`risctl.data.description.TEXTS`) comes as a string array of no axis.

    Raises:
        InputError: missing file, unknown format, missing key, something other than a plain array of numbers.
        DamagedFileError: truncated or corrupt.
        StorageError: it cannot be read.
    """
    found, present = _read(path, [*keys, *optional])
    for key in keys:
        if key not in found:
            names = ", ".join(sorted(present)[:8]) or "nothing"
            raise InputError(path, key, "an array of this name", f"only {names}")
    return found


def array_names(path: Path) -> list[str]:
    """The names of the arrays in the file `path`; errors as in `read_arrays`."""
    return _read(path, ())[1]


def _read(path: Path, keys: Sequence[str]) -> tuple[dict[str, Array], list[str]]:
    """The arrays `keys` that the file has, and the names of all."""
    read = format_of(path).read
    with storage_errors(path):
        require_file(path)
        with path.open("rb") as stream:
            start = stream.read(SIGNATURE_BYTES)
    if not start:
        raise DamagedFileError(path, "a measurement file", "an empty file")
    return read(path, keys, start)


def format_of(path: Path) -> Format:
    """The format that the suffix names; InputError for an unknown one."""
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise InputError(path, "", f"a file named {', '.join('*' + name for name in FORMATS)}", path.name)
    return found


def _read_npz(path: Path, keys: Sequence[str], start: bytes) -> tuple[dict[str, Array], list[str]]:
    if not start.startswith(b"PK"):
        raise InputError(path, "", "an .npz (zip) archive", "another format")
    try:
        with zipfile.ZipFile(path) as archive:
            present = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            check_unpacked(
                path, sum(archive.getinfo(f"{key}.npy").file_size for key in keys if key in present)
            )
            return {key: _read_npy(path, key, archive) for key in keys if key in present}, present
    except (InputError, DamagedFileError):
        raise
    except NPZ_ERRORS as error:
        raise DamagedFileError(path, "a readable .npz archive", _brief(error)) from None
    except RuntimeError as error:  # encrypted, or an unknown compression (NotImplementedError)
        raise InputError(path, "", "a plain or deflated .npz archive", _brief(error)) from None


def _read_npy(path: Path, key: str, archive: zipfile.ZipFile) -> Array:
    member = archive.getinfo(f"{key}.npy")
    with archive.open(member) as stream:
        first = npy.read_magic(stream) == (1, 0)
        read_header = npy.read_array_header_1_0 if first else npy.read_array_header_2_0
        try:
            shape, fortran, dtype = read_header(stream)
        except (MemoryError, RecursionError):  # of the parser, on thousands of nested signs
            raise DamagedFileError(path, f"the header of {key}", "one too deep to be parsed") from None
        if any(length < 0 for length in shape):
            raise ValueError("an axis of negative length")
        if dtype.hasobject:
            raise InputError(path, key, "plain numbers", "pickled Python objects (refused)")
        is_text = key in TEXTS and dtype.kind == "U" and shape == () and dtype.itemsize <= TEXT_BYTES
        if dtype.kind not in "biufc" and not is_text:
            raise InputError(path, key, "plain numbers", f"an array of {dtype}")
        size = math.prod(shape) * dtype.itemsize
        if size != member.file_size - stream.tell():
            raise DamagedFileError(path, f"{size} bytes of {key}", member.file_size - stream.tell())
        array: Array = np.frombuffer(stream.read(), dtype=dtype)
        return array.reshape(shape, order="F" if fortran else "C")


def _read_safetensors(path: Path, keys: Sequence[str], _start: bytes) -> tuple[dict[str, Array], list[str]]:
    with storage_errors(path):
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                present = list(file.keys())
                tensors = {key: file.get_tensor(key) for key in keys if key in present}
                texts = {key: text for key, text in (file.metadata() or {}).items() if key in keys}
                arrays: dict[str, Array] = {
                    key: tensor.numpy() for key, tensor in tensors.items() if tensor.dtype != torch.bfloat16
                }
        except (safetensors.SafetensorError, ValueError, RuntimeError) as error:  # a shape beyond all memory
            raise DamagedFileError(path, "a readable .safetensors file", _brief(error)) from None
    for key in tensors.keys() - arrays.keys():
        raise InputError(path, key, "numbers of a type that NumPy has", str(tensors[key].dtype))
    return arrays | {key: np.array(text[:TEXT_BYTES]) for key, text in texts.items() if key in TEXTS}, present


def _brief(error: Exception) -> str:
    """A library's message, shortened: it may quote file content at length."""
    text = str(error) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."


def _npz_bytes(arrays: Mapping[str, Array]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **dict[str, Any](arrays))
    return stream.getvalue()


def _safetensors_bytes(arrays: Mapping[str, Array]) -> bytes:
    texts = {key: str(array) for key, array in arrays.items() if key in TEXTS}
    numbers = {key: array for key, array in arrays.items() if key not in TEXTS}
    return safetensors.numpy.save(numbers, metadata=texts or None)


def _mat_bytes(arrays: Mapping[str, Array]) -> bytes:
    stream = io.BytesIO()
    savemat(stream, dict(arrays))
    return stream.getvalue()


FORMATS = {
    ".npz": Format(_read_npz, _npz_bytes),
    ".safetensors": Format(_read_safetensors, _safetensors_bytes),
    ".mat": Format(read_matlab, _mat_bytes),
}
