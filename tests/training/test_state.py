"""A saved state that does not hold what the run needs is refused, whoever made its hash fit."""

from pathlib import Path

import pytest
import torch

from risctl.errors import DamagedFileError
from tests.model.forged import drop, forge, put, replace
from tests.training.checks import train_until
from tests.training.small import train_small

CHANGES = {
    "a weight missing": drop("raw/"),
    "an average missing": drop("ema/"),
    "a swa weight missing": drop("swa/"),
    "a moment missing": drop("optimiser/"),
    "a moment of another shape": replace("optimiser/", lambda x: x.reshape(-1)[:-1].clone()),
    "a moment that is not finite": replace("optimiser/", lambda x: x * float("nan")),
    "a generator missing": drop("generator/jitter"),
    "a generator's state cut": replace("generator/jitter", lambda x: x[:-1].clone()),
    "a generator's state of another type": replace("generator/dropout", lambda x: x.float()),
    "a generator's state emptied": replace("generator/dropout", torch.zeros_like),
    "a negative cursor": put("training", "progress", "cursor", value=-1),
    "a huge step": put("training", "progress", "step", value=10**400),
    "a step that is text": put("training", "progress", "step", value="3"),
    "a best value that is none": put("training", "progress", "best_value", value=[1]),
    "an unknown number": put("training", "progress", "colour", value=1),
    "no progress": put("training", "progress", value=None),
    "no count of averages": put("training", "ema_updates", value=None),
    "a scaler that is none": put("training", "scaler", value=3),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_forged_state_is_refused(tmp_path: Path, name: str) -> None:
    last = train_until(10, tmp_path).last_path
    forge(last, CHANGES[name])
    with pytest.raises(DamagedFileError) as caught:
        train_small(tmp_path, resume=True)
    assert str(last) in str(caught.value)
    assert "\n" not in str(caught.value)
