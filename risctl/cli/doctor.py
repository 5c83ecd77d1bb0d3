"""`risctl doctor`: what this machine has, and whether risctl works on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from risctl.cli.console import say, show_table
from risctl.cli.documents import Document
from risctl.cli.machine import hardware, resolve_device, use_threads
from risctl.cli.options import Common, common_options
from risctl.errors import CheckFailedError, RisctlError

FREE_BYTES = 1_000_000_000
OPTIONAL = ("optuna", "tensorboard")


@common_options
def doctor(common: Common) -> Document:
    """Check Python, libraries, presets, arithmetic, device and disk."""
    from risctl.cli.needs import Needs, dry_run

    config = common.resolve()
    if common.dry_run:
        return dry_run("doctor", config, Needs(), None)
    use_threads(common.threads)
    checks: dict[str, Callable[[], str]] = {
        "libraries": _libraries,
        "presets": _presets,
        "arithmetic": _arithmetic,
        "device": lambda: _device(common.device),
        "disk": _disk,
    }
    found = [(name, *_outcome(check)) for name, check in checks.items()]
    show_table("risctl doctor", ("check", "status", "found"), found)
    failed = [name for name, status, _ in found if status != "ok"]
    if failed:
        raise CheckFailedError(f"doctor: {', '.join(failed)}: see the table above")
    say("next: risctl gen-data --preset quick --split test --out data/test")
    device = resolve_device(common.device)
    return {
        "checks": [{"name": name, "status": status, "found": text} for name, status, text in found],
        "hardware": hardware(device),
    }


def _outcome(check: Callable[[], str]) -> tuple[str, str]:
    try:
        return "ok", check()
    except RisctlError as error:
        return "failed", str(error)


def _libraries() -> str:
    from risctl.cli.provenance import versions

    found = versions()
    missing = [name for name, version in found.items() if version is None and name not in OPTIONAL]
    if missing:
        raise CheckFailedError(f"not installed: {', '.join(missing)}")
    return ", ".join(f"{name} {version}" for name, version in found.items() if version)


def _presets() -> str:
    from risctl.config import load_config, preset_directory, preset_names

    for name in preset_names():
        load_config(name)
    return f"{', '.join(preset_names())} in {preset_directory()}"


def _arithmetic() -> str:
    """Solve a Hermitian system in complex64: a broken BLAS shows here first."""
    import torch

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
    from risctl.cli.needs import readable_bytes

    here = Path.cwd()
    free = shutil.disk_usage(here).free
    if not os.access(here, os.W_OK):
        raise CheckFailedError(f"{here} is not writable")
    if free < FREE_BYTES:
        raise CheckFailedError(
            f"{readable_bytes(free)} free in {here}, less than {readable_bytes(FREE_BYTES)}"
        )
    return f"{readable_bytes(free)} free in {here}"
