"""What measurements say about themselves, put over the settings; and whether a network can read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from risctl.config import Config, PhysicsConfig, parse_section
from risctl.data import Description, Measurements, read_description
from risctl.errors import InputError
from risctl.physics.geometry import planar_array_positions

SAME_PLACE = 1e-6  # wavelengths by which positions may differ from those of the configured panel
UNITS = {
    "wavelength": "m",
    "element_spacing": "wavelengths",
    "known_elevation_deg": "deg",
    "known_range_m": "m",
}


FACTORS = frozenset({"H", "codes"})
WHOLE: tuple[frozenset[str], ...] = (FACTORS, frozenset({"Phi"}), frozenset())


@dataclass(frozen=True)
class Described:
    """Description and front end of measurements.

    Attributes:
        where: what messages call the measurements.
        description: what they say.
        front_end: the keys that they have of H, codes and Phi.
    """

    where: str | Path
    description: Description
    front_end: frozenset[str]

    @classmethod
    def of_file(cls, file: Path) -> Described:
        """Those of a measurement file; errors as in `risctl.data.read_measurements`.

        A file that is not there, or that has H without codes, say, is refused when it is read.
        """
        if not file.is_file():
            return cls(file, Description(), FACTORS)
        description, front_end = read_description(file)
        return cls(file, description, front_end if front_end in WHOLE else FACTORS)

    @classmethod
    def of(cls, data: Measurements) -> Described:
        """Those of measurements in memory."""
        return cls("measurements", data.description, FACTORS if data.Phi is None else frozenset({"Phi"}))

    def refuse_network(self, physics: PhysicsConfig) -> None:
        """Refuse a trained network for measurements that it cannot read.

        Raises:
            InputError: another front end than H and codes, or symbols that do not change.
        """
        if not {"H", "codes"} <= self.front_end:
            got = "Phi" if self.front_end else "an ordinary array"
            raise InputError(self.where, "H", "H and codes, which the network reads", got)
        if physics.symbols != "gaussian":
            raise InputError(
                self.where, "symbols", "gaussian, which the network was trained with", physics.symbols
            )

    def over(self, config: Config) -> tuple[Config, tuple[str, ...]]:
        """The settings with what the measurements say in their place, and a sentence for each that changed.

        Raises:
            InputError: the result contradicts itself; naming the measurements and the key.
        """
        values, physics = self.description.values(), config.physics
        positions = values.pop("elements", None)
        notes = []
        changes: dict[str, Any] = {}
        for key, value in values.items():
            before = getattr(physics, key)
            changes[key] = value
            if before != value:
                unit = f" {UNITS[key]}" if key in UNITS and not isinstance(before, str) else ""
                notes.append(
                    f"the {key} of {self.where}, {value}{unit}, replaces the configured {before}{unit}"
                )
        if positions is not None and not _is_panel(positions, physics, values.get("wavelength")):
            changes["elements"] = {"positions": positions}
            notes.append(
                f"the {len(positions)} element positions of {self.where} replace the configured surface"
            )
        elif "ris_rows" in values or "ris_columns" in values:
            changes["elements"] = {}
        if not changes:
            return config, ()
        table = config.model_dump()
        table["physics"] |= changes
        if values.get("symbols") == "constant":  # no covariance is made of them
            table["covariance"]["center"] = False
        return parse_section(Config, table, self.where), tuple(notes)


def _is_panel(positions: Any, physics: PhysicsConfig, wavelength: float | None) -> bool:
    """Whether they are the elements of the configured panel in its order, which a network may be for."""
    if physics.elements.positions or len(positions) != physics.num_elements:
        return False
    wavelength = wavelength or physics.wavelength
    panel = planar_array_positions(
        physics.ris_columns, physics.ris_rows, physics.element_spacing * wavelength
    )
    return bool((panel - panel.new_tensor(positions)).abs().amax() <= SAME_PLACE * wavelength)
