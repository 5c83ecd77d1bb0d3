"""Located sources as NumPy arrays: what `risctl.locate` returns, and what every written answer is made of."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from risctl.inference.goodness import LEVEL
from risctl.runs.locate import Chosen, Found
from risctl.text import Document, decimals

FloatArray = npt.NDArray[np.float64]
COLUMNS = ("scene", "azimuth deg", "elevation deg", "range m", "prob.", "mark")
FIGURES = (
    "azimuth_deg",
    "elevation_deg",
    "range_m",
    "power_db",
    "std_azimuth_deg",
    "std_elevation_deg",
    "std_range_m",
    "x_m",
    "y_m",
    "z_m",
    "probability",
)
ROW = ("scene", "source", *FIGURES, "flags", "scene_flags", "scene_misfit_p")
# A flag's word in a table, and what is to be looked at; a scene may also be untested.
DOUBTS = {
    "misfit": (
        "misfit",
        "the model does not explain the measurements; check signs, element order, wavelength, field of view,"
        " calibration",
    ),
    "count_at_maximum": ("count", "as many sources as can be counted; there may be more"),
    "one_path": ("path", "one path to the antennas only; other directions may fit as well"),
    "at_edge": ("edge", "a source at the edge of the field of view; it may lie outside"),
    "untested": ("untested", "too few measurements for so many sources to tell whether the model fits"),
}


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
        misfit_p: p-value that the scene comes from the fitted model, [S]; NaN where not tested.
        misfit_p_of_all: the same of all scenes together, which share their hardware.
        flags: doubts about each scene (`misfit`, `count_at_maximum`, `one_path`), S tuples.
        source_flags: doubts about each source (`at_edge`), a tuple of K tuples for each scene.
        reason: why the shipped model was not used although no estimator was named; None where it was.
        likelier_convention: by which doubtful scenes are likelier (`codes conjugated`, ...); empty: none.

    Example:
        >>> import risctl
        >>> scenes = risctl.simulate("quick", 1)
        >>> located = risctl.locate(scenes.y, scenes.H, scenes.codes, num_sources=1)
        >>> located.positions.shape, sorted(located.rows()[0])[:3]
        ((1, 5, 3), ['azimuth_deg', 'elevation_deg', 'flags'])
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
    misfit_p: FloatArray
    misfit_p_of_all: float
    flags: tuple[tuple[str, ...], ...]
    source_flags: tuple[tuple[tuple[str, ...], ...], ...]
    reason: str | None = None
    likelier_convention: str = ""

    @classmethod
    def from_found(cls, chosen: Chosen, found: Found) -> Self:
        """Estimates and goodness of fit as NumPy arrays and words."""
        estimates, fit = found.estimates, found.fit
        arrays = {f.name: getattr(estimates, f.name).cpu().numpy() for f in fields(estimates)}
        of_sources = zip(fit.source_flags(), estimates.num_sources.tolist(), strict=True)
        return cls(
            chosen.name,
            **arrays,
            misfit_p=fit.misfit_p.cpu().numpy(),
            misfit_p_of_all=fit.file_p,
            flags=tuple(map(tuple, fit.scene_flags())),
            source_flags=tuple(tuple(map(tuple, flags[:K])) for flags, K in of_sources),
            reason=chosen.reason,
            likelier_convention=fit.likelier_convention,
        )

    @property
    def file_misfit(self) -> bool:
        """Whether the model does not explain the scenes together."""
        return self.misfit_p_of_all < LEVEL

    def __len__(self) -> int:
        return len(self.num_sources)

    @property
    def positions(self) -> FloatArray:
        """Cartesian positions x (normal of the surface), y (horizontal), z (up), metres, [S, K_max, 3]."""
        r, phi, theta = self.range, self.azimuth, self.elevation
        parts = (r * np.cos(theta) * np.cos(phi), r * np.cos(theta) * np.sin(phi), r * np.sin(theta))
        return np.stack(parts, axis=-1)

    def scenes(self) -> list[Document]:
        """One dictionary per scene with its sources, as in the JSON that `risctl locate` writes."""
        figures = self._figures()
        return [
            {
                "index": index,
                "num_sources": int(K),
                "count_probability": _known(self.count_probability[index]),
                "misfit_p": self.misfit_p[index].item(),
                "noise_var": self.noise_var[index].item(),
                "flags": list(self.flags[index]),
                "sources": [
                    {name: values[index, k].item() for name, values in figures.items()}
                    | {"flags": list(self.source_flags[index][k])}
                    for k in range(K)
                ],
            }
            for index, K in enumerate(self.num_sources)
        ]

    def rows(self) -> list[dict[str, float | int | str]]:
        """One dictionary per source, in degrees, metres and decibels: `pandas.DataFrame(located.rows())`.

        `flags` are those of the source, `scene_flags` those of its scene, with spaces between them.
        """
        return [
            {"scene": scene["index"], "source": k}
            | source
            | {"flags": " ".join(source["flags"]), "scene_flags": " ".join(scene["flags"])}
            | {"scene_misfit_p": scene["misfit_p"]}
            for scene in self.scenes()
            for k, source in enumerate(scene["sources"])
        ]

    def table(self) -> list[tuple[str, ...]]:
        """The cells of `COLUMNS`, one row per source, one without figures for a scene without sources."""
        rows: list[tuple[str, ...]] = []
        for scene, doubts in zip(self.scenes(), self._doubts(), strict=True):
            if not scene["sources"]:
                rows.append((str(scene["index"]), "no source", "", "", "", _words(doubts)))
            for source in scene["sources"]:
                cells = (
                    f"{decimals(source[name])} ± {decimals(source[f'std_{name}']):>5}"
                    for name in ("azimuth_deg", "elevation_deg", "range_m")
                )
                words = _words([*doubts, *source["flags"]])
                rows.append((str(scene["index"]), *cells, decimals(source["probability"], 2), words))
        return rows

    def doubts(self) -> list[str]:
        """One sentence for each kind of doubt that occurs: its word, the scenes, what to check."""
        found, of_scenes = [], self._doubts()
        if self.file_misfit and not any("misfit" in flags for flags in self.flags):
            word, check = DOUBTS["misfit"]
            found.append(f"{word} (all scenes together, p = {self.misfit_p_of_all:.1g}): {check}{self._hint}")
        for name, (word, check) in DOUBTS.items():
            of_sources = ([flag for flags in scene for flag in flags] for scene in self.source_flags)
            both = enumerate(zip(of_scenes, of_sources, strict=True))
            scenes = [i for i, (of_scene, of_source) in both if name in of_scene or name in of_source]
            if scenes:
                hint = self._hint if name == "misfit" else ""
                found.append(f"{word} ({_scenes_text(scenes, len(self))}): {check}{hint}")
        return found

    @property
    def _hint(self) -> str:
        return f"; they are likelier with {self.likelier_convention}" if self.likelier_convention else ""

    def _doubts(self) -> list[list[str]]:
        """The flags of each scene, and `untested`."""
        untested = np.isnan(self.misfit_p).tolist()
        return [
            [*flags, *["untested"] * unknown] for flags, unknown in zip(self.flags, untested, strict=True)
        ]

    def flags_of(self, scene: int) -> set[str]:
        """The flags of a scene and of its sources."""
        return {*self.flags[scene], *(flag for flags in self.source_flags[scene] for flag in flags)}

    @property
    def in_doubt(self) -> list[int]:
        """Scenes with a flag of their own or of a source."""
        return [i for i in range(len(self)) if self.flags_of(i)]

    def _figures(self) -> dict[str, FloatArray]:
        """The figures of the sources, [S, K_max] each, in the order and units of the JSON."""
        with np.errstate(divide="ignore"):
            power_db = 10 * np.log10(self.power)
        std = (np.degrees(self.std_azimuth), np.degrees(self.std_elevation), self.std_range)
        found = (np.degrees(self.azimuth), np.degrees(self.elevation), self.range, power_db)
        columns = (*found, *std, *np.moveaxis(self.positions, -1, 0), self.probability)
        return dict(zip(FIGURES, columns, strict=True))

    def __str__(self) -> str:
        """A table with one line per source, and what to check where the answer is in doubt."""
        lines = [COLUMNS, *self.table()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)][:-1]
        table = [
            "  ".join([*(c.rjust(w) for c, w in zip(cells, widths, strict=True)), mark]).rstrip()
            for *cells, mark in lines
        ]
        return "\n".join([*table, *self.doubts()])


def _known(values: FloatArray) -> list[float] | None:
    """The values, None where they are unknown."""
    return None if np.isnan(values).all() else values.tolist()


def _words(doubts: Sequence[str]) -> str:
    return " ".join(DOUBTS[name][0] for name in doubts)


def _scenes_text(scenes: Sequence[int], total: int, shown: int = 8) -> str:
    """The scenes by their indices, or how many of a long list."""
    if len(scenes) > shown:
        return f"{len(scenes)} of {total} scenes"
    return f"scene{'s' * (len(scenes) > 1)} {', '.join(map(str, scenes))}"
