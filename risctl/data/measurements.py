"""Measurement files: snapshots of the user, the front end they came through, and what is said about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from risctl.data.arrays import as_array
from risctl.data.atomic import write_atomically
from risctl.data.description import KEYS, Description, DescriptionKeys, check_description
from risctl.data.formats import Array, array_names, format_of, read_arrays
from risctl.errors import InputError

FRONT_END = ("H", "codes", "Phi")
DEFAULT_ELEMENTS = 144  # N of the default surface
NOTHING_SAID = Description()


@dataclass(frozen=True)
class Measurements:
    """Measurements of S scenes; what is given once for all scenes is an expanded view, not a copy.

    The front end is `H` and `codes`, or `Phi` with both None.

    Attributes:
        y: snapshots, complex64 [S, L, M].
        H: channel BS <- RIS, complex64 [S, M, N].
        codes: reflection coefficients of the RIS, complex64 [S, L, N]; the modulus need not be 1.
        Phi: measurement matrices, complex64 [S, L, M, N], or [S, 1, M, N] for all snapshots of a scene; the
            identity of an ordinary array.
        description: what the measurements say about themselves.
    """

    y: Tensor
    H: Tensor | None
    codes: Tensor | None
    Phi: Tensor | None = None
    description: Description = NOTHING_SAID

    def __len__(self) -> int:
        return int(self.y.shape[0])

    @property
    def num_elements(self) -> int:
        """N."""
        front = self.H if self.Phi is None else self.Phi
        assert front is not None
        return int(front.shape[-1])

    def part(self, rows: slice, device: torch.device | str) -> Measurements:
        """Some of the scenes, on a device."""

        def cut(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[rows].to(device)

        H, codes, Phi = cut(self.H), cut(self.codes), cut(self.Phi)
        return Measurements(self.y[rows].to(device), H, codes, Phi, self.description)


def read_measurements(path: str | Path, num_elements: int | None = DEFAULT_ELEMENTS) -> Measurements:
    """Read snapshots `y` [S, L, M], their front end and what is said about them.

    The front end is `H` [S, M, N] or [M, N] with `codes` [S, L, N] or [L, N]; or `Phi` [S, L, M, N],
    [L, M, N] or [M, N]; or nothing: an ordinary array, M = N. All are complex. With one antenna, which H or
    Phi tells, `y` may be [S, L]: MATLAB keeps no last axis of one. Optional keys are those of
    `risctl.data.Description`.

    Args:
        path: an `.npz`, `.safetensors` or `.mat` (up to v7) file. Other arrays in it are ignored.
        num_elements: N where the file itself does not say it; None: that of its arrays.

    Raises:
        InputError: missing file or key, another format, shape, kind of number or N; NaN or infinity; a scene
            of which an array is zero throughout; a description out of range.
        DamagedFileError: the file is truncated or corrupt.
        StorageError: it cannot be read.

    Example:
        >>> import risctl
        >>> scenes = risctl.simulate("quick", 2)
        >>> risctl.write_measurements("measured.mat", scenes.y, scenes.H, scenes.codes, wavelength=0.3)
        >>> found = risctl.read_measurements("measured.mat")
        >>> found.y.shape, found.description.wavelength
        (torch.Size([2, 16, 16]), 0.3)
    """
    path = Path(path)
    arrays = read_arrays(path, ("y",), (*FRONT_END, *KEYS))
    if ("H" in arrays) != ("codes" in arrays) and "Phi" not in arrays:
        read_arrays(path, ("H", "codes"))  # refuses the file and names what it has
    return check_measurements(arrays, num_elements, path)


def read_description(path: str | Path) -> tuple[Description, frozenset[str]]:
    """What a measurement file says about itself, and which keys of the front end it has."""
    path = Path(path)
    found = read_arrays(path, (), KEYS)
    return check_description(found, path), frozenset(array_names(path)) & frozenset(FRONT_END)


def check_measurements(
    arrays: Mapping[str, Array], num_elements: int | None, where: str | Path
) -> Measurements:
    """Check arrays by name, shapes and errors as in `read_measurements`.

    Args:
        arrays: by name.
        num_elements: N where the description does not say it; None: that of the front end.
        where: what error messages call them.
    """
    y = _check(where, "y", _with_antennas(arrays), ("S", "L", "M"), {})
    (S, L, M), description = y.shape, check_description(arrays, where)
    N = description.num_elements or num_elements
    known = {"S": S, "L": L, "M": M} | ({} if N is None else {"N": N})
    given = [key for key in FRONT_END if key in arrays]
    if "Phi" in given:
        if len(given) > 1:
            raise InputError(where, given[0], "H and codes, or Phi", "both")
        Phi = torch.from_numpy(_check(where, "Phi", arrays["Phi"], ("S", "L", "M", "N"), known))
        Phi = Phi.expand(S, -1 if Phi.dim() > 2 else 1, M, -1)
        return Measurements(torch.from_numpy(y), None, None, Phi, description)
    if not given:
        if N is not None and M != N:
            raise InputError(
                where, "H", "H and codes, Phi, or an ordinary array with M = N", f"only y, M={M}, N={N}"
            )
        eye = torch.eye(M, dtype=torch.complex64).expand(S, 1, M, M)
        return Measurements(torch.from_numpy(y), None, None, eye, description)
    for key in ("H", "codes"):
        if key not in given:
            raise InputError(where, key, "an array of this name", f"only {', '.join(sorted(arrays))}")
    H = _check(where, "H", arrays["H"], ("S", "M", "N"), known)
    N = H.shape[-1]
    codes = _check(where, "codes", arrays["codes"], ("S", "L", "N"), known | {"N": N})
    return Measurements(
        y=torch.from_numpy(y),
        H=torch.from_numpy(H).expand(S, M, N),
        codes=torch.from_numpy(codes).expand(S, L, N),
        description=description,
    )


def given_measurements(y: ArrayLike | Measurements, others: Mapping[str, Any]) -> Measurements:
    """Checked measurements of arrays that are given one by one; `Measurements` stand alone.

    Args:
        y: snapshots, [S, L, M], or [L, M] of one scene. others: front end and description by name; None: not
            given.

    Raises:
        InputError: arrays beside `Measurements`, and as `check_measurements`.
    """
    arrays = {key: as_array(value, "measurements", key) for key, value in others.items() if value is not None}
    if isinstance(y, Measurements):
        if arrays:
            raise InputError(next(iter(arrays)), "", "nothing beside Measurements, which hold it", "a value")
        return y
    snapshots = as_array(y, "measurements", "y")
    arrays["y"] = snapshots[None] if snapshots.ndim == 2 else snapshots
    return check_measurements(arrays, None, "measurements")


def _with_antennas(arrays: Mapping[str, Array]) -> Array:
    """The snapshots; [S, L] as [S, L, 1] beside an H or Phi of one antenna: MATLAB drops a last axis of
    one."""
    y, seen = arrays["y"], (arrays[key] for key in ("H", "Phi") if key in arrays)
    alone = y.ndim == 2 and any(x.ndim >= 2 and x.shape[-2] == 1 for x in seen)
    return y[..., None] if alone else y


def _check(
    path: str | Path, key: str, array: Array, axes: tuple[str, ...], known: Mapping[str, int]
) -> npt.NDArray[np.complex64]:
    """Check `array` and convert it to complex64, with all its axes or without the first ones.

    Of `y`, for which nothing is `known` yet, no axis may be left out; of others never the last two.
    """
    least = 2 if known else len(axes)
    allowed = [axes[start:] for start in range(len(axes) - least + 1)]
    wanted = " or ".join(_axes_text(names, known) for names in allowed)
    names = next((names for names in allowed if len(names) == array.ndim), None)
    if names is None or 0 in array.shape:
        raise InputError(path, key, f"shape {wanted}, no axis empty", f"shape {list(array.shape)}")
    if any(known.get(name, size) != size for name, size in zip(names, array.shape, strict=True)):
        raise InputError(path, key, f"shape {wanted}", f"shape {list(array.shape)}")
    if not np.issubdtype(array.dtype, np.complexfloating):
        raise InputError(path, key, "complex numbers", f"{array.dtype} (a real array)")
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.array(array, dtype=np.complex64, order="C")
    scenes = values.reshape(len(values) if names[0] == "S" else 1, -1)
    finite = np.isfinite(scenes.view(np.float32)).all(axis=1)
    if not finite.all():
        got = f"NaN or infinity in scene {int(np.argmin(finite))}"
        raise InputError(path, key, "finite numbers (in single precision)", got)
    nonzero = scenes.any(axis=1)
    if not nonzero.all():
        raise InputError(path, key, "numbers not all zero", f"zeros only in scene {int(np.argmin(nonzero))}")
    return values


def _axes_text(names: tuple[str, ...], known: Mapping[str, int]) -> str:
    return "[" + ", ".join(f"{name}={known[name]}" if name in known else name for name in names) + "]"


def write_measurements(
    path: str | Path,
    y: Tensor | ArrayLike,
    H: Tensor | ArrayLike | None = None,
    codes: Tensor | ArrayLike | None = None,
    Phi: Tensor | ArrayLike | None = None,
    **description: Unpack[DescriptionKeys],
) -> None:
    """Write a measurement file in the format that its suffix names; shapes as in `read_measurements`.

    Args:
        path: `.npz`, `.safetensors` or `.mat`.
        y: snapshots.
        H: channel, with `codes`.
        codes: reflection coefficients.
        Phi: measurement matrices in place of both; nothing of the three: an ordinary array.
        description: what is said about them (`risctl.data.Description`): `wavelength`, `elements`, ...

    Raises:
        InputError: unknown suffix, a description out of range.
        StorageError: disk full, permission denied, and the like.

    Example:
        >>> import risctl
        >>> scenes = risctl.simulate("quick", 2)
        >>> risctl.write_measurements("measured.npz", scenes.y, scenes.H, scenes.codes, symbols="gaussian")
    """
    path = Path(path)
    encode = format_of(path).write
    arrays = check_description(description, path).arrays()
    for key, value in zip(("y", *FRONT_END), (y, H, codes, Phi), strict=True):
        if isinstance(value, Tensor):
            value = value.detach().cpu().resolve_conj().resolve_neg().numpy()
        if value is not None:
            arrays[key] = np.ascontiguousarray(value, dtype=np.complex64)
    write_atomically(path, encode(arrays))
