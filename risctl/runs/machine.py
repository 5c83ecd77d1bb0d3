"""The machine a command runs on: device, threads, and a description of both for the records."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

from risctl.errors import InputError

DEVICE_NAME = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def check_device_name(name: str) -> None:
    """Refuse a device name that has the wrong form; whether it exists is `resolve_device`'s question."""
    if not DEVICE_NAME.fullmatch(name):
        raise InputError("--device", "", "auto, cpu, cuda or cuda:N", repr(name))


def use_threads(threads: int) -> None:
    """Pin the thread count; call before numpy and torch are imported, so that BLAS sees it too.

    Products of 19 bits (TF32), which accelerators may use for single precision, are off from here on.
    """
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    import torch

    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def resolve_device(name: str) -> str:
    """Return `cpu` or `cuda:i` for a `--device` value; an absent device is an `InputError`."""
    import torch

    check_device_name(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and count == 0):
        return "cpu"
    index = int(name.partition(":")[2] or 0)
    if index >= count:
        found = f"{count} CUDA devices" if count else "no CUDA device"
        raise InputError("--device", "", "a device of this machine", f"{name} ({found} found)")
    return f"cuda:{index}"


def hardware(device: str) -> dict[str, Any]:
    """Return a description of processor, memory and accelerator."""
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": memory_bytes(),
        "device": device,
        "accelerator": _accelerator(device),
        "tf32": _tf32(),
    }


def _tf32() -> bool:
    """Return whether single-precision products may be rounded to TF32."""
    import torch

    return bool(torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32)


def memory_bytes() -> int | None:
    """Return the physical memory of this machine, None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _accelerator(device: str) -> str | None:
    if not device.startswith("cuda"):
        return None
    import torch

    return str(torch.cuda.get_device_name(device))
