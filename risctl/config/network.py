"""The `model`, `loss` and `training` sections."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from risctl.config.base import (
    Decibel,
    Fraction,
    NonNegative,
    Positive,
    Section,
    Seed,
    as_tuple,
    cross_field_error,
)

Alphas = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1e6)], ...], as_tuple, Field(min_length=1, max_length=16)
]
MapSide = Annotated[int, Field(ge=2, le=512, multiple_of=2)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
PhaseEnds = Annotated[tuple[Fraction, Fraction], as_tuple]
PhaseSources = Annotated[
    tuple[Annotated[int, Field(ge=1, le=64)], Annotated[int, Field(ge=1, le=64)]], as_tuple
]
PhaseDecibels = Annotated[tuple[Decibel, Decibel], as_tuple]


class ModelConfig(Section):
    """The network: covariance head, size and detection maps."""

    head: Literal["structured", "factors"] = "structured"
    """Covariance factors computed from the slots, or free outputs of the network."""
    width: Annotated[int, Field(ge=8, le=512, multiple_of=8)] = 32
    """Channels at the full resolution; doubled with every halving."""
    depth: Annotated[int, Field(ge=1, le=6)] = 3
    """Resolutions of the U-shaped backbone, each half the one before."""
    blocks: Annotated[int, Field(ge=1, le=16)] = 1
    """Residual blocks at every resolution."""
    patch: Literal[1, 2] = 1
    """Cells along either side of one feature at the full resolution: with 2 there is a quarter of them."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Dropout rate."""
    map_alphas: Alphas = (0.1, 10.0, 50.0)
    """Ridge strengths of the detection maps, in the units of `covariance.tikhonov_alpha`."""
    map_rows: MapSide = 16
    """Cells of a detection map in elevation (its sine)."""
    map_columns: MapSide = 32
    """Cells of a detection map in azimuth (the direction cosine)."""
    map_ranges: Annotated[int, Field(ge=1, le=64)] = 4
    """Range planes of a detection map, equidistant in 1/range."""


class LossConfig(Section):
    """Weights of the loss terms, named like the terms, and their fixed shape parameters."""

    cov: NonNegative = 1.0
    """NMSE of the blended covariance against the true one."""
    cov_pred: NonNegative = 0.03
    """NMSE of the predicted covariance alone."""
    ortho: NonNegative = 1e-3
    """Off-diagonal energy of the normalised Gram matrix of the angle factor."""
    cross: NonNegative = 1e-3
    """Coherence between angle and range columns of different slots."""
    gap: NonNegative = 0.05
    """Hinge on the eigenvalue gap after the K-th, over N."""
    margin: NonNegative = 0.05
    """Eigenvalue gap after the K-th, over N, clamped to `margin_target`."""
    K: NonNegative = 0.3
    """Cross-entropy of the source count."""
    aux: NonNegative = 0.5
    """Matched smooth-L1 of angles (radians) and log-range."""
    peak: NonNegative = 0.05
    """Chamfer distance between predicted and true directions."""
    align: NonNegative = 0.002
    """Energy of predicted steering vectors outside the top-K subspace."""
    subspace_align: NonNegative = 0.05
    """Energy of the covariance outside the span of the true steering vectors, main phase."""
    peak_contrast: NonNegative = 0.10
    """Contrast of the MUSIC spectrum at the true sources, main phase."""
    lam_diag: NonNegative = 1.0
    """Weight of the diagonal part in `cov` and `cov_pred`."""
    lam_off: NonNegative = 1.0
    """Weight of the off-diagonal part in `cov` and `cov_pred`."""
    gap_margin: Positive = 0.10
    """Hinge margin of `gap`, of the gap over N."""
    margin_target: Positive = 0.02
    """Clamp of `margin`, of the gap over N."""
    elevation_factor: Positive = 1.5
    """Weight of elevation against azimuth in `aux`."""
    aux_beta: Positive = 1.0
    """Where the smooth-L1 of `aux` turns from quadratic to linear: radians, or nepers of range."""
    subspace_load: Positive = 1e-4
    """Diagonal load of the K x K solve of `subspace_align`."""
    stencil_phase: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Step to the neighbours of `peak_contrast`: phase change across the aperture, radians rms."""
    subspace_align_start: NonNegative = 0.02
    """Weight of `subspace_align` in the first epochs."""
    subspace_align_final: NonNegative = 0.07
    """Weight of `subspace_align` in the last epochs."""
    peak_contrast_start: NonNegative = 0.05
    """Weight of `peak_contrast` in the first epochs."""
    peak_contrast_final: NonNegative = 0.12
    """Weight of `peak_contrast` in the last epochs."""
    schedule_start_epochs: Annotated[int, Field(ge=0, le=100_000)] = 3
    """Epochs of the first phase."""
    schedule_final_fraction: Fraction = 0.2
    """Share of the epochs in the last phase."""
    detection_presence: NonNegative = 0.3
    """Focal loss of the presence map. (Detection losses are auxiliary: not in the validation total.)"""
    detection_offset: NonNegative = 0.5
    """Offsets of the sources within their cells, in cells."""
    detection_range: NonNegative = 0.3
    """Log-range at the sources' cells."""
    detection_power: NonNegative = 0.1
    """Log-power at the sources' cells."""
    detection_std: NonNegative = 0.02
    """Likelihood of the range error at the sources' cells."""


