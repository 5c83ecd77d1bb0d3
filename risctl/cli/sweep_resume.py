"""`risctl eval --resume RUN`: an interrupted sweep goes on with what it was asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from risctl.cli.evaluation_run import Request
from risctl.cli.options import Common
from risctl.cli.runs import CONFIG, read_document
from risctl.cli.sweep_run import REQUEST
from risctl.cli.sweeps import parse_sweeps
from risctl.errors import DamagedFileError, InputError

if TYPE_CHECKING:
    from risctl.cli.documents import Document

KEYS = {
    "target": (str, type(None)),
    "sweeps": (list,),
    "known_num_sources": (bool,),
    "batch": (int,),
    "workers": (int,),
    "plots": (bool,),
    "seed": (int, type(None)),
}


def resumed_request(common: Common, run: Path) -> Request:
    """Return what the sweep in the directory `run` was asked for; `common` may only say where and how.

    Raises:
        InputError: there is no sweep in `run`, or `common` has settings of its own.
        DamagedFileError: its files are not what was written.
    """
    from risctl.config import load_config

    refuse_settings(common)
    for name in (CONFIG, REQUEST):
        if not (run / name).is_file():
            raise InputError("--resume", "", f"a run of eval --sweep (with {name})", run)
    asked, config = _read(run / REQUEST), load_config(None, run / CONFIG)
    own = replace(common, config_file=run / CONFIG, seed=asked["seed"])
    return Request(
        own,
        None,
        config.evaluation.estimators,
        config.evaluation.scenes,
        asked["known_num_sources"],
        asked["workers"],
        asked["batch"],
        asked["plots"],
        asked["target"],
        parse_sweeps(asked["sweeps"]),
    )


def refuse_settings(common: Common) -> None:
    """Refuse settings beside `--resume`: the run has its own."""
    stated = {
        "--preset": common.preset,
        "--config": common.config_file,
        "--seed": common.seed,
        "override": ", ".join(common.overrides) or None,
    }
    for flag, value in stated.items():
        if value is not None:
            raise InputError(flag, "", "none beside --resume (the run has its own settings)", value)


def _read(path: Path) -> Document:
    asked: dict[str, Any] = read_document(path)
    for key, kinds in KEYS.items():
        value = asked.get(key)
        if key not in asked or not isinstance(value, kinds):
            raise DamagedFileError(path, f"{key} of a sweep", type(value).__name__)
    if not asked["sweeps"] or not all(isinstance(word, str) for word in asked["sweeps"]):
        raise DamagedFileError(path, "sweeps", asked["sweeps"])
    return asked
