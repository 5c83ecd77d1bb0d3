"""Located sources as NumPy arrays, for users of the library."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from risctl.inference import Estimates
from risctl.text import decimals

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Located:
    """Sources found in S scenes; arrays are padded with NaN from the scene's number of sources on.

    Attributes:
        estimator: its name.
        num_sources: K of each scene, int64 [S].
        azimuth: rad, float64 [S, K_max].
        elevation: rad, [S, K_max].
        range: metres from the surface's centre, [S, K_max].
        power: of each source, linear, in units of |y|^2 / |H|^2, [S, K_max].
        std_azimuth: standard deviation (Fisher information), rad, [S, K_max].
        std_elevation: rad, [S, K_max].
        std_range: metres, [S, K_max].
        noise_var: noise variance in units of |y|^2, [S].
        probability: that a true source lies there, [S, K_max]; NaN where unknown.
        count_probability: of K = 0, 1, ..., K_max sources in the scene, [S, K_max + 1]; NaN where unknown.
        reason: why the shipped model was not used although no estimator was named; None where it was.

    Example:
        >>> import risctl
        >>> scenes = risctl.simulate("quick", 1)
        >>> located = risctl.locate(scenes.y, scenes.H, scenes.codes, num_sources=1)
        >>> located.positions.shape, sorted(located.rows()[0])[:3]
        ((1, 5, 3), ['azimuth_deg', 'elevation_deg', 'power_db'])
    """

    estimator: str
    num_sources: npt.NDArray[np.int64]
    azimuth: FloatArray
    elevation: FloatArray
    range: FloatArray
    power: FloatArray
    std_azimuth: FloatArray
    std_elevation: FloatArray
    std_range: FloatArray
    noise_var: FloatArray
    probability: FloatArray
    count_probability: FloatArray
    reason: str | None = None

    @classmethod
    def from_estimates(cls, estimator: str, estimates: Estimates, reason: str | None = None) -> Self:
        """The estimates as NumPy arrays."""
        arrays = {f.name: getattr(estimates, f.name).cpu().numpy() for f in fields(estimates)}
        return cls(estimator, **arrays, reason=reason)

    def __len__(self) -> int:
        return len(self.num_sources)

    @property
    def positions(self) -> FloatArray:
        """Cartesian positions x (normal of the surface), y (horizontal), z (up), metres, [S, K_max, 3]."""
        r, phi, theta = self.range, self.azimuth, self.elevation
        parts = (r * np.cos(theta) * np.cos(phi), r * np.cos(theta) * np.sin(phi), r * np.sin(theta))
        return np.stack(parts, axis=-1)

    def rows(self) -> list[dict[str, float | int]]:
        """One dictionary per source, in degrees, metres and decibels: `pandas.DataFrame(located.rows())`."""
        reported = self._reported()
        return [
            {"scene": scene, "source": k} | {name: values[scene, k].item() for name, values in reported}
            for scene, count in enumerate(self.num_sources)
            for k in range(count)
        ]

    def _reported(self) -> list[tuple[str, FloatArray]]:
        with np.errstate(divide="ignore"):
            power_db = 10 * np.log10(self.power)
        return [
            ("azimuth_deg", np.degrees(self.azimuth)),
            ("std_azimuth_deg", np.degrees(self.std_azimuth)),
            ("elevation_deg", np.degrees(self.elevation)),
            ("std_elevation_deg", np.degrees(self.std_elevation)),
            ("range_m", self.range),
            ("std_range_m", self.std_range),
            ("power_db", power_db),
        ]

    def __str__(self) -> str:
        """A table with one line per source."""
        lines = [["scene", "azimuth deg", "+-", "elevation deg", "+-", "range m", "+-", "power dB"]]
        for row in self.rows():
            numbers = [decimals(value) for name, value in row.items() if name not in ("scene", "source")]
            lines.append([str(row["scene"]), *numbers])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in lines)
