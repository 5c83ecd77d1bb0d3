"""The `data` and `covariance` sections, the whole configuration, and the rules that span sections."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from risctl.config.base import Fraction, SceneCount, Section, Seed, cross_field_error
from risctl.config.network import LossConfig, ModelConfig, TrainingConfig
from risctl.config.physics import PhysicsConfig
from risctl.config.results import EvaluationConfig, InferenceConfig
from risctl.config.search import SearchConfig, check_spaces


class DataConfig(Section):
    """Number, seed and origin of the scenes."""

    seed: Seed = 0
    """Seed of every split; the splits of one seed share no scene."""
    train_scenes: SceneCount = 80_000
    """Scenes of the training split."""
    val_scenes: SceneCount = 16_000
    """Scenes of the validation split."""
    test_scenes: SceneCount = 6_000
    """Scenes of the test split."""
    shard_scenes: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    """Scenes of one shard file."""
    source: Literal["stream", "store"] = "stream"
    """Scenes simulated as they are needed, or read from a dataset directory."""
    repeat: bool = False
    """Use the same training scenes in every epoch instead of new ones from the stream."""
    prefetch_workers: Annotated[int, Field(ge=0, le=256)] | Literal["auto"] = "auto"
    """Processes that simulate training scenes in advance, 0 for none; `auto`: none where a processor trains,
    all cores but one beside an accelerator."""
    validate_on: Literal["val", "train"] = "val"
    """Split that validation uses; `train` is for the overfit gate."""


class CovarianceConfig(Section):
    """All settings of the covariance pipeline, the same in training and inference."""

    beta: Fraction = 0.30
    """Weight of the sample covariance in the blend."""
    tikhonov_alpha: Annotated[float, Field(gt=0, le=1e6)] = 1e-3
    """Ridge strength of the back-projection, relative to the mean eigenvalue of Phi^H Phi."""
    eps_cov: Annotated[float, Field(ge=0, le=1)] = 1e-3
    """Multiple of the identity that is added to the trace-N blend."""
    range_weight: Annotated[float, Field(ge=0, le=100)] = 0.3
    """Weight of the range factor in the predicted covariance."""
    center: bool = True
    """Subtract the mean over snapshots; this removes sources with constant symbols as well."""
    normalisation: Literal["trace"] = "trace"
    """Covariances are scaled to trace N."""


class Config(Section):
    """All settings of a run; each layer takes its own sections only.

    Example:
        >>> import risctl
        >>> risctl.Config().physics.num_elements
        144
    """

    physics: PhysicsConfig = PhysicsConfig()
    data: DataConfig = DataConfig()
    covariance: CovarianceConfig = CovarianceConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    search: SearchConfig = SearchConfig()

    @model_validator(mode="after")
    def _check_across(self) -> Self:
        cells = self.model.map_rows * self.model.map_columns
        if cells < self.physics.max_sources:
            expected = f"at least the {self.physics.max_sources} sources of physics.max_sources"
            raise cross_field_error("model.map_rows", expected, f"{cells} cells")
        if self.covariance.center and self.physics.symbols == "constant":
            expected = "false with constant symbols (centring takes the sources out)"
            raise cross_field_error("covariance.center", expected, "true")
        if self.covariance.center and self.physics.num_snapshots < 2:
            expected = "false with one snapshot (centring leaves nothing)"
            raise cross_field_error("covariance.center", expected, "true")
        check_spaces(self, self.search)
        return self
