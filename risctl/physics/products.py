"""Products of real matrices in single precision, by whichever library is faster."""

import math

import torch
from torch import Tensor

_HAS_ONEDNN = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
FEW_ROWS = 16  # below it a call's overhead outweighs the product


def real_product(x: Tensor, a: Tensor) -> Tensor:
    """``x @ a`` of real matrices [..., m, k] and [k, n], without a gradient.

    Torch multiplies single-precision matrices on a processor with MKL, which uses half the width of the
    vector units of processors not made by Intel; oneDNN, with which torch convolves, uses all of it and is
    twice as fast there. The result is the same to rounding.
    """
    rows, inner = math.prod(x.shape[:-1]), x.shape[-1]
    single = x.dtype == a.dtype == torch.float32 and x.device.type == "cpu"
    if not (single and rows >= FEW_ROWS and inner and _HAS_ONEDNN):
        return x @ a
    # Of a view with other strides oneDNN has a reference implementation only, a thousand times slower.
    x, a = x.contiguous(), a.contiguous()
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, a.mT, None, "none", [], "")
    return found
