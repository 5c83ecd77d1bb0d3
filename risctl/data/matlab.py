"""Reading numeric arrays from MATLAB files of version 5 to 7.

SciPy's reader trusts the lengths inside the file, and one flipped bit can end the process. Here every length
is checked before it is used. Format: "MAT-File Format", The MathWorks (Level 5 MAT-files).
"""

import math
import mmap
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from risctl.data.atomic import storage_errors
from risctl.data.description import TEXT_BYTES, TEXTS
from risctl.data.mapped import check_unpacked
from risctl.errors import DamagedFileError, InputError

Array = npt.NDArray[np.generic]
FILE_HEADER = 128
HDF5 = b"\x89HDF\r\n\x1a\n"
MATRIX, COMPRESSED = 14, 15
NUMBER_TYPES = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
NUMERIC_CLASSES, CHAR_CLASS = range(6, 16), 4
CHAR_TYPES = {2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
OTHER_CLASSES = {1: "cell array", 2: "struct", 3: "object", 4: "char array", 5: "sparse array"}
COMPLEX_FLAG = 0x0800
# Flags, dimensions and name of a variable take far less than this.
HEAD_BYTES = 4096


class BrokenError(ValueError):
    """The bytes contradict the format."""


@dataclass(frozen=True)
class Variable:
    """A variable's description, and the bytes of its numbers."""

    name: str
    kind: int
    is_complex: bool
    shape: tuple[int, ...]
    numbers: memoryview
    order: str


def read_matlab(path: Path, keys: Sequence[str], start: bytes) -> tuple[dict[str, Array], list[str]]:
    """Read the arrays `keys` of a .mat file (those it has) as they are stored, and the names of all.

    `start` are the first 520 bytes of the file.

    Raises:
        InputError: v7.3, v4 or no MATLAB file at all; a cell array, struct or the like.
        DamagedFileError: truncated or corrupt.
    """
    if HDF5 in (start[:8], start[512:520]):
        raise InputError(path, "", "a .mat file up to v7 (save it with '-v7')", "v7.3 (HDF5)")
    order = {b"IM": "<", b"MI": ">"}.get(start[126:128], "")
    if not order:
        if start.startswith(b"MATLAB"):
            raise DamagedFileError(path, "the header of a .mat file", "another")
        raise InputError(path, "", "a .mat file of version 5 to 7", "another format")
    try:
        with storage_errors(path), path.open("rb") as stream:
            content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        found, names, at, total = {}, [], FILE_HEADER, 0
        while at < len(content):
            kind, body, at = _element(content, at, order)
            if kind not in (MATRIX, COMPRESSED):
                raise BrokenError(f"an element of type {kind}")
            packed = kind == COMPRESSED
            head = _head(body, order, packed)
            names.append(head.name)
            if head.name in keys:
                total += _unpacked_size(body, order) if packed else len(body)
                check_unpacked(path, total)
                variable = _head(_unpack(body, order), order, packed=False) if packed else head
                found[head.name] = _numbers(path, variable)
        return found, names
    except (BrokenError, struct.error, zlib.error) as error:
        raise DamagedFileError(path, "a readable .mat file", error) from None


def _element(data: memoryview, at: int, order: str) -> tuple[int, memoryview, int]:
    """Type and bytes of the element at `at`, and the position after it."""
    (kind,) = struct.unpack_from(f"{order}I", data, at)
    if kind >> 16:  # "small" element: length and type share a word, the data the next
        size, first, after = kind >> 16, at + 4, at + 8
        kind &= 0xFFFF
        if size > 4:
            raise BrokenError(f"a small element of {size} bytes")
    else:
        (size,) = struct.unpack_from(f"{order}I", data, at + 4)
        first = at + 8
        after = first + (size if kind == COMPRESSED else -(-size // 8) * 8)
    if first + size > len(data):
        raise BrokenError(f"{first + size - len(data)} bytes too few")
    return kind, data[first : first + size], after


def _head(body: memoryview, order: str, packed: bool) -> Variable:
    """The variable in `body`; without its numbers if it is `packed` (compressed)."""
    if packed:
        body = memoryview(zlib.decompressobj().decompress(body, HEAD_BYTES))[8:]
    kind, flags, at = _element(body, 0, order)
    if kind != 6 or len(flags) != 8:
        raise BrokenError("a variable without flags")
    (word,) = struct.unpack_from(f"{order}I", flags)
    kind, sizes, at = _element(body, at, order)
    if kind != 5 or len(sizes) % 4:
        raise BrokenError("a variable without dimensions")
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    if len(shape) > 32 or any(length < 0 for length in shape):
        raise BrokenError(f"dimensions {shape[:8]}")
    _, name, at = _element(body, at, order)
    text = bytes(name).decode("latin-1")
    return Variable(text, word & 0xFF, bool(word & COMPLEX_FLAG), shape, body[at:], order)


def _unpacked_size(body: memoryview, order: str) -> int:
    """The length that a compressed variable says it has."""
    _, size = struct.unpack(f"{order}II", zlib.decompressobj().decompress(body, 8))
    return int(size)


def _unpack(body: memoryview, order: str) -> memoryview:
    """Decompress a variable; its length and checksum must be right."""
    stream = zlib.decompressobj()
    kind, size = struct.unpack(f"{order}II", stream.decompress(body, 8))
    if kind != MATRIX:
        raise BrokenError(f"a compressed element of type {kind}")
    content = stream.decompress(stream.unconsumed_tail, max(size, 1))
    rest = stream.decompress(stream.unconsumed_tail, 16)
    if len(content) != size or rest or not stream.eof:
        raise BrokenError("a compressed variable of another length than it says")
    return memoryview(content)


def _numbers(path: Path, variable: Variable) -> Array:
    if variable.kind == CHAR_CLASS and variable.name in TEXTS:
        return _text(variable)
    if variable.kind not in NUMERIC_CLASSES:
        kind = OTHER_CLASSES.get(variable.kind, "variable of another class")
        raise InputError(path, variable.name, "a full array of plain numbers", f"a MATLAB {kind}")
    parts: list[Array] = []
    at = 0
    for _ in ("real", "imaginary")[: 1 + variable.is_complex]:
        number, raw, at = _element(variable.numbers, at, variable.order)
        if number not in NUMBER_TYPES:
            raise BrokenError(f"numbers of type {number}")
        dtype = np.dtype(variable.order + NUMBER_TYPES[number])
        if len(raw) != math.prod(variable.shape) * dtype.itemsize:
            raise BrokenError(f"{len(raw)} bytes of numbers for dimensions {variable.shape}")
        parts.append(np.frombuffer(raw, dtype))
    array = parts[0]
    if variable.is_complex:
        array = np.empty(array.size, np.result_type(*parts, np.complex64))
        array.real, array.imag = parts
    return array.reshape(variable.shape, order="F")


def _text(variable: Variable) -> Array:
    """A char array as a string array of no axis."""
    number, raw, _ = _element(variable.numbers, 0, variable.order)
    if number not in CHAR_TYPES or len(raw) > TEXT_BYTES:
        raise BrokenError(f"{len(raw)} bytes of text of type {number}")
    encoding = CHAR_TYPES[number] + ({"<": "-le", ">": "-be"}[variable.order] if number in (4, 17) else "")
    return np.array(bytes(raw).decode(encoding, errors="replace"))
