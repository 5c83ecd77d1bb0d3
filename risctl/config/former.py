"""Reading what earlier versions wrote: settings that were renamed since, and fingerprints of another form."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from risctl.errors import InputError

# Former name of a setting: its present name. Every stored document and every override word is read through
# this table; a name in it is never given to another setting.
RENAMED: Final = {
    "data.ahead": "data.prefetch_workers",
    "loss.own_presence": "loss.detection_presence",
    "loss.own_offset": "loss.detection_offset",
    "loss.own_range": "loss.detection_range",
    "loss.own_power": "loss.detection_power",
    "loss.own_std": "loss.detection_std",
}
FORMER = {new: old for old, new in RENAMED.items()}
# Former value of a setting: the present settings that mean the same.
REVALUED: Final[dict[tuple[str, str], dict[str, str]]] = {
    ("physics.symbols", "coherent"): {"physics.symbols": "constant", "physics.fading": "rayleigh"},
}

# The settings that fingerprints of risctl 0.1.0 covered whatever their values, in the sections whose
# fingerprints are stored without the settings (`former_canonical_json`). Never extended.
FIRST_SETTINGS: Final = {
    "physics": (
        "wavelength ris_columns ris_rows element_spacing num_antennas num_snapshots min_sources max_sources "
        "azimuth_limit_deg elevation_limit_deg range_min range_max wavefront amplitude_taper rician_k_min "
        "rician_k_max channel_distance phase_bits codebook symbols power_control power_spread_db snr_min_db "
        "snr_max_db snr_values_db stratified max_coherence"
    ),
    "physics.impairments": (
        "position_error phase_error_deg amplitude_jitter_db dead_elements wavelength_mismatch"
    ),
    "covariance": "beta tikhonov_alpha eps_cov range_weight center normalisation",
}


def current_name(key: str) -> str:
    """The present name of the setting `section.key`."""
    return RENAMED.get(key, key)


def current_names(document: Mapping[str, Any], where: str | Path) -> dict[str, Any]:
    """A stored configuration (sections of values) with every setting under its present name.

    Raises:
        InputError: a setting stands under both names.
    """
    tables = {name: dict(t) if isinstance(t, Mapping) else t for name, t in document.items()}
    for old, new in RENAMED.items():
        (section, former), name = old.split("."), new.split(".")[1]
        table = tables.get(section)
        if isinstance(table, dict) and former in table:
            if name in table:
                raise InputError(where, old, f"only {new}, its present name", "both")
            table[name] = table.pop(former)
    for (key, former), meaning in REVALUED.items():
        section, _, name = key.partition(".")
        table = tables.get(section)
        if isinstance(table, dict) and table.get(name) == former:
            table |= {path.partition(".")[2]: value for path, value in meaning.items()}
    return tables


def current_values(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Settings `{"section.key": value}` with former values replaced by what means the same now."""
    out = dict(flat)
    for (key, former), meaning in REVALUED.items():
        if out.get(key) == former:
            out |= meaning
    return out


def former_canonical_json(model: BaseModel, section: str) -> str:
    """The canonical form of risctl 0.1.0, to compare with fingerprints that are stored without settings.

    It held every setting of then under its name of then; settings that came later only where they differ
    from their default.
    """
    return json.dumps(_former_settings(model, section), sort_keys=True, separators=(",", ":"))


def _former_settings(model: BaseModel, section: str) -> dict[str, Any]:
    known, changed = FIRST_SETTINGS[section].split(), model.model_dump(exclude_defaults=True)
    out: dict[str, Any] = {}
    for key, value in model.model_dump(mode="json").items():
        path = f"{section}.{key}"
        old = FORMER.get(path, path).rpartition(".")[2]
        if path in FIRST_SETTINGS:
            out[key] = _former_settings(getattr(model, key), path)
        elif old in known or key in changed:
            out[old] = value
    for (path, former), meaning in REVALUED.items():
        names = {key.rpartition(".")[2]: value for key, value in meaning.items()}
        if path.startswith(f"{section}.") and all(out.get(name) == value for name, value in names.items()):
            out = {key: value for key, value in out.items() if key not in names} | {
                path.rpartition(".")[2]: former
            }
    return out


def digest16(text: str) -> str:
    """16 hexadecimal digits of the BLAKE2b hash of `text`."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
