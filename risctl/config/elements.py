"""The `physics.elements` section: element positions of any layout, from a CSV or NPZ file.

A file is read when the settings are resolved; what is kept is the positions, so that a run or a checkpoint
needs the file no more.
"""

import ast
import math
import re
import struct
import zipfile
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from risctl.config.base import Section, as_tuple, cross_field_error

MAX_ELEMENTS = 4096
MAX_FILE_BYTES = 4_000_000
NPY_TYPES = {"<f4": "<f", "<f8": "<d", ">f4": ">f", ">f8": ">d"}
Metres = Annotated[float, Field(ge=-1e4, le=1e4)]
Vector = Annotated[tuple[Metres, Metres, Metres], as_tuple]
Positions = Annotated[tuple[Vector, ...], as_tuple, Field(max_length=MAX_ELEMENTS)]


class ElementsConfig(Section):
    """Element positions other than those of the rectangular panel, in metres, in a frame of their own."""

    file: str = ""
    """File to read the positions from: CSV with three columns, or NPZ with an array [N,3] named elements."""
    positions: Positions = ()
    """Element positions; empty: the panel of `ris_rows` x `ris_columns` elements."""
    normal: Vector = (1.0, 0.0, 0.0)
    """Direction that the array looks along, in the frame of the positions: the x axis of the answers."""
    up: Vector = (0.0, 0.0, 1.0)
    """Direction that is up (z of the answers) once the part along the normal is taken out."""
    origin: Vector = (0.0, 0.0, 0.0)
    """Point that ranges and angles are measured from, in the frame of the positions."""

    @model_validator(mode="before")
    @classmethod
    def _read_file(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not values.get("file") or not isinstance(values["file"], str):
            return values
        return {**values, "file": "", "positions": read_positions(Path(values["file"]))}

    @model_validator(mode="after")
    def _check_frame(self) -> Self:
        if _norm(self.normal) == 0:
            raise cross_field_error("normal", "a direction", "0, 0, 0")
        if _norm(_cross(self.up, self.normal)) <= 1e-6 * _norm(self.up) * _norm(self.normal):
            raise cross_field_error("up", "a direction other than the normal", str(list(self.up)))
        if self.positions:
            self._check_positions()
        return self

    def _check_positions(self) -> None:
        points = self.in_surface_frame()
        if len(points) < 2:
            raise cross_field_error("positions", "at least 2 elements", str(len(points)))
        centre = tuple(math.fsum(column) / len(points) for column in zip(*points, strict=True))
        radius = max(math.dist(centre, point) for point in points)
        if radius == 0:
            raise cross_field_error("positions", "elements at different places", "all at one point")
        if math.hypot(*centre) > radius:
            got = f"one {math.hypot(*centre):.4g} m from their centre"
            raise cross_field_error("origin", f"a point within {radius:.4g} m of the centre", got)

    def in_surface_frame(self) -> list[tuple[float, float, float]]:
        """Positions in the frame of the answers: x the normal, y horizontal, z up, from the origin."""
        x = _unit(self.normal)
        y = _unit(_cross(self.up, x))
        z = _cross(x, y)
        if (x, y, z) == ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)) and not any(self.origin):
            return list(self.positions)
        moved = (tuple(a - b for a, b in zip(p, self.origin, strict=True)) for p in self.positions)
        return [(_dot(x, p), _dot(y, p), _dot(z, p)) for p in moved]


def read_positions(path: Path) -> list[list[float]]:
    """Element positions [N, 3] from a CSV file, or from the array `elements` of an NPZ file.

    Raises:
        PydanticCustomError: no such file, another format, too large.
    """
    try:
        if not path.is_file():
            raise cross_field_error("file", "an existing .csv or .npz file", f"nothing at {path}")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise cross_field_error("file", f"at most {MAX_FILE_BYTES // 10**6} MB", f"a larger {path}")
        if path.suffix.lower() == ".npz":
            return _read_npz(path)
        return _read_csv(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise cross_field_error("file", "a readable file", f"{path} ({reason})") from None


def _read_csv(path: Path) -> list[list[float]]:
    """Lines of three numbers, separated by commas, semicolons or blanks; the first may name the columns."""
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    rows: list[list[float]] = []
    for number, line in enumerate(lines):
        fields = re.split(r"\s*[,;\s]\s*", line.strip())
        try:
            rows.append([float(field) for field in fields])
        except ValueError:
            if number:
                got = f"{line[:40]!r} in {path}"
                raise cross_field_error("file", "lines of three numbers", got) from None
            continue
        if len(fields) != 3 or not all(map(math.isfinite, rows[-1])):
            raise cross_field_error("file", "lines of three finite numbers", f"{line[:40]!r} in {path}")
    return _counted(rows, path)


def _read_npz(path: Path) -> list[list[float]]:
    """The array `elements` [N, 3], float32 or float64, without anything that could run code."""
    wanted = "an .npz file with elements, float [N,3]"
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("elements.npy").file_size > MAX_FILE_BYTES:
                raise cross_field_error("file", f"at most {MAX_FILE_BYTES // 10**6} MB", f"a larger {path}")
            raw = archive.read("elements.npy")
        width = 2 if raw[6] == 1 else 4
        start = 8 + width + int.from_bytes(raw[8 : 8 + width], "little")
        header = ast.literal_eval(raw[8 + width : start].decode("latin-1"))
        rows, columns = header["shape"]
        kind = NPY_TYPES[header["descr"]]
        flat = struct.unpack(f"{kind[0]}{rows * columns}{kind[1]}", raw[start:])
    except (zipfile.BadZipFile, KeyError, ValueError, SyntaxError, IndexError, TypeError, struct.error):
        raise cross_field_error("file", wanted, f"another content of {path}") from None
    if columns != 3 or not all(map(math.isfinite, flat)):
        got = f"shape {[rows, columns]} or numbers not finite in {path}"
        raise cross_field_error("file", wanted, got)
    if header["fortran_order"]:
        return _counted([list(flat[i::rows]) for i in range(rows)], path)
    return _counted([list(flat[i : i + 3]) for i in range(0, len(flat), 3)], path)


def _counted(rows: list[list[float]], path: Path) -> list[list[float]]:
    if not 2 <= len(rows) <= MAX_ELEMENTS:
        raise cross_field_error("file", f"2 to {MAX_ELEMENTS} elements", f"{len(rows)} in {path}")
    return rows


def _dot(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def _norm(a: tuple[float, ...]) -> float:
    return math.sqrt(_dot(a, a))


def _unit(a: tuple[float, ...]) -> tuple[float, ...]:
    size = _norm(a)
    return tuple(x / size for x in a)


def _cross(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
