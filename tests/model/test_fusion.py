"""The count fusion: what it says before it learned anything, and its file."""

from pathlib import Path

import pytest
import torch

from risctl.errors import DamagedFileError, InputError
from risctl.model.container import write_container
from risctl.model.fusion import CountFusion, FusionState, load_fusion, save_fusion, weights_hash

WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4)}


def _saved(path: Path) -> CountFusion:
    torch.manual_seed(0)
    network = CountFusion(7, 4, 5, 8)
    sizes = {"figures": 7, "source_figures": 4, "max_sources": 5, "hidden": 8}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
        network.count.std.fill_(2.0)
    state = FusionState(weights_hash=weights_hash(WEIGHTS), **sizes, search={}, fitted={})
    save_fusion(path, network, state)
    return network


def test_before_it_learned_anything_it_is_the_head() -> None:
    head, evidence, figures = torch.randn(4, 5), torch.randn(4, 6), torch.randn(4, 7)
    found = CountFusion(7, 4, 5, 8)(head, evidence, figures)
    assert torch.allclose(found.exp().sum(1), torch.ones(4))
    assert torch.allclose(found[:, 1:] - found[:, 1:2], head - head[:, :1], atol=1e-6)


def test_figures_far_out_say_no_more_than_the_limit() -> None:
    torch.manual_seed(1)
    network = CountFusion(7, 4, 5, 8)
    torch.nn.init.normal_(network.count.net[-1].weight)
    head, evidence = torch.zeros(1, 5), torch.zeros(1, 6)
    far, farther = (network(head, evidence, torch.full((1, 7), x)) for x in (1e2, 1e6))
    assert torch.equal(far, farther)
    assert not torch.equal(far, network(head, evidence, torch.full((1, 7), 1.0)))


def test_the_squared_error_starts_at_the_posterior_and_stays_below_the_cutoff() -> None:
    network = CountFusion(7, 4, 5, 8)
    log_count = torch.randn(2, 6).log_softmax(1)
    spread = torch.tensor([[0.01, 1.0, 50.0]] * 2)
    belief = network.sources(log_count, torch.randn(2, 3, 4), spread, cutoff=2.0)
    assert torch.allclose(belief.error, torch.tensor([[0.01, 1.0, 2.0]] * 2), atol=1e-5)
    assert torch.equal(belief.near, torch.zeros(2, 3))


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    network = _saved(tmp_path / "f.safetensors")
    found = load_fusion(tmp_path / "f.safetensors", WEIGHTS, 5)
    assert found is not None
    loaded = found.network
    arguments = torch.randn(3, 5), torch.randn(3, 6), torch.randn(3, 7)
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


def test_one_of_the_first_version_is_passed_over(tmp_path: Path) -> None:
    path, kind = tmp_path / "f.safetensors", "risctl count fusion"
    document = {"schema_version": 1, "kind": kind, "weights_hash": weights_hash(WEIGHTS), "max_sources": 5}
    write_container(path, {"weights": torch.ones(2)}, document)
    assert load_fusion(path, WEIGHTS, 5) is None
    write_container(path, {"weights": torch.ones(2)}, document | {"schema_version": 99})
    with pytest.raises(InputError, match="schema_version"):
        load_fusion(path, WEIGHTS, 5)


def test_an_edited_one_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    _saved(path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError):
        load_fusion(path, WEIGHTS, 5)
