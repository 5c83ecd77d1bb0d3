"""The overfit gate: whether a network can learn a few hundred scenes by heart, and what is wrong if not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from risctl.config import Config
    from risctl.training import Outcome

READY_BELOW, BROKEN_ABOVE = 0.5, 1.0
MAX_EPOCHS = 30
GATE_SCENES = 512
LARGEST_RISE = 5.0  # of the validation loss over the lowest before it: more is an explosion
VERDICT_FILE = "overfit.json"

Verdict = Literal["ready", "debug", "broken"]


@dataclass(frozen=True)
class Check:
    """One figure of the gate.

    Attributes:
        name, value, wanted: what it is, what was found, and the condition in words.
        met: whether it holds.
        fatal: whether missing it means broken rather than debug.
    """

    name: str
    value: float | None
    wanted: str
    met: bool
    fatal: bool = False


@dataclass(frozen=True)
class Gate:
    """The verdict and the figures it rests on, all of the best epoch."""

    verdict: Verdict
    checks: tuple[Check, ...]

    @property
    def missed(self) -> str:
        """The figures that were missed, in words."""
        return ", ".join(f"{c.name} {_number(c.value)} (wanted {c.wanted})" for c in self.checks if not c.met)


def judge(outcome: Outcome, epochs: Sequence[Mapping[str, Any]], failure: str | None = None) -> Gate:
    """Judge a run.

    Args:
        outcome: how it ended.
        epochs: its validations as recorded, in order.
        failure: the error that ended it before its end, None if none did.
    """
    best = [entry for entry in epochs if entry["epoch"] == outcome.best_epoch]
    figures: Mapping[str, float | None] = best[0]["metrics"] if best else {}
    totals = [entry["val"]["total"] for entry in epochs]
    rise = largest_rise(totals)
    checks: tuple[Check, ...] = (
        _limit("validation loss", outcome.best_value, READY_BELOW, _below, fatal_beyond=BROKEN_ABOVE),
        _limit("NMSE of R_blend", figures.get("nmse_blend"), 0.25, _below),
        _limit("median angle error, deg, >= 10 dB", figures.get("median_angle_deg_high_snr"), 1.0, _below),
        _limit("source count right", figures.get("count_accuracy"), 0.95, _above),
        Check("steps skipped", outcome.skipped, "0", outcome.skipped == 0, fatal=True),
        Check("steps sanitised", outcome.sanitised, "0", outcome.sanitised == 0, fatal=True),
        Check("largest rise", rise, f"below {LARGEST_RISE:g} times", rise < LARGEST_RISE, fatal=True),
    )
    if failure is not None:
        checks += (Check("training", None, "without an error", met=False, fatal=True),)
    missed = [check for check in checks if not check.met]
    verdict: Verdict = "ready" if not missed else "broken" if any(c.fatal for c in missed) else "debug"
    return Gate(verdict, checks)


def largest_rise(totals: Sequence[float | None]) -> float:
    """Return the largest ratio of a loss to the lowest before it; infinite if one is not a number."""
    lowest, largest = math.inf, 1.0
    for total in totals:
        if total is None or not math.isfinite(total):
            return math.inf
        largest = max(largest, total / lowest if lowest > 0 else 1.0)
        lowest = min(lowest, total)
    return largest


def _below(value: float, limit: float) -> bool:
    return value < limit


def _above(value: float, limit: float) -> bool:
    return value > limit


def _limit(
    name: str,
    value: float | None,
    limit: float,
    holds: Callable[[float, float], bool],
    fatal_beyond: float | None = None,
) -> Check:
    """Compare a figure with its limit; an absent one is missed, and fatal if it can be."""
    wanted = f"{'below' if holds is _below else 'above'} {limit:g}"
    if value is None or not math.isfinite(value):
        return Check(name, None, wanted, met=False, fatal=fatal_beyond is not None)
    fatal = fatal_beyond is not None and not holds(value, fatal_beyond)
    return Check(name, value, wanted, met=holds(value, limit), fatal=fatal)


def departures(config: Config) -> list[str]:
    """Return, in words, in what a run under these settings differs from the gate; empty if in nothing."""
    from risctl.config import LossConfig

    scenes, found = config.data.train_scenes, []
    if scenes != GATE_SCENES:
        found.append(f"{scenes} scenes instead of {GATE_SCENES}")
    if config.loss != LossConfig():
        found.append("loss weights other than the defaults")
    return found


def fingerprints(config: Config, scenes: int) -> dict[str, str]:
    """Return what a verdict holds for: network without its dropout, losses, covariances, surface, scenes.

    Dropout is left out because the gate trains without it, and it adds nothing that could be learned. The
    number of scenes is that of the gate, not of the training it stands before.
    """
    from risctl.config import fingerprint
    from risctl.covariance import covariance_fingerprint

    return {
        "model": fingerprint(config.model.model_copy(update={"dropout": 0.0})),
        "loss": fingerprint(config.loss),
        "covariance": covariance_fingerprint(config.covariance),
        "physics": fingerprint(config.physics),
        "scenes": str(scenes),
    }


def holds_for(stored: object, config: Config, scenes: int) -> bool:
    """Whether the fingerprints in an `overfit.json`, of this version or of 0.1.0, are of these settings."""
    from risctl.config import known_fingerprints
    from risctl.covariance import is_covariance_fingerprint

    if not isinstance(stored, dict) or stored.keys() != fingerprints(config, scenes).keys():
        return False
    model = config.model.model_copy(update={"dropout": 0.0})
    return (
        stored["model"] in known_fingerprints(model, "model")
        and stored["loss"] in known_fingerprints(config.loss, "loss")
        and stored["physics"] in known_fingerprints(config.physics, "physics")
        and is_covariance_fingerprint(stored["covariance"], config.covariance)
        and stored["scenes"] == str(scenes)
    )


def gate_document(gate: Gate, config: Config, outcome: Outcome, failure: str | None = None) -> dict[str, Any]:
    """Return what `overfit.json` holds."""
    differs = departures(config)
    return {
        "verdict": gate.verdict,
        "reason": failure,
        "is_gate": not differs,
        "departures": differs,
        "checks": [asdict(check) for check in gate.checks],
        "scenes": config.data.train_scenes,
        "epochs": outcome.epochs,
        "head": config.model.head,
        "fingerprints": fingerprints(config, config.data.train_scenes),
        "checkpoint": None if outcome.best_path is None else str(outcome.best_path),
    }


def passed_gate(config: Config, runs: Path = Path("runs")) -> Path | None:
    """Return the newest `overfit.json` that found this network, losses and surface ready; None if none did.

    Runs that were not the gate (`is_gate`) never count.
    """
    from risctl.cli.runs import read_document
    from risctl.errors import DamagedFileError

    for path in sorted(runs.glob(f"overfit/*/{VERDICT_FILE}"), reverse=True):
        try:
            found = read_document(path)
        except DamagedFileError:
            continue
        ready = found.get("verdict") == "ready" and found.get("is_gate") is True
        if ready and holds_for(found.get("fingerprints"), config, GATE_SCENES):
            return path
    return None


def _number(value: float | None) -> str:
    return "absent" if value is None else f"{value:.4g}"
