"""The machine a run uses: device, threads, and a description of both for the records."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

from risctl.config.layers import THREAD_VARIABLES, Machine
from risctl.errors import InputError
from risctl.parallel import cores, keep_freed_memory


def start(machine: Machine) -> str:
    """Pin the threads and return the device, `cpu` or `cuda:i`."""
    use_threads(machine.threads or 1)
    return resolve_device(machine.device)


def use_threads(threads: int) -> None:
    """Pin the thread count of this process, and of those it starts; TF32 products are off from here on.

    Memory that it frees is kept for its next tensors.
    """
    keep_freed_memory()
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def resolve_device(name: str) -> str:
    """`cpu` or `cuda:i` for a device's name; an absent device is an `InputError`."""
    Machine(name)  # refuses a name of another form
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and count == 0):
        return "cpu"
    index = int(name.partition(":")[2] or 0)
    if index >= count:
        found = f"{count} CUDA devices" if count else "no CUDA device"
        raise InputError("device", "", "a device of this machine", f"{name} ({found} found)")
    return f"cuda:{index}"


def hardware(device: str) -> dict[str, Any]:
    """A description of processor, memory and accelerator."""
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": cores(),
        "memory_bytes": memory_bytes(),
        "device": device,
        "accelerator": _accelerator(device),
        "tf32": _tf32(),
    }


def _tf32() -> bool:
    """Whether single-precision products may be rounded to TF32."""
    return bool(torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32)


def memory_bytes() -> int | None:
    """The physical memory of this machine, None where the system does not say."""
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
    return str(torch.cuda.get_device_name(device))
