"""The whole configuration: nine sections and the rules that span them."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from risctl.config.base import Section, cross_field_error
from risctl.config.network import LossConfig, ModelConfig, TrainingConfig
from risctl.config.physics import PhysicsConfig
from risctl.config.pipeline import CovarianceConfig, DataConfig
from risctl.config.results import EvaluationConfig, InferenceConfig
from risctl.config.search import SearchConfig, check_spaces


class Config(Section):
    """All settings of a run; each layer takes its own sections only."""

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
    def _check_cells(self) -> Self:
        cells = self.model.map_rows * self.model.map_columns
        if cells < self.physics.max_sources:
            expected = f"at least the {self.physics.max_sources} sources of physics.max_sources"
            raise cross_field_error("model.map_rows", expected, f"{cells} cells")
        return self

    @model_validator(mode="after")
    def _check_centring(self) -> Self:
        if not self.covariance.center:
            return self
        if self.physics.symbols == "coherent":
            expected = "false with coherent symbols (centring takes the sources out)"
            raise cross_field_error("covariance.center", expected, "true")
        if self.physics.num_snapshots < 2:
            expected = "false with one snapshot (centring leaves nothing)"
            raise cross_field_error("covariance.center", expected, "true")
        return self

    @model_validator(mode="after")
    def _check_spaces(self) -> Self:
        check_spaces(self, self.search)
        return self
