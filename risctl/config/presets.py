"""The shipped presets and reference model: beside the package in a checkout, inside it in a wheel."""

import difflib
from pathlib import Path

from risctl.errors import InputError, StorageError

PACKAGE = Path(__file__).resolve().parents[1]


def preset_directory() -> Path:
    """Directory of the shipped TOML files; a wheel's own copy goes first."""
    return _shipped(PACKAGE / "presets", PACKAGE.parent / "presets", "quick.toml")


def preset_names() -> tuple[str, ...]:
    """Names of the shipped presets, sorted."""
    return tuple(sorted(path.stem for path in preset_directory().glob("*.toml")))


def preset_path(name: str) -> Path:
    """File of the preset `name`; the `InputError` of an unknown one gives the nearest name."""
    names = preset_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
        hint = f" (nearest: {near[0]})" if near else ""
        raise InputError("preset", "", f"one of {', '.join(names)}{hint}", repr(name))
    return preset_directory() / f"{name}.toml"


def preset_summary(name: str) -> str:
    """First comment line of a preset, which says what it is for."""
    first = preset_path(name).read_text(encoding="utf-8").splitlines()[0]
    return first.removeprefix("#").strip()


def reference_directory() -> Path:
    """Run directory of the shipped model; a wheel's own copy goes first."""
    return _shipped(PACKAGE / "reference", PACKAGE.parent / "runs" / "reference" / "model", "checkpoints")


def nomp_calibration() -> Path:
    """File of the shipped probabilities of NOMP; a wheel's own copy goes first."""
    own, checkout = PACKAGE / "reference_nomp", PACKAGE.parent / "runs" / "reference" / "nomp"
    return next((place for place in (own, checkout) if place.is_dir()), checkout) / "fusion.safetensors"


def _shipped(own: Path, checkout: Path, content: str) -> Path:
    """The first of the directories that has `content`."""
    for directory in (own, checkout):
        if (directory / content).exists():
            return directory
    raise StorageError(f"{own}: missing from the installation; reinstall risctl")
