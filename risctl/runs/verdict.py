"""Go or no-go of a trained model: every gate of this problem on one page.

Nothing is computed: each line is read from the newest run that measured it, or says what to type.
"""

import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from risctl.config import Config, load_config, reference_directory
from risctl.config.toml import toml_value
from risctl.errors import DamagedFileError, InputError, StorageError
from risctl.hpo.verdict import MIN_SPREAD
from risctl.model.load import checkpoint_path
from risctl.runs.directory import RUNS
from risctl.runs.documents import read_document
from risctl.runs.gate import GATE_SCENES, LARGEST_RISE, fingerprints, largest_rise
from risctl.runs.models import LEARNED
from risctl.runs.names import ALIGNMENT_FILE, CONFIG, RESULTS_FILE, SEARCH_FILE, VERDICT_FILE
from risctl.runs.records import EPOCH, METRICS, of_kind, read_metrics
from risctl.runs.search import gate_settings
from risctl.text import Document, number

HIGH_SNR_DB = 10.0
MAX_ANGLE_DEG, MAX_RANGE_M = 1.0, 1.0
FIRST_ATTEMPTS, MIN_COUNT = (
    0.22,
    0.5,
)  # K right that the first attempts at this problem reported; far above it
CEILING_DEG = 1.0
MORE_PEGGED = 0.01  # share of estimates at edge, above that of what they are compared with
CEILING, NOMP = "ceiling", "nomp"
Cell = dict[str, Any]


@dataclass(frozen=True)
class Line:
    """A criterion.

    Attributes:
        name: of the criterion.
        found: the figure in words; None: not measured.
        limit: what is wanted, in words.
        met: whether it holds; None: not measured.
        source: the file it was read from, or the command that measures it.
    """

    name: str
    found: str | None
    limit: str
    met: bool | None
    source: str


@dataclass(frozen=True)
class Overall:
    """The verdict on a model."""

    model: Path
    lines: tuple[Line, ...]

    @property
    def go(self) -> bool:
        """Whether everything was measured and holds."""
        return all(line.met for line in self.lines)

    @property
    def headline(self) -> str:
        """Go or no-go in one sentence."""
        missed = [line.name for line in self.lines if line.met is False]
        absent = sum(line.met is None for line in self.lines)
        parts = [f"missed: {', '.join(missed)}"] * bool(missed) + [f"{absent} not measured"] * bool(absent)
        return f"{'go' if self.go else 'no-go'}: {'; '.join(parts) or 'every criterion holds'}"


def judge_model(run: Path | None = None) -> Overall:
    """Judge a trained model by what has been measured of it.

    Args:
        run: its run, or an exported model; None: the newest training with weights, else the shipped model.

    Raises:
        InputError: there is no model.
        DamagedFileError: the model's own settings or records are not what was written.
    """
    model = run or _newest_training() or reference_directory()
    checkpoint_path(model)  # refuses what is no model
    if not (model / CONFIG).is_file():
        raise InputError(model, "", f"a run's directory (with {CONFIG})", "none")
    config = load_config(None, model / CONFIG)
    lines = [_gate(config), _search(), _alignment(model), *_accuracy(model), *_training(model)]
    return Overall(model, tuple(lines))


def _newest_training() -> Path | None:
    found = sorted(
        RUNS.glob("train/[!.]*/checkpoints/best.safetensors"), key=lambda path: path.stat().st_mtime
    )
    return found[-1].parents[1] if found else None


