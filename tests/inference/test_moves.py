"""Likelihood moves: they find what is missing, never lose likelihood, and treat every scene by itself."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from risctl.inference.count import gaussian_start
from risctl.inference.exchange import GaussianFit
from risctl.inference.gaussian import Hypothesis
from risctl.inference.greedy import Search
from risctl.inference.learned import MOVE_OVERSAMPLING, MOVE_RINGS
from risctl.inference.moves import MoveSearch, MoveSettings, MoveState
from risctl.inference.observation import Observation
from risctl.physics import ArrayGeometry, FieldOfView, Scenes
from risctl.physics.grid import PolarGrid
from risctl.physics.polar import clamp_to_view
from tests.inference.conftest import make_scenes, observe, true_points, with_count

Proposed = Callable[[int], tuple[Observation, Tensor, Tensor]]


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return make_scenes(60, seed=11, stratified=True, snr_values_db=(15.0,))[1]


@pytest.fixture(scope="module")
def moves(geometry: ArrayGeometry, view: FieldOfView) -> MoveSearch:
    return MoveSearch(Search(geometry, view), PolarGrid.build(geometry, view, MOVE_OVERSAMPLING, MOVE_RINGS))


@pytest.fixture
def proposed(scenes: Scenes, view: FieldOfView) -> Proposed:
    """Scenes with K sources, the truth, and 7 proposals: the truth a little off, then anything."""

    def of(K: int) -> tuple[Observation, Tensor, Tensor]:
        rows = with_count(scenes, K)
        truth = true_points(scenes, rows, K).float()
        generator = torch.Generator().manual_seed(K)
        near = truth + 0.01 * torch.randn(truth.shape, generator=generator)
        spread, centre = torch.tensor([1.6, 0.9, 1.0]), torch.tensor([0, 0, 0.6])
        other = (torch.rand(len(rows), 7 - K, 3, generator=generator) - 0.5) * spread + centre
        return observe(scenes, rows), truth, clamp_to_view(torch.cat([near, other], dim=1), view)

    return of


def found_share(found: Hypothesis, truth: Tensor) -> float:
    """Share of the true sources with an estimate within 0.03 of their direction cosines."""
    distance = torch.cdist(truth[..., :2], found.params.points[..., :2]).amin(-1)
    return float((distance < 0.03).float().mean())


def unmoved(moves: MoveSearch) -> MoveSearch:
    """The search without a move that is good enough."""
    return replace(moves, settings=MoveSettings(screen=1e9))


@pytest.mark.parametrize("K", [1, 3, 5])
def test_the_true_count_has_the_true_sources(proposed: Proposed, moves: MoveSearch, K: int) -> None:
    obs, truth, proposals = proposed(K)
    hypotheses = [state.hypothesis for state in moves.states(obs, proposals, 5)]
    assert [h.params.points.shape[1] for h in hypotheses] == [1, 2, 3, 4, 5]
    assert all(bool(h.model.information.isfinite().all()) for h in hypotheses)  # the spare source's is not
    assert found_share(hypotheses[K - 1], truth) == 1.0
    values = torch.stack([h.model.log_likelihood for h in hypotheses], dim=1)
    gains = values.diff(dim=1)
    assert bool((gains[:, : K - 1] > 20.0).all())  # true sources explain, further ones hardly do
    assert bool((gains[:, K - 1 :] < 20.0).all())


@pytest.mark.parametrize("fault", ["missing", "doubled"])
def test_a_source_nobody_proposed_is_found(proposed: Proposed, moves: MoveSearch, fault: str) -> None:
    """One of five true sources is not among the proposals; in its place is nothing, or another one twice."""
    obs, truth, proposals = proposed(5)
    wrong = proposals[:, 5] if fault == "missing" else proposals[:, 1] + 0.002
    proposals = torch.cat([wrong.unsqueeze(1), proposals[:, 1:5], proposals[:, 6:]], dim=1)
    still = replace(moves, settings=MoveSettings(margin=1e9))
    assert found_share(still.start(obs, proposals, 5).hypothesis, truth) < 0.9
    assert found_share(moves.start(obs, proposals, 5).hypothesis, truth) > 0.98


def test_a_missing_source_comes_from_unused_proposals_alone(proposed: Proposed, moves: MoveSearch) -> None:
    obs, truth, proposals = proposed(5)
    late = torch.cat([proposals[:, 5:], proposals[:, :5]], dim=1)  # two strangers first
    blind = replace(moves, settings=MoveSettings(peaks=0))
    assert found_share(blind.start(obs, late, 5).hypothesis, truth) > 0.95


def test_peaks_are_looked_for_anew_once_the_strong_sources_are_right(
    proposed: Proposed, moves: MoveSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five sources the strongest and another are not proposed; one peak is looked at."""
    obs, truth, proposals = proposed(5)
    strangers = torch.cat([proposals[:, 5:7], proposals[:, 2:5]], dim=1)
    once = replace(moves, settings=MoveSettings(peaks=1))
    renewed = once.start(obs, strangers, 5).hypothesis
    plain, asked = MoveSearch.with_peaks, []

    def first_alone(self: MoveSearch, state: MoveState, count: int) -> MoveState:
        asked.append(count)
        return plain(self, state, count) if len(asked) == 1 else state

    monkeypatch.setattr(MoveSearch, "with_peaks", first_alone)
    kept = once.start(obs, strangers, 5).hypothesis
    assert len(asked) == 2
    assert found_share(renewed, truth) > found_share(kept, truth) + 0.05
    assert float((renewed.model.log_likelihood - kept.model.log_likelihood).mean()) > 5.0


