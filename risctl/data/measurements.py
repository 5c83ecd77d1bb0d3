"""Measurement files: snapshots, channel and codes of the user, checked before they are used."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from risctl.data.atomic import write_atomically
from risctl.data.formats import Array, format_of, read_arrays
from risctl.errors import InputError

KEYS = ("y", "H", "codes")


@dataclass(frozen=True)
class Measurements:
    """Measurements of S scenes; `H` or `codes` given once for all scenes are expanded views, not copies.

    Attributes:
        y: snapshots, complex64 [S, L, M].
        H: channel BS <- RIS, complex64 [S, M, N].
        codes: reflection coefficients of the RIS, complex64 [S, L, N]; the modulus need not be 1.
    """

    y: Tensor
    H: Tensor
    codes: Tensor

    def __len__(self) -> int:
        return int(self.y.shape[0])


def read_measurements(path: str | Path, num_elements: int = 144) -> Measurements:
    """Read `y` [S, L, M], `H` [S, M, N] or [M, N], `codes` [S, L, N] or [L, N], all complex.

    Args:
        path: an `.npz`, `.safetensors` or `.mat` (up to v7) file. Other arrays in it are ignored.
        num_elements: N, the number of RIS elements the estimator is built for.

    Raises:
        InputError: missing file or key, another format, shape, kind of number or N; NaN or infinity; a scene
            whose `y`, `H` or `codes` is zero throughout.
        DamagedFileError: the file is truncated or corrupt.
        StorageError: it cannot be read.

    Example:
        >>> import risctl
        >>> scenes = risctl.simulate("quick", 2)
        >>> risctl.write_measurements("measured.mat", scenes.y, scenes.H, scenes.codes)
        >>> risctl.read_measurements("measured.mat").y.shape
        torch.Size([2, 16, 16])
    """
    path = Path(path)
    return check_measurements(read_arrays(path, KEYS), num_elements, path)


def check_measurements(arrays: Mapping[str, Array], num_elements: int, where: str | Path) -> Measurements:
    """Check the arrays `y`, `H` and `codes`, shapes and errors as in `read_measurements`.

    Args:
        arrays: by name.
        num_elements: N.
        where: what error messages call them.
    """
    y = _check(where, "y", arrays["y"], ("S", "L", "M"), {})
    S, L, M = y.shape
    known = {"S": S, "L": L, "M": M, "N": num_elements}
    H = _check(where, "H", arrays["H"], ("S", "M", "N"), known)
    codes = _check(where, "codes", arrays["codes"], ("S", "L", "N"), known)
    return Measurements(
        y=torch.from_numpy(y),
        H=torch.from_numpy(H).expand(S, M, num_elements),
        codes=torch.from_numpy(codes).expand(S, L, num_elements),
    )


def _check(
    path: str | Path, key: str, array: Array, axes: tuple[str, str, str], known: Mapping[str, int]
) -> npt.NDArray[np.complex64]:
    """Check `array` and convert it to complex64, with three axes or two.

    The scene axis may be left out where its length is `known` (from `y`).
    """
    allowed = [axes, axes[1:]] if known else [axes]
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
    scenes = values.reshape(-1 if values.ndim == 3 else 1, *values.shape[-2:])
    finite = np.isfinite(scenes.view(np.float32)).all(axis=(1, 2))
    if not finite.all():
        got = f"NaN or infinity in scene {int(np.argmin(finite))}"
        raise InputError(path, key, "finite numbers (in single precision)", got)
    nonzero = scenes.any(axis=(1, 2))
    if not nonzero.all():
        raise InputError(path, key, "numbers not all zero", f"zeros only in scene {int(np.argmin(nonzero))}")
    return values


def _axes_text(names: tuple[str, ...], known: Mapping[str, int]) -> str:
    return "[" + ", ".join(f"{name}={known[name]}" if name in known else name for name in names) + "]"


def write_measurements(path: str | Path, y: Tensor | Array, H: Tensor | Array, codes: Tensor | Array) -> None:
    """Write a measurement file in the format that its suffix names; shapes as in `read_measurements`.

    Raises:
        InputError: unknown suffix.
        StorageError: disk full, permission denied, and the like.

    Example:
        >>> import risctl
        >>> scenes = risctl.simulate("quick", 2)
        >>> risctl.write_measurements("measured.npz", scenes.y, scenes.H, scenes.codes)
    """
    path = Path(path)
    encode = format_of(path).write
    arrays: dict[str, Array] = {}
    for key, value in zip(KEYS, (y, H, codes), strict=True):
        if isinstance(value, Tensor):
            value = value.detach().cpu().resolve_conj().resolve_neg().numpy()
        arrays[key] = np.ascontiguousarray(value, dtype=np.complex64)
    write_atomically(path, encode(arrays))