def _newest(pattern: str, wanted: Callable[[Document], bool]) -> tuple[Path, Document] | None:
    """The newest document of the runs that is `wanted`; damaged ones are passed over."""
    for path in sorted(RUNS.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            document = read_document(path)
            if wanted(document):
                return path, document
        except (DamagedFileError, StorageError):
            continue
    return None


def _gate(config: Config) -> Line:
    mark = fingerprints(config, GATE_SCENES)
    found = _newest(f"overfit/[!.]*/{VERDICT_FILE}", lambda d: d["fingerprints"] == mark and d["is_gate"])
    name, limit = "overfit gate", "ready"
    if found is None:
        words = [
            f"{key}={value if isinstance(value, str) else toml_value(value)}"
            for key, value in gate_settings(config).items()
        ]
        return Line(name, None, limit, None, shlex.join(["risctl", "overfit", *words]))
    path, document = found
    loss = next((c["value"] for c in document["checks"] if c["name"] == "validation loss"), None)
    verdict = document["verdict"]
    return Line(name, f"{verdict}, loss {number(loss)}", limit, verdict == "ready", str(path))


def _search() -> Line:
    name, limit = "search", f"losses differ by more than {MIN_SPREAD:.0%}, the best beats the preset"
    found = _newest(f"hpo/[!.]*/{SEARCH_FILE}", lambda _: True)
    if found is None:
        return Line(name, None, limit, None, "risctl hpo --trials 24")
    path, document = found
    spread, trials = document["spread"], f"{document['finished']} of {document['asked']} trials"
    moved = "spread unknown" if spread is None else f"spread {spread:.1%}"
    return Line(name, f"{trials}, {moved}", limit, bool(document["verdict"]["go"]), str(path))


def _alignment(model: Path) -> Line:
    name, limit = "alignment", "training and inference compute the same"
    pattern = f"check-alignment/[!.]*/{ALIGNMENT_FILE}"
    found = _newest(pattern, lambda d: _same_model(str(d["model"]), model))
    if found is None:
        return Line(name, None, limit, None, f"risctl check-alignment {shlex.quote(str(model))}")
    path, document = found
    good = sum(bool(finding["passed"]) for finding in document["findings"])
    said = f"{good} of {len(document['findings'])} figures equal"
    return Line(name, said, limit, bool(document["passed"]), str(path))


def _same_model(named: str, model: Path) -> bool:
    """Whether a recorded path leads to the weights of `model`."""
    try:
        return checkpoint_path(named) == checkpoint_path(model)
    except InputError:
        return False


def _accuracy(model: Path) -> Iterator[Line]:
    """The lines that an evaluation of the model measures: ceiling, angles and range, count, limits."""
    again = f"risctl eval {shlex.quote(str(model))} --scenes 600 --estimators learned,nomp,ceiling"

    def wanted(results: Document) -> bool:
        return LEARNED in results["estimators"] and _same_model(str(results["checkpoint"]), model)

    found = _newest(f"*/[!.]*/eval/{RESULTS_FILE}", wanted) or _newest(f"*/[!.]*/{RESULTS_FILE}", wanted)
    path, results = found or (None, None)
    yield _ceiling(results, str(path), again)
    at = f"at >= {HIGH_SNR_DB:g} dB"
    cells = [] if results is None else _cells(results, LEARNED, HIGH_SNR_DB)
    limits = (
        f"azimuth and elevation RMSE below {MAX_ANGLE_DEG:g} deg, range RMSE below {MAX_RANGE_M:g} m {at}"
    )
    count_limit = f"above {MIN_COUNT:g} {at} (first attempts at this problem: {FIRST_ATTEMPTS:g})"
    pegged_limit = f"at most {MORE_PEGGED:.0%} more than {NOMP} at the highest SNR"
    if not cells:
        absent = {"accuracy": limits, "K right": count_limit, "at edge": pegged_limit}
        yield from (Line(name, None, limit, None, again) for name, limit in absent.items())
        return
    worst = {
        key: max(_rmse(cell, key) for cell in cells) for key in ("azimuth_deg", "elevation_deg", "range_m")
    }
    met = max(worst["azimuth_deg"], worst["elevation_deg"]) < MAX_ANGLE_DEG and worst["range_m"] < MAX_RANGE_M
    recall = min(cell["recall"]["value"] for cell in cells)
    said = "worst: {azimuth_deg:.2f} deg, {elevation_deg:.2f} deg, {range_m:.2f} m".format(**worst)
    yield Line("accuracy", f"{said}; recall {recall:.2f}", limits, met, str(path))
    count = min(cell["count_accuracy"]["value"] for cell in cells)
    yield Line("K right", f"{count:.2f} at least", count_limit, count > MIN_COUNT, str(path))
    yield _pegged(results or {}, pegged_limit, str(path), again)


def _ceiling(results: Document | None, source: str, again: str) -> Line:
    name = "ceiling"
    limit = f"median angle below {CEILING_DEG:g} deg, as few at edge as true sources (+ {MORE_PEGGED:.0%})"
    oracle = [o for o in (results or {}).get("references", ()) if o["name"] == CEILING]
    if not oracle:
        return Line(name, None, limit, None, again)
    angle, share, truth = (
        oracle[0][key] for key in ("median_angle_deg", "edge_pegged_share", "edge_share_of_truth")
    )
    said = f"{angle:.2g} deg; at edge {share:.2%}, true sources {truth:.2%}"
    return Line(name, said, limit, angle < CEILING_DEG and share <= truth + MORE_PEGGED, source)


def _pegged(results: Document, limit: str, source: str, again: str) -> Line:
    top = max(results["snr_values_db"])
    shares = [cell["edge_pegged_share"] for name in (LEARNED, NOMP) for cell in _cells(results, name, top)]
    if len(shares) < 2 or None in shares:
        return Line("at edge", None, limit, None, again)
    said = f"{shares[0]:.1%} of the estimates at {top:g} dB, {NOMP} {shares[1]:.1%}"
    return Line("at edge", said, limit, shares[0] <= shares[1] + MORE_PEGGED, source)


def _cells(results: Document, name: str, least_snr_db: float) -> list[Cell]:
    """The cells of an estimator over all source counts, one for each SNR from `least_snr_db` on."""
    return [
        cell
        for cell in results["cells"]
        if (cell["estimator"], cell["num_sources"]) == (name, None)
        and cell["snr_db"] is not None
        and cell["snr_db"] >= least_snr_db
    ]


def _rmse(cell: Cell, key: str) -> float:
    """RMSE of a coordinate; infinite where nothing was found."""
    value = cell[key]["rmse"]
    return math.inf if value is None else float(value)


def _training(model: Path) -> Iterator[Line]:
    path = model / METRICS
    records = read_metrics(path) if path.is_file() else []
    totals: Sequence[float | None] = [epoch["val"].get("total") for epoch in of_kind(records, EPOCH)]
    limits = {"validation loss": "below its first value", "largest rise": f"below {LARGEST_RISE:g} times"}
    finite = [total for total in totals if total is not None]
    if totals[:1] == [None] or not finite:
        yield from (Line(name, None, limit, None, "risctl train") for name, limit in limits.items())
        return
    low, first, rise = min(finite), finite[0], largest_rise(totals)
    yield Line(
        "validation loss",
        f"{number(low)}, first {number(first)}",
        limits["validation loss"],
        low < first,
        str(path),
    )
    said = f"{number(rise)} times the lowest before it"
    yield Line("largest rise", said, limits["largest rise"], rise < LARGEST_RISE, str(path))
