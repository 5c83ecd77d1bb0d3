"""The figures of an evaluation: the schema of `results.json`.

A figure without a scene or a source to compute it from is null. Angles in degrees, lengths in metres. A field
added later to a record that is read from a file has a default: older files do not have it.
"""

from collections.abc import Iterable
from typing import Literal, Self, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from risctl.config.base import cross_field_error

SCHEMA_VERSION: Literal[1] = 1


class Record(BaseModel):
    """A frozen, strict record of finite numbers."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        serialize_by_alias=True,
    )


AnyRecord = TypeVar("AnyRecord", bound=Record)


def find(records: Iterable[AnyRecord], **labels: object) -> AnyRecord:
    """The first record that has these values; KeyError where there is none."""
    for record in records:
        if all(getattr(record, name) == value for name, value in labels.items()):
            return record
    raise KeyError(tuple(labels.values()))


class Interval(Record):
    """A figure and its 95 % percentile bootstrap interval over scenes."""

    value: float | None
    low: float | None
    high: float | None


class ErrorStats(Record):
    """One coordinate's error over matched sources, beside the Cramer-Rao bound of the same sources."""

    sources: int
    """Matched sources."""
    rmse: float | None
    bias: float | None
    """Mean of estimate - truth; for the position, the mean distance."""
    bound: float | None
    """Square root of the mean bound variance, over matched sources whose bound is finite."""
    ratio: Interval
    """RMSE over bound, both over matched sources whose bound is finite."""
    normalised_ratio: float | None
    """Square root of the mean of error^2 / bound variance: each source weighs the same."""
    median_error: float | None
    """Median absolute error. (A Gaussian error's is 0.67 of its standard deviation.)"""
    median_bound: float | None
    """Median of the bound's standard deviation."""
    without_bound: int
    """Matched sources whose bound is not finite; left out of bound and ratios."""
    with_std: int
    """Matched sources that came with a standard deviation of the estimator's own."""
    within_1_sigma: float | None
    """Share of those whose error is within that standard deviation; 0.683 for a Gaussian error."""
    within_2_sigma: float | None
    """The same for twice the standard deviation; 0.954 for a Gaussian error."""


class GospaStats(Record):
    """GOSPA distances of scenes, metres. rms^p = localisation^p + missed^p + false^p, p the GOSPA power."""

    mean: float | None
    rms: float | None
    """(mean of d^p)^(1/p)."""
    localisation: float | None
    missed: float | None
    false: float | None


class Cell(Record):
    """One estimator in one SNR bin and at one source count; null stands for all of them."""

    estimator: str
    snr_db: float | None
    num_sources: int | None
    scenes: int
    mean_snr_db: float | None
    """Mean SNR of the scenes themselves."""
    true_sources: int
    estimated_sources: int
    matched_sources: int
    """True sources whose assigned estimate is within the gate."""
    left_out_share: float | None
    """Share of the true sources that are not matched, and so in no error figure."""
    count_accuracy: Interval
    recall: Interval
    """Matched over true sources."""
    precision: Interval
    """Matched over estimated sources."""
    count_accuracy_mean_over_k: float | None
    """Plain mean of the cells of each source count present."""
    recall_mean_over_k: float | None
    azimuth_deg: ErrorStats
    elevation_deg: ErrorStats
    range_m: ErrorStats
    position_m: ErrorStats
    gospa: GospaStats
    edge_pegged_share: float | None
    """Share of the estimates that sit on a limit of the field of view."""


class Confusion(Record):
    """Scenes by true (rows) and estimated (columns) source count, in one SNR bin; null stands for all."""

    estimator: str
    snr_db: float | None
    true_counts: tuple[int, ...]
    estimated_counts: tuple[int, ...]
    scenes: tuple[tuple[int, ...], ...]


class ClosenessCell(Record):
    """One estimator's sources, all SNR and K, whose largest coherence with another is in (low, high]."""

    estimator: str
    coherence_low: float
    coherence_high: float
    true_sources: int
    matched_sources: int
    recall: float | None
    azimuth_ratio: float | None
    """RMSE over bound, of matched sources whose bound is finite."""
    elevation_ratio: float | None
    range_ratio: float | None


class ReliabilityBin(Record):
    """Statements of one estimator whose stated probability is in [low, high)."""

    estimator: str
    what: str
    """`source`: a true one within the cut-off of a report; `count`: the most probable K."""
    low: float
    high: float
    statements: int
    stated: float
    """Mean stated probability."""
    observed: float
    """Share that came true."""


