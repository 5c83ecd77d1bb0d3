"""What a measurement file says about itself: geometry, wavelength, symbols, what is known of the sources."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from risctl.errors import InputError

MAX_ELEMENTS = 4096
FAR_OFF = 1e4  # metres: no element is farther from the origin
SYMBOLS = ("gaussian", "constant")
TEXTS = ("symbols",)
TEXT_BYTES = 256  # of a text in a file
LIMITS = {  # smallest and largest value, both allowed
    "wavelength": (1e-9, 1e9),
    "element_spacing": (1e-6, 10.0),
    "ris_rows": (1, 64),
    "ris_columns": (1, 64),
    "known_elevation_deg": (-89.999, 89.999),
    "known_range_m": (1e-6, math.inf),
}
WHOLE = ("ris_rows", "ris_columns")


class DescriptionKeys(TypedDict, total=False):
    """The keys of a description, as keyword arguments; see :class:`Description`."""

    wavelength: float | None
    elements: ArrayLike | None
    ris_rows: int | None
    ris_columns: int | None
    element_spacing: float | None
    symbols: str | None
    static_path: bool | None
    known_elevation_deg: float | None
    known_range_m: float | None


@dataclass(frozen=True)
class Description:
    """Facts about measurements that are stronger than the settings; None: not said.

    Attributes:
        wavelength: metres.
        elements: element positions (x, y, z), N of them, metres in the surface's frame: x is the normal, y
            horizontal, z up.
        ris_rows, ris_columns: of a rectangular panel.
        element_spacing: of a panel, wavelengths.
        symbols: ``gaussian`` (new ones each snapshot), or ``constant`` (one complex amplitude a source).
        static_path: whether an unknown vector, the same in all snapshots, is added to y.
        known_elevation_deg: elevation of all sources, degrees.
        known_range_m: range of all sources, metres; ``inf``: plane waves.
    """

    wavelength: float | None = None
    elements: tuple[tuple[float, float, float], ...] | None = None
    ris_rows: int | None = None
    ris_columns: int | None = None
    element_spacing: float | None = None
    symbols: str | None = None
    static_path: bool | None = None
    known_elevation_deg: float | None = None
    known_range_m: float | None = None

    @property
    def num_elements(self) -> int | None:
        """N, where the positions or rows and columns say it."""
        if self.elements is not None:
            return len(self.elements)
        return None if None in (self.ris_rows, self.ris_columns) else self.ris_rows * self.ris_columns  # type: ignore[operator]

    def values(self) -> dict[str, Any]:
        """What is said, by key."""
        found = {key: getattr(self, key) for key in KEYS}
        return {key: value for key, value in found.items() if value is not None}

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The same as arrays: text, whole and real numbers of no axis, positions [N, 3]."""
        return {key: np.asarray(value) for key, value in self.values().items()}


KEYS = tuple(f.name for f in fields(Description))


def check_description(found: Mapping[str, Any], where: str | Path) -> Description:
    """Check what was found under the keys of a description; values of None and other keys are left out.

    Raises:
        InputError: another kind of value, one out of range, or positions beside rows and columns.
    """
    given = {key: found[key] for key in KEYS if found.get(key) is not None}
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key == "elements":
            values[key] = _positions(value, where)
        elif key in TEXTS:
            values[key] = _text(key, value, where)
        elif key == "static_path":
            values[key] = bool(_number(key, value, where, 0, 1, whole=True))
        else:
            values[key] = _number(key, value, where, *LIMITS[key], whole=key in WHOLE)
    panel = [key for key in ("ris_rows", "ris_columns", "element_spacing") if key in values]
    if "elements" in values and panel:
        raise InputError(where, panel[0], "no panel beside elements", values[panel[0]])
    return Description(**values)


def _number(key: str, value: Any, where: str | Path, low: float, high: float, whole: bool) -> float | int:
    wanted = f"one {'whole ' if whole else ''}number, {low:g} to {high:g}"
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise InputError(where, key, wanted, f"{array.dtype} of shape {list(array.shape)}")
    number = float(array.reshape(()))
    if not low <= number <= high or (whole and number != int(number)):
        raise InputError(where, key, wanted, f"{number:g}")
    return int(number) if whole else number


def _text(key: str, value: Any, where: str | Path) -> str:
    array = np.asarray(value)
    text = str(array.reshape(())) if array.size == 1 and array.dtype.kind == "U" else f"{array.dtype}"
    if text not in SYMBOLS:
        raise InputError(where, key, f"one of {', '.join(SYMBOLS)}", repr(text[:40]))
    return text


def _positions(value: Any, where: str | Path) -> tuple[tuple[float, float, float], ...]:
    array = np.asarray(value)
    wanted = f"real numbers [N,3], N from 2 to {MAX_ELEMENTS}"
    if array.ndim != 2 or array.shape[1] != 3 or not 2 <= len(array) <= MAX_ELEMENTS:
        raise InputError(where, "elements", wanted, f"shape {list(array.shape)}")
    if array.dtype.kind not in "biuf":
        raise InputError(where, "elements", wanted, f"{array.dtype}")
    array = array.astype(np.float64)
    if not (np.abs(array) <= FAR_OFF).all():
        raise InputError(where, "elements", f"finite metres, at most {FAR_OFF:g}", "others")
    rows: list[tuple[float, float, float]] = [(x, y, z) for x, y, z in array.tolist()]
    return tuple(rows)
