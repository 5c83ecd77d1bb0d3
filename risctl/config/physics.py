"""The `physics` section: geometry, channel, codes, symbols and the scene distribution."""

import math
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from risctl.config.base import Decibel, Decibels, NonNegative, Positive, Section, cross_field_error
from risctl.config.elements import ElementsConfig

UNKNOWN: Final = "unknown"


def _known_elevation(value: Any) -> float | str:
    """A number of degrees, or `unknown`."""
    if value == UNKNOWN or (_is_number(value) and -90 < value < 90):
        return value if value == UNKNOWN else float(value)
    raise PydanticCustomError("known", f"degrees above -90 and below 90, or {UNKNOWN}")


def _known_range(value: Any) -> float | str:
    """A number of metres, `inf` (JSON has no infinity), or `unknown`."""
    if value in (UNKNOWN, "inf", math.inf):
        return "inf" if value == math.inf else str(value)
    if _is_number(value) and 0 < value <= 1e9:
        return float(value)
    raise PydanticCustomError("known", f"metres above 0 and at most 1e9, inf or {UNKNOWN}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


SideLength = Annotated[int, Field(ge=1, le=64)]
SourceCount = Annotated[int, Field(ge=1, le=8)]


class ImpairmentConfig(Section):
    """Hardware faults of the simulated surface, unknown to every estimator; all off by default."""

    position_error: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Standard deviation of each element coordinate, metres."""
    phase_error_deg: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Standard deviation of each element's phase, degrees."""
    amplitude_jitter_db: Annotated[float, Field(ge=0, le=20)] = 0.0
    """Standard deviation of each element's gain, decibels."""
    dead_elements: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of elements that reflect nothing."""
    wavelength_mismatch: Annotated[float, Field(ge=-0.5, le=0.5)] = 0.0
    """Relative error of the wavelength: the data use `wavelength * (1 + mismatch)`."""
    state_amplitude_min: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Least amplitude of a code value, where a varactor's amplitude dips with its phase; 1: none does."""
    state_phase_error_deg: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Standard deviation of the phase of each code value, the same for all elements, degrees."""
    shared: bool = False
    """One surface for all scenes of a seed, in every split, instead of one a scene."""


class PhysicsConfig(Section):
    """Geometry, channel, codes, symbols and the distribution of the scenes; lengths in metres."""

    wavelength: Positive = 0.3
    """Carrier wavelength, metres."""
    ris_columns: SideLength = 12
    """RIS elements along y (N_H)."""
    ris_rows: SideLength = 12
    """RIS elements along z (N_V)."""
    element_spacing: Annotated[float, Field(ge=1e-6, le=10)] = 0.5
    """Element spacing, wavelengths."""
    elements: ElementsConfig = ElementsConfig()
    """Element positions of another layout than rows and columns."""
    num_antennas: Annotated[int, Field(ge=1, le=1024)] = 16
    """Base-station antennas (M)."""
    num_snapshots: Annotated[int, Field(ge=1, le=4096)] = 16
    """Snapshots (L)."""
    min_sources: Annotated[int, Field(ge=0, le=8)] = 1
    """Fewest sources per scene; a scene without one is noise of unit variance."""
    max_sources: SourceCount = 5
    """Most sources per scene (K_max)."""
    azimuth_limit_deg: Annotated[float, Field(gt=0, lt=90)] = 60.0
    """Half width of the field of view in azimuth, degrees."""
    elevation_limit_deg: Annotated[float, Field(gt=0, lt=90)] = 30.0
    """Half width of the field of view in elevation, degrees."""
    range_min: Annotated[float, Field(ge=1e-6, le=1e6)] = 0.5
    """Nearest source, metres."""
    range_max: Annotated[float, Field(ge=1e-6, le=1e6)] = 10.0
    """Farthest source, metres."""
    known_elevation_deg: Annotated[float | str, PlainValidator(_known_elevation)] = UNKNOWN
    """Elevation of all sources where known (a linear array cannot observe it), degrees, or `unknown`."""
    known_range_m: Annotated[float | str, PlainValidator(_known_range)] = UNKNOWN
    """Range of all sources where it is known, metres, `inf` (plane waves), or `unknown`."""
    wavefront: Literal["spherical", "fresnel", "planar"] = "spherical"
    """Steering model: exact distances, second order (Fresnel), or plane waves."""
    amplitude_taper: bool = False
    """Exact 1/distance amplitude across the aperture, normalised to unit norm."""
    rician_k_min: NonNegative = 0.5
    """Smallest linear Rician K-factor."""
    rician_k_max: NonNegative = 10.0
    """Largest linear Rician K-factor."""
    channel_distance: Positive = 100.0
    """Distance from the RIS to the base station's line-of-sight point, metres."""
    phase_bits: Annotated[int, Field(ge=1, le=8)] = 3
    """Bits of a RIS phase."""
    codebook: Literal["random", "dft", "hadamard", "mixed"] = "random"
    """Codebook of the RIS phases."""
    symbols: Literal["gaussian", "constant"] = "gaussian"
    """Independent CN(0,1) per snapshot, or one unknown complex amplitude a source (pilots)."""
    fading: Literal["none", "rayleigh"] = "none"
    """Simulated amplitude of constant symbols: unit modulus and random phase, or one CN(0,1) draw."""
    static_path: bool = False
    """An unknown vector is added to all snapshots alike, and projected out; with constant symbols."""
    static_path_db: Decibel = 10.0
    """Power of the simulated static path over that of the sources at the receiver, decibels."""
    power_control: Literal["controlled", "path_loss"] = "controlled"
    """Source powers uniform in decibels, or these times 1/range^2."""
    power_spread_db: Annotated[float, Field(ge=0, le=40)] = 3.0
    """Half width of the distribution of the source powers, decibels."""
    snr_min_db: Decibel = -5.0
    """Lowest signal-to-noise ratio, decibels."""
    snr_max_db: Decibel = 20.0
    """Highest signal-to-noise ratio, decibels."""
    snr_values_db: Decibels = ()
    """If not empty, the SNR is drawn from these values instead of the interval, decibels."""
    stratified: bool = False
    """Cycle through the source counts and then `snr_values_db`: as many scenes in each combination."""
    max_coherence: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Cap on the pairwise steering coherence `|a_i^H a_j|`; 1 means none."""
    pair_coherence: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Steering coherence of the first two sources of each scene, above `max_coherence`; 0: as drawn."""
    impairments: ImpairmentConfig = ImpairmentConfig()
    """Hardware faults."""

    @property
    def num_elements(self) -> int:
        """RIS elements N."""
        return len(self.elements.positions) or self.ris_columns * self.ris_rows

    @property
    def known_elevation(self) -> float | None:
        """The known elevation in radians, None if it is not known."""
        value = self.known_elevation_deg
        return None if isinstance(value, str) else math.radians(value)

    @property
    def known_range(self) -> float | None:
        """The known range in metres, `inf` for plane waves, None if it is not known."""
        return None if self.known_range_m == UNKNOWN else float(self.known_range_m)

    @model_validator(mode="after")
    def _check_across(self) -> Self:
        pairs = (
            ("min_sources", "max_sources"),
            ("rician_k_min", "rician_k_max"),
            ("snr_min_db", "snr_max_db"),
        )
        for low, high in pairs:
            if getattr(self, low) > getattr(self, high):
                got = f"{getattr(self, low)} > {getattr(self, high)}"
                raise cross_field_error(low, f"at most {high}", got)
        if self.range_min >= self.range_max:
            raise cross_field_error("range_min", "below range_max", f"{self.range_min} >= {self.range_max}")
        if self.pair_coherence and self.pair_coherence < self.max_coherence:
            expected = f"0, or at least the {self.max_coherence} of max_coherence"
            raise cross_field_error("pair_coherence", expected, str(self.pair_coherence))
        values = self.num_antennas * (self.num_snapshots - self.static_path)
        if self.max_sources >= values:
            got = f"{self.max_sources} with {self.num_antennas} antennas x {self.num_snapshots} snapshots"
            raise cross_field_error("max_sources", "fewer sources than measured values", got)
        if self.symbols == "gaussian" and self.static_path:
            raise cross_field_error(
                "static_path", "false unless symbols=constant", "true with gaussian symbols"
            )
        if self.symbols == "gaussian" and self.fading != "none":
            raise cross_field_error(
                "fading", "none unless symbols=constant", f"{self.fading} with gaussian symbols"
            )
        if self.elements.positions and self.codebook in ("dft", "mixed"):
            expected = "random or hadamard for element positions (beams of a panel need rows and columns)"
            raise cross_field_error("codebook", expected, self.codebook)
        if self.num_elements <= self.max_sources:
            got = f"{self.num_elements} elements for {self.max_sources} sources"
            raise cross_field_error("ris_columns", "more RIS elements than sources", got)
        if self.stratified and not self.snr_values_db:
            raise cross_field_error("snr_values_db", "at least one value when stratified", "none")
        return self
