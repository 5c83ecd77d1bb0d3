"""The `inference` and `evaluation` sections."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticKnownError

from risctl.config.base import Decibels, Positive, SceneCount, Section, as_tuple, cross_field_error
from risctl.registry import estimator_names


def _known_estimator(name: Any) -> Any:
    if name not in estimator_names():
        *first, last = map(repr, estimator_names())
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(first)} or {last}"})
    return name


EstimatorName = Annotated[str, BeforeValidator(_known_estimator)]
EstimatorNames = Annotated[tuple[EstimatorName, ...], as_tuple, Field(min_length=1, max_length=8)]
GridSide = Annotated[int, Field(ge=2, le=100_000)]


class InferenceConfig(Section):
    """The estimators: grids, source count, refinement."""

    range_grid: GridSide = 241
    """Points of the range grid of MUSIC and blend; after likelihood moves it has no effect."""
    nf_mle_iters: Annotated[int, Field(ge=0, le=100)] = 3
    """Scoring steps before the refinement converges; 0: no refinement. After moves there are none."""
    start: Literal["both", "network", "music"] = "both"
    """Initial positions of the learned estimator: the network's, those of MUSIC on R_blend, or both."""
    moves: bool = True
    """Improve them by likelihood moves, which also choose the count; off: count head and refinement only."""
    proposals: Annotated[int, Field(ge=1, le=64)] = 8
    """Local maxima of the network's presence map that the moves may use."""
    count_by: Literal["best", "fusion", "head", "evidence"] = "best"
    """Source count after the moves; `best`: the fitted fusion, or evidence and head where none was fitted;
    `head` where there is no network: as `best`."""
    decision: Literal["gospa", "count", "recall"] = "gospa"
    """What the report is best for: least expected GOSPA distance, the count of sources, or most sources
    found."""
    false_alarm: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Probability, at most, that a scene of noise alone is given a source."""
    count_rule: Literal["evidence", "penalty"] = "evidence"
    """Score of a count by MUSIC, SBL and `count_by` evidence: Laplace's evidence, or log-likelihood less a
    price."""
    count_price: Annotated[float, Field(ge=-100, le=100)] = -1.0
    """Penalty per source, nats; with `evidence` in addition to the Occam factor."""
    grid_oversampling: Annotated[float, Field(gt=0, le=16)] = 2.0
    """Grid points per beamwidth of the angle grid."""
    range_rings: Annotated[int, Field(ge=1, le=256)] = 8
    """Range planes of the polar-domain detection grid."""
    swap_rounds: Annotated[int, Field(ge=0, le=32)] = 3
    """Rounds of swap moves after the greedy search; 0 switches them off."""
    sbl_refine_steps: Annotated[int, Field(ge=0, le=100)] = 3
    """Off-grid refinement steps after sparse Bayesian learning."""
    sbl_iterations: Annotated[int, Field(ge=1, le=10_000)] = 14
    """Iterations of sparse Bayesian learning; few on purpose, as later ones fit the noise."""


class EvaluationConfig(Section):
    """The evaluation on test scenes and its figures."""

    scenes: SceneCount = 6_000
    """Test scenes, spread evenly over SNR and source count."""
    snr_values_db: Annotated[Decibels, Field(min_length=1)] = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
    """SNR bins, decibels."""
    gate_deg: Annotated[float, Field(gt=0, le=90)] = 5.0
    """A source counts as found within this error in azimuth and in elevation, degrees."""
    bootstrap: Annotated[int, Field(ge=0, le=100_000)] = 500
    """Bootstrap resamples of each interval; 0 switches them off."""
    gospa_cutoff: Positive = 2.0
    """GOSPA cut-off distance, metres."""
    gospa_power: Annotated[float, Field(ge=1, le=10)] = 2.0
    """GOSPA exponent p."""
    estimators: EstimatorNames = ("nomp", "music")
    """Estimators beside the learned one of the model named, or the shipped one; `ceiling` is an oracle."""

    @model_validator(mode="after")
    def _check_distinct(self) -> Self:
        for key in ("snr_values_db", "estimators"):
            values = getattr(self, key)
            if len(set(values)) != len(values):
                raise cross_field_error(key, "distinct values", ", ".join(map(str, values)))
        if list(self.snr_values_db) != sorted(self.snr_values_db):
            got = ", ".join(map(str, self.snr_values_db))
            raise cross_field_error("snr_values_db", "ascending values", got)
        return self
