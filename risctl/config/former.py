"""Reading what earlier versions wrote: settings that were renamed since, and fingerprints of another form."""

from __future__ import annotations

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

# The settings that fingerprints of risctl 0.1.0 covered whatever their values, by section. Never extended.
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
    "data": "seed train_scenes val_scenes test_scenes shard_scenes source repeat ahead validate_on",
    "covariance": "beta tikhonov_alpha eps_cov range_weight center normalisation",
    "model": "head width depth blocks dropout map_alphas map_rows map_columns map_ranges",
    "loss": (
        "cov cov_pred ortho cross gap margin K aux peak align subspace_align peak_contrast lam_diag lam_off "
        "gap_margin margin_target elevation_factor aux_beta subspace_load stencil_phase subspace_align_start "
        "subspace_align_final peak_contrast_start peak_contrast_final schedule_start_epochs "
        "schedule_final_fraction own_presence own_offset own_range own_power own_std"
    ),
    "training": (
        "seed epochs batch accumulate lr head_lr_factor weight_decay warmup_fraction clip ema_decay "
        "swa_fraction swa_lr_factor curriculum curriculum_until curriculum_max_sources curriculum_min_snr_db "
        "early_stop_patience precision compile beta_jitter checkpoint_seconds max_skipped_fraction "
        "max_sanitised_fraction"
    ),
    "inference": (
        "range_grid nf_mle_iters start moves proposals count_by count_rule count_price grid_oversampling "
        "range_rings swap_rounds sbl_refine_steps sbl_iterations"
    ),
    "evaluation": "scenes snr_values_db gate_deg bootstrap gospa_cutoff gospa_power estimators",
    "search": (
        "trials epochs patience space spaces startup_trials pruner_warmup_epochs pruner_min_trials "
        "beta_jitter"
    ),
}


def current_name(key: str) -> str:
    """The present name of the setting `section.key`."""
    return RENAMED.get(key, key)


def current_names(document: Mapping[str, Any], where: str | Path) -> dict[str, Any]:
    """Return a stored configuration (sections of values) with every setting under its present name.

    Raises:
        InputError: a setting stands under both names.
    """
    tables = {name: dict(t) if isinstance(t, Mapping) else t for name, t in document.items()}
    for old, new in RENAMED.items():
        (section, _, former), name = old.partition("."), new.partition(".")[2]
        table = tables.get(section)
        if isinstance(table, dict) and former in table:
            if name in table:
                raise InputError(where, old, f"only {new}, its present name", "both")
            table[name] = table.pop(former)
    return tables


def former_canonical_json(model: BaseModel, section: str = "") -> str:
    """The canonical form of risctl 0.1.0, to compare with fingerprints that are stored without settings.

    It held every setting of then under its name of then; settings that came later only where they differ
    from their default.

    Args:
        model: the section, or the whole configuration.
        section: name of the section, "" for the whole configuration.
    """
    values, changed = (model.model_dump(mode="json", exclude_defaults=flag) for flag in (False, True))
    return json.dumps(_former(values, changed, section), sort_keys=True, separators=(",", ":"))


def _former(values: dict[str, Any], changed: dict[str, Any], section: str) -> dict[str, Any]:
    known, out = FIRST_SETTINGS.get(section, "").split(), {}
    for key, value in values.items():
        path = f"{section}.{key}" if section else key
        old = FORMER.get(path, path).rpartition(".")[2]
        if path in FIRST_SETTINGS:
            out[key] = _former(value, changed.get(key, {}), path)
        elif old in known or key in changed:
            out[old] = value
    return out


def digest16(text: str) -> str:
    """16 hexadecimal digits of the BLAKE2b hash of `text`."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
