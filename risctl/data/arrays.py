"""Arrays as users hold them: nested lists, NumPy arrays, torch tensors."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from risctl.errors import InputError


def as_array(value: Any, where: str | Path, key: str, expected: str = "an array") -> npt.NDArray[Any]:
    """A NumPy array of the value; a tensor may be on any device, a conjugated view, or part of a graph.

    Args:
        value: what was given. where, key, expected: of the message if it is no array.

    Raises:
        InputError: rows of unequal length, or a tensor that NumPy has no type for.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu().resolve_conj().resolve_neg()
    try:
        return np.asarray(value)
    except ValueError:
        raise InputError(where, key, expected, "rows of unequal length") from None
    except (TypeError, RuntimeError) as error:
        raise InputError(where, key, expected, str(error).partition("\n")[0]) from None


def real_array(
    value: Any, shape: tuple[int, ...], expected: str, where: str | Path, key: str
) -> npt.NDArray[np.float64]:
    """A real array of the shape, -1 standing for any length; an empty one may have any shape.

    Args:
        value, where, key, expected: as of :func:`as_array`. shape: wanted.

    Raises:
        InputError: as there, no real numbers, or another shape.
    """
    array = as_array(value, where, key, expected)
    if array.dtype.kind not in "iuf":
        raise InputError(where, key, expected, f"{type(value).__name__} of dtype {array.dtype}")
    if array.size == 0 and shape[0] in (-1, 0):
        array = array.reshape(0, *shape[1:])
    fits = array.ndim == len(shape) and all(w in (-1, n) for w, n in zip(shape, array.shape, strict=True))
    if not fits:
        raise InputError(where, key, expected, f"shape {list(array.shape)}")
    return array.astype(np.float64)