def test_one_source_more_at_the_start_helps_the_largest_hypothesis(
    proposed: Proposed, moves: MoveSearch
) -> None:
    obs, truth, proposals = proposed(5)
    third = proposals[:, 5:6] + 0.05  # one more than exchanges from the start can mend
    strangers = torch.cat([proposals[:, 5:], third, proposals[:, :5]], dim=1)
    values, found = [], []
    for spare in (0, 1):
        settings = MoveSettings(spare=spare)
        best = replace(moves, settings=settings).states(obs, strangers, 5)[-1].hypothesis
        values.append(best.model.log_likelihood)
        found.append(found_share(best, truth))
    assert found[1] > found[0]
    assert float((values[1] - values[0]).mean()) > 5.0
    few = replace(moves, settings=MoveSettings(spare=9)).states(obs, proposals[:, :5], 5)
    assert [state.hypothesis.params.points.shape[1] for state in few] == [1, 2, 3, 4, 5]


def test_moves_never_lose_likelihood(proposed: Proposed, moves: MoveSearch) -> None:
    obs, _, proposals = proposed(5)
    strangers = torch.cat([proposals[:, 5:], proposals[:, :3]], dim=1)
    state = unmoved(moves).start(obs, strangers, 5)
    state = moves.with_peaks(state, strangers.shape[1])
    states = [state, moves.exchange(state), moves.exchange(moves.exchange(state))]
    lower = moves.drop_weakest(state)
    for before, after in [*itertools.pairwise(states), (state, moves.birth(lower, state))]:
        rise = after.hypothesis.model.log_likelihood - before.hypothesis.model.log_likelihood
        assert bool(((rise == 0) | (rise > moves.settings.margin)).all())
        assert bool((rise > 0).any())


def test_a_high_margin_keeps_what_was_proposed(proposed: Proposed, moves: MoveSearch) -> None:
    obs, _, proposals = proposed(5)
    stubborn = replace(moves, settings=MoveSettings(margin=1e9))
    strangers = torch.cat([proposals[:, 5:], proposals[:, :3]], dim=1)
    a, b = (s.start(obs, strangers, 5).hypothesis.params.points for s in (stubborn, unmoved(moves)))
    assert torch.equal(a, b)
    assert not torch.equal(moves.start(obs, strangers, 5).hypothesis.params.points, b)


