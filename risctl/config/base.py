"""Base class of the configuration sections, and constrained types that they share."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A frozen, strict table of settings: unknown keys, wrong types and non-finite numbers are refused.

    A field that is added to a model that is read from a file needs a default: older files do not have it.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


def _array_to_tuple(value: Any) -> Any:
    """Accept a list, as TOML and JSON give it, for a strict tuple."""
    return tuple(value) if isinstance(value, list) else value


def cross_field_error(key: str, expected: str, got: str) -> PydanticCustomError:
    """Build the error of a rule between fields, in the parts of a one-line message."""
    parts = {"key": key, "expected": expected, "got": got}
    return PydanticCustomError("cross_field", "expected {expected}, got {got}", parts)


Positive = Annotated[float, Field(ge=1e-9, le=1e9)]
NonNegative = Annotated[float, Field(ge=0, le=1e9)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Decibel = Annotated[float, Field(ge=-100, le=100)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
SceneCount = Annotated[int, Field(ge=1, le=100_000_000)]
Decibels = Annotated[tuple[Decibel, ...], BeforeValidator(_array_to_tuple), Field(max_length=64)]
as_tuple = BeforeValidator(_array_to_tuple)
