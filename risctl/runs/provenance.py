"""Where a result comes from: command line, code, versions, machine, seeds, data."""

import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from risctl import __version__
from risctl.runs.machine import hardware
from risctl.text import Document, versioned

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "safetensors",
    "pydantic",
    "typer",
    "rich",
    "matplotlib",
    "optuna",
    "sqlalchemy",
    "jinja2",
    "xxhash",
    "lazy-loader",
    "tensorboard",
)
PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@\s]*(?=@)|([?&](?:ssl)?password=)[^&\s]*")  # in a URL
CHECKOUT = Path(__file__).resolve().parents[2]


def provenance(device: str, threads: int, seeds: dict[str, int], dataset: dict[str, Any] | None) -> Document:
    """The content of `provenance.json`; passwords in the command line's URLs are left out.

    Args:
        device: resolved device.
        threads: CPU threads of a process.
        seeds: seeds by their setting's name.
        dataset: path and hash of the dataset, None if the scenes were streamed.
    """
    return versioned(
        {
            "argv": [PASSWORD.sub(r"\1\2***", word) for word in sys.argv],
            "git": git_state(),
            "versions": versions(),
            "seeds": seeds,
            "threads": threads,
            "hardware": hardware(device),
            "dataset": dataset,
        }
    )


def versions() -> dict[str, str | None]:
    """The versions of risctl, Python and the libraries; None for one that is not installed."""
    found: dict[str, str | None] = {"risctl": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def git_state() -> dict[str, Any] | None:
    """Commit and whether files differ from it; None outside a checkout (an installed wheel)."""
    if not (CHECKOUT / ".git").exists():
        return None
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(CHECKOUT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