class TrainingConfig(Section):
    """The optimisation: length, learning rates, weight averages, early stopping, limits on failed steps."""

    seed: Seed = 0
    """Seed of weights, order, dropout and jitter."""
    epochs: Epochs = 160
    """Passes over the training scenes."""
    batch: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Scenes of one step."""
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 1
    """Batches whose gradients are summed before a step."""
    lr: Annotated[float, Field(gt=0, le=1)] = 2e-4
    """Peak learning rate of the backbone."""
    head_lr_factor: Positive = 4.0
    """Learning rate of the heads over that of the backbone."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 1e-2
    """Decoupled weight decay."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps in the linear warm-up; cosine after it."""
    clip: Positive = 1.0
    """Largest global gradient norm; larger gradients are scaled down."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the exponential weight average; 0 switches it off."""
    swa_fraction: Fraction = 0.2
    """Share of the epochs, at the end, whose weights are averaged (SWA); 0 switches it off."""
    swa_lr_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Learning rate during the averaging over the peak rate."""
    curriculum: bool = False
    """Curriculum of three phases: few sources at high SNR first. Validation always uses all scenes."""
    curriculum_until: PhaseEnds = (0.1, 0.3)
    """Shares of the epochs after which the first and the second phase end."""
    curriculum_max_sources: PhaseSources = (2, 3)
    """Most sources of a training scene in the first and the second phase."""
    curriculum_min_snr_db: PhaseDecibels = (10.0, 0.0)
    """Lowest SNR of a training scene in the first and the second phase."""
    early_stop_patience: Annotated[int, Field(ge=0, le=100_000)] = 25
    """Epochs without a better validation loss before stopping; 0 never stops."""
    precision: Literal["auto", "float32", "bf16", "fp16"] = "float32"
    """Arithmetic of the backbone; `auto`: bf16 where that is faster. All else is float32 or wider."""
    compile: bool = False
    """Compile the backbone: slower on a CPU, possibly faster on a GPU in long runs."""
    beta_jitter: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """Half width of the uniform jitter of `covariance.beta`, in training only."""
    checkpoint_seconds: NonNegative = 60.0
    """Seconds between two checkpoints of the last state; 0 writes one after every step."""
    max_skipped_fraction: Fraction = 0.05
    """Share of skipped steps above which the run fails."""
    max_sanitised_fraction: Fraction = 0.05
    """Share of steps with a non-finite gradient above which the run fails."""

    @model_validator(mode="after")
    def _check_phases(self) -> Self:
        if self.warmup_fraction + self.swa_fraction > 1:
            got = f"{self.warmup_fraction} + {self.swa_fraction}"
            raise cross_field_error("warmup_fraction", "warm-up and averaging to fit into the run", got)
        if self.curriculum_until[0] > self.curriculum_until[1]:
            raise cross_field_error("curriculum_until", "ascending shares", str(self.curriculum_until))
        return self