class CalibrationError(Record):
    """Expected calibration error of one estimator in one SNR bin; null stands for all."""

    estimator: str
    snr_db: float | None
    source: float | None
    """Of the probabilities of the reported sources."""
    count: float | None
    """Of the probability of the most probable K."""


DetectionEvent = Literal["cut-off", "gate"]


class DetectionPoint(Record):
    """Reports whose probability is at least `threshold`, in one SNR bin; null stands for all."""

    estimator: str
    event: DetectionEvent = "gate"
    """What counts as detected: a source within the cut-off, whose probability is stated, or in the gate."""
    snr_db: float | None
    threshold: float
    detection: float
    """Share of the true sources with such a report."""
    false_alarms: float
    """Such reports that detect none, per scene."""


class OracleFigures(Record):
    """A reference over all scenes: given side information no estimator has, so it depends on no SNR.

    Errors are over every true source, also those whose estimate lies outside the gate.
    """

    name: str
    side_information: str = Field(
        validation_alias=AliasChoices("side_information", "told"), serialization_alias="told"
    )
    """The truth that it is given; `told` in files."""
    scenes: int
    sources: int
    """True sources with an estimate assigned."""
    median_angle_deg: float | None
    """Median angle between true and estimated direction."""
    median_range_m: float | None
    """Median absolute range error."""
    within_a_degree: float | None
    """Share of the sources whose direction is off by less than a degree."""
    edge_pegged_share: float | None
    """Share of the estimates on a limit of the field of view, which is where angle and range grids end."""
    edge_share_of_truth: float | None
    """Share of the true sources that are as near a limit: what the share above is where nothing is stuck."""
    met: bool
    """Whether the targets are met: median angle < 0.2 deg, median range < 0.2 m, < 1 % at an edge."""


class Timing(Record):
    """Time of an estimator's own calls, over all scenes and workers, without scoring and bounds.

    The seconds are null for answers that were read from a file.
    """

    estimator: str
    scenes: int
    cpu_seconds: float | None
    cpu_seconds_per_scene: float | None
    wall_seconds: float | None
    """Elapsed time inside the calls, summed over workers."""
    workers: int
    threads_per_worker: int
    batch: int
    device: str


class Results(Record):
    """A whole evaluation."""

    schema_version: Literal[1]
    scenes: int
    estimators: tuple[str, ...]
    references: tuple[OracleFigures, ...] = ()
    """Oracles, not listed as estimators though cells and timings hold their figures as well."""
    num_sources_known: bool
    """Whether the estimators were given the number of sources."""
    snr_values_db: tuple[float, ...] = Field(min_length=1)
    max_sources: int
    gate_deg: float
    gospa_cutoff_m: float
    gospa_power: float
    bootstrap: int
    seed: int
    """Seed of the bootstrap."""
    bound: Literal["conditional"]
    covariance_fingerprint: str | None = None
    """Hash of the covariance pipeline's settings and version; null in files from before it was recorded."""
    pipeline_version: int | None = None
    """Version of the covariance pipeline."""
    checkpoint: str | None = None
    """The trained model behind `learned`."""
    timings: tuple[Timing, ...]
    cells: tuple[Cell, ...]
    confusion: tuple[Confusion, ...]
    closeness: tuple[ClosenessCell, ...]
    reliability: tuple[ReliabilityBin, ...] = ()
    calibration: tuple[CalibrationError, ...] = ()
    detection: tuple[DetectionPoint, ...] = ()

    @model_validator(mode="after")
    def _require_every_cell(self) -> Self:
        cells = {(cell.estimator, cell.snr_db) for cell in self.cells if cell.num_sources is None}
        timed = {timing.estimator for timing in self.timings}
        for name in self.names:
            for snr_db in (None, *self.snr_values_db):
                if (name, snr_db) not in cells:
                    at = "all SNR" if snr_db is None else f"{snr_db:g} dB"
                    raise cross_field_error("cells", f"figures of {name} at {at}", "none")
            if name not in timed:
                raise cross_field_error("timings", f"the time of {name}", "none")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that has cells: the estimators, then the references."""
        return (*self.estimators, *(reference.name for reference in self.references))

    @property
    def counts(self) -> list[int]:
        """The source counts that have cells of their own."""
        return sorted({cell.num_sources for cell in self.cells if cell.num_sources is not None})

    def cell(self, estimator: str, snr_db: float | None = None, num_sources: int | None = None) -> Cell:
        """The figures of one cell; None stands for all. KeyError where there is no such cell."""
        return find(self.cells, estimator=estimator, snr_db=snr_db, num_sources=num_sources)
