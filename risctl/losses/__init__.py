"""Loss terms, one small file per family, and their total."""

from risctl.losses.positions import match_slots
from risctl.losses.total import (
    TERMS,
    LossValue,
    main_weights,
    per_scene_terms,
    term_weights,
    total_loss,
)
from risctl.losses.truth import Truth

__all__ = [
    "TERMS",
    "LossValue",
    "Truth",
    "main_weights",
    "match_slots",
    "per_scene_terms",
    "term_weights",
    "total_loss",
]