def test_a_source_lost_on_the_way_down_is_found_from_below(
    proposed: Proposed, moves: MoveSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of five estimates are on one source, and no exchange mends it: births do, where it is in doubt."""
    obs, truth, proposals = proposed(5)
    doubled = torch.cat([proposals[:, :4], proposals[:, :1] + 0.002], dim=1)
    monkeypatch.setattr(MoveSearch, "exchange", lambda self, state, informed=True: state)
    shares = []
    for births in (0, 1):
        settings = MoveSettings(births=births, doubt=(-torch.inf, torch.inf))
        found = replace(moves, settings=settings).states(obs, doubled, 5)
        shares.append(found_share(found[-1].hypothesis, truth))
    assert shares[0] < 0.85
    assert shares[1] > 0.95
    sure = replace(moves, settings=MoveSettings(doubt=(-torch.inf, -torch.inf)))
    assert found_share(sure.states(obs, doubled, 5)[-1].hypothesis, truth) == shares[0]


def test_batch_equals_loop(proposed: Proposed, moves: MoveSearch) -> None:
    obs, _, proposals = proposed(4)
    whole = moves.states(obs, proposals, 5)
    for b in range(4):
        one = torch.tensor([b])
        alone = moves.states(obs[one], proposals[one], 5)
        for single, of_all in zip(alone, whole, strict=True):
            a, w = single.hypothesis, of_all.hypothesis
            assert torch.allclose(a.model.log_likelihood, w.model.log_likelihood[one], atol=0.02)
            assert torch.allclose(a.params.points, w.params.points[one], atol=1e-2)


def test_the_fit_of_a_state_is_that_of_its_sources(proposed: Proposed, moves: MoveSearch) -> None:
    """After exchanges in some scenes of the batch, sources and fit still belong together."""
    obs, _, proposals = proposed(5)
    mixed = torch.cat([proposals[:6], proposals[6:].flip(1)])
    state: MoveState = moves.start(obs, mixed, 5)
    fresh = GaussianFit.compute(obs, state.hypothesis.params, moves.search.geometry)
    assert torch.allclose(state.fit.losses(), fresh.losses(), rtol=1e-3, atol=1e-2)


def test_too_few_proposals_are_refused(proposed: Proposed, moves: MoveSearch) -> None:
    obs, _, proposals = proposed(5)
    with pytest.raises(ValueError, match="at least 5 proposals"):
        moves.states(obs, proposals[:, :4], 5)
    assert len(moves.states(obs, proposals[:, :1], 1)) == 1


def test_residual_peaks_are_those_of_the_whitened_residual(
    scenes: Scenes, geometry64: ArrayGeometry, view: FieldOfView
) -> None:
    """The highest point of ``sum_l |a_g^H Phi_l^H R_l^-1 y_l|^2``, with M x M solves, point by point."""
    search = MoveSearch(
        Search(geometry64, view), PolarGrid.build(geometry64, view, 1.5, 6), MoveSettings(peaks=1)
    )
    rows = with_count(scenes, 3)[:5]
    obs = observe(scenes, rows, torch.complex128)
    start = gaussian_start(obs, true_points(scenes, rows, 3), geometry64)
    fit = GaussianFit.compute(obs, start, geometry64)
    p = start.log_power.exp().scatter(1, fit.losses().argmin(1, keepdim=True), 0.0)
    S = fit.basis
    R = S @ (p[:, None, :, None] * S.mH)
    R = R + start.log_noise.exp()[:, None, None, None] * torch.eye(R.shape[-1])
    white = torch.linalg.solve(R, obs.y.unsqueeze(-1))
    responses = obs.observe(search.grid.steering().mT.expand(len(rows), -1, -1))
    energy = (responses.mH @ white).squeeze(-1).abs().square().sum(1)
    expected = clamp_to_view(search.grid.interpolated_maxima(energy, 1).squeeze(1), view)
    assert torch.allclose(
        search.residual_peaks(obs, fit.residual_without(fit.losses().argmin(1))).squeeze(1), expected
    )
    highest = search.grid.points[energy.masked_fill(~search.grid.inside, 0.0).argmax(1)]
    assert bool(((expected - highest).abs() <= 0.5 * search.grid.steps + 1e-9).all())


def test_no_scene_changes_where_no_exchange_is_kept(proposed: Proposed, moves: MoveSearch) -> None:
    """Some are tried and all are refused: an empty batch on the way."""
    obs, truth, _ = proposed(2)
    search = replace(moves, settings=MoveSettings(screen=-1e9, margin=1e9))
    state = search.start(obs, truth, 2)
    assert torch.equal(search.exchange(state).hypothesis.params.points, state.hypothesis.params.points)
