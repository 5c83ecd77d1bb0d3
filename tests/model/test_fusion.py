"""The count fusion: what it says before it learned anything, and its file."""

from pathlib import Path

import pytest
import torch

from risctl.errors import DamagedFileError, InputError
from risctl.model.fusion import CountFusion, FusionState, load_fusion, save_fusion, weights_hash

WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4)}


def _saved(path: Path) -> CountFusion:
    torch.manual_seed(0)
    network, sizes = CountFusion(7, 5, 8), {"figures": 7, "max_sources": 5, "hidden": 8}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
        network.std.fill_(2.0)
    state = FusionState(weights_hash=weights_hash(WEIGHTS), **sizes, search={}, fitted={})
    save_fusion(path, network, state)
    return network


def test_before_it_learned_anything_it_is_the_head() -> None:
    head, evidence, figures = torch.randn(4, 5), torch.randn(4, 5), torch.randn(4, 7)
    assert torch.equal(CountFusion(7, 5, 8)(head, evidence, figures), head)


def test_figures_far_out_say_no_more_than_the_limit() -> None:
    torch.manual_seed(1)
    network = CountFusion(7, 5, 8)
    torch.nn.init.normal_(network.net[-1].weight)
    zero = torch.zeros(1, 5)
    far, farther = (network(zero, zero, torch.full((1, 7), x)) for x in (1e2, 1e6))
    assert torch.equal(far, farther)
    assert not torch.equal(far, network(zero, zero, torch.full((1, 7), 1.0)))


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    network = _saved(tmp_path / "f.safetensors")
    loaded = load_fusion(tmp_path / "f.safetensors", WEIGHTS, 5).network
    arguments = torch.randn(3, 5), torch.randn(3, 5), torch.randn(3, 7)
    assert torch.equal(loaded(*arguments), network(*arguments))
    assert not loaded.training


@pytest.mark.parametrize(
    ("weights", "max_sources"),
    [({**WEIGHTS, "b": torch.zeros(4)}, 5), (WEIGHTS, 4), ({"a": WEIGHTS["a"]}, 5)],
)
def test_one_fitted_to_another_network_is_refused(
    weights: dict[str, torch.Tensor], max_sources: int, tmp_path: Path
) -> None:
    _saved(tmp_path / "f.safetensors")
    with pytest.raises(InputError, match="fit the count fusion anew"):
        load_fusion(tmp_path / "f.safetensors", weights, max_sources)


def test_an_edited_one_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    _saved(path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError):
        load_fusion(path, WEIGHTS, 5)
