"""Checks of an installation: libraries, presets, arithmetic, device, disk."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from risctl.config import load_config, preset_directory, preset_names, reference_directory
from risctl.config.layers import Machine
from risctl.errors import CheckFailedError, RisctlError
from risctl.model.load import load_checkpoint
from risctl.runs.machine import hardware, resolve_device, use_threads
from risctl.runs.provenance import versions
from risctl.text import readable_bytes

FREE_BYTES = 1_000_000_000
OPTIONAL = ("tensorboard",)


@dataclass(frozen=True)
class Condition:
    """One thing that was checked: `status` is `ok` or `failed`, `found` says what was found."""

    name: str
    status: str
    found: str


def check_installation(machine: Machine) -> list[Condition]:
    """Check everything; what fails is in the answer, and raises nothing."""
    use_threads(machine.threads or 1)
    checks: dict[str, Callable[[], str]] = {
        "libraries": _libraries,
        "presets": _presets,
        "shipped model": _model,
        "arithmetic": _arithmetic,
        "device": lambda: _device(machine.device),
        "disk": _disk,
    }
    found = []
    for name, check in checks.items():
        try:
            found.append(Condition(name, "ok", check()))
        except RisctlError as error:
            found.append(Condition(name, "failed", str(error)))
    return found


def _libraries() -> str:
    found = versions()
    missing = [name for name, version in found.items() if version is None and name not in OPTIONAL]
    if missing:
        raise CheckFailedError(f"not installed: {', '.join(missing)}")
    return ", ".join(f"{name} {version}" for name, version in found.items() if version)


def _presets() -> str:
    for name in preset_names():
        load_config(name)
    return f"{', '.join(preset_names())} in {preset_directory()}"


def _model() -> str:
    """Read the shipped model, its hash included."""
    loaded = load_checkpoint(reference_directory())
    parameters = sum(p.numel() for p in loaded.network.parameters())
    return f"{parameters:,} parameters in {loaded.path}"


def _arithmetic() -> str:
    """Solve a Hermitian system in complex64: a broken BLAS shows here first."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(64, 64, dtype=torch.complex64, generator=generator)
    gram = a @ a.mH + torch.eye(64)
    residual = float(torch.linalg.norm(gram @ torch.linalg.solve(gram, a) - a) / torch.linalg.norm(a))
    if not residual < 1e-2:
        raise CheckFailedError(
            f"a complex64 system of 64 equations is solved with relative residual {residual:.1e}"
        )
    return f"complex64 solve, relative residual {residual:.1e}"


def _device(name: str) -> str:
    device = resolve_device(name)
    facts = hardware(device)
    return f"{device}: {facts['accelerator'] or facts['processor']}, {facts['cores']} cores"


def _disk() -> str:
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    if not os.access(here, os.W_OK):
        raise CheckFailedError(f"{here} is not writable")
    if free < FREE_BYTES:
        raise CheckFailedError(
            f"{readable_bytes(free)} free in {here}, less than {readable_bytes(FREE_BYTES)}"
        )
    return f"{readable_bytes(free)} free in {here}"
