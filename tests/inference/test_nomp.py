"""NOMP end to end: high-SNR limits, invariances, swap moves, counting, and the reference figures."""

from dataclasses import replace

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from risctl.config import CovarianceConfig, InferenceConfig, PhysicsConfig
from risctl.inference import Estimates, build_estimator
from risctl.inference.concentrated import fit_amplitudes
from risctl.inference.count import gaussian_start, occam_factor
from risctl.inference.detection import POWER_LADDER, Detector
from risctl.inference.gaussian import GaussianParameters, gaussian_model
from risctl.inference.greedy import Search, greedy_step, swap
from risctl.inference.nomp import NompEstimator
from risctl.inference.observation import Observation
from risctl.physics import ArrayGeometry, FieldOfView, Scenes
from risctl.physics.bounds import scene_bounds
from risctl.physics.grid import PolarGrid
from tests.inference.conftest import make_scenes, observe, true_points, with_count


def nomp(physics: PhysicsConfig, **changes: object) -> NompEstimator:
    estimator = build_estimator("nomp", physics, CovarianceConfig(), InferenceConfig(**changes))
    assert isinstance(estimator, NompEstimator)
    return estimator


def locate(estimator: NompEstimator, scenes: Scenes, given: bool) -> Estimates:
    known = scenes.num_sources.long() if given else None
    return estimator(scenes.y, scenes.H, scenes.codes, known)


def angle_errors(scenes: Scenes, found: Estimates) -> Tensor:
    """Distance [B, K_max] in degrees from each true source to its estimate, NaN in empty slots.

    Each estimate serves one source at most; a source left without one is infinitely far.
    """
    truth = torch.stack([scenes.azimuth, scenes.elevation], dim=-1).double()
    answer = torch.stack([found.azimuth, found.elevation], dim=-1)
    distance = torch.rad2deg((truth.unsqueeze(2) - answer.unsqueeze(1)).norm(dim=-1))
    errors = torch.full_like(scenes.azimuth, torch.nan, dtype=torch.float64)
    for b, (K, found_K) in enumerate(zip(scenes.num_sources, found.num_sources, strict=True)):
        pairs = distance[b, : int(K), : int(found_K)]
        errors[b, : int(K)] = torch.inf
        # Capped, so that one hopeless pair cannot take an estimate from the source beside it.
        rows, columns = linear_sum_assignment(pairs.clamp_max(10.0).numpy())
        errors[b, rows] = pairs[rows, columns]
    return errors


def assert_same_answer(a: Estimates, b: Estimates) -> None:
    """Equal counts, positions to a tenth of a standard deviation: what a settled refinement guarantees."""
    assert torch.equal(a.num_sources, b.num_sources)
    for name in ("azimuth", "elevation", "range"):
        difference = (getattr(a, name) - getattr(b, name)).abs()
        assert bool((difference.nan_to_num() <= 0.1 * getattr(a, f"std_{name}").nan_to_num()).all()), name


@pytest.mark.parametrize("given", [True, False])
def test_everything_is_found_at_high_snr(given: bool) -> None:
    physics, scenes = make_scenes(15, seed=11, stratified=True, snr_values_db=(30.0,))
    found = locate(nomp(physics), scenes, given)
    assert torch.equal(found.num_sources, scenes.num_sources.long())
    assert torch.nan_to_num(angle_errors(scenes, found)).max() < 0.7
    used = torch.arange(5) < found.num_sources.unsqueeze(1)
    for value in (found.azimuth, found.range, found.std_azimuth, found.std_range):
        assert bool(torch.isfinite(value[used]).all())
        assert bool(torch.isnan(value[~used]).all())
    assert bool((found.power[~used] == 0).all())


def test_noise_and_power_are_on_the_scale_of_the_data() -> None:
    physics, scenes = make_scenes(10, seed=12, stratified=True, snr_values_db=(15.0,))
    found = locate(nomp(physics), scenes, True)
    assert 0.9 < float((found.noise_var / scenes.noise_var).median()) < 1.1
    assert 0.7 < float((found.power.sum(1) / scenes.power.sum(1)).median()) < 1.4


def test_answers_do_not_depend_on_company() -> None:
    physics, scenes = make_scenes(4, seed=13, snr_values_db=(12.0,))
    estimator = nomp(physics)
    together = locate(estimator, scenes, False)
    for size in (1, 3):
        apart = locate(replace(estimator, batch=size), scenes, False)
        assert_same_answer(together, apart)


def test_snapshot_order_and_phase_do_not_matter() -> None:
    physics, scenes = make_scenes(10, seed=14, snr_values_db=(15.0,))
    estimator = nomp(physics)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(16, generator=generator)
    phase = torch.exp(2j * torch.pi * torch.rand(10, 16, 1, generator=generator))
    before = locate(estimator, scenes, False)
    after = estimator((scenes.y * phase)[:, order], scenes.H, scenes.codes[:, order])
    assert_same_answer(before, after)


def test_scale_of_the_data_does_not_matter() -> None:
    physics, scenes = make_scenes(10, seed=15, snr_values_db=(15.0,))
    estimator = nomp(physics)
    before = locate(estimator, scenes, False)
    after = estimator(scenes.y * 2.0**-13, scenes.H, scenes.codes)  # exact in floating point
    assert_same_answer(before, after)
    assert torch.allclose(before.power * 2.0**-26, after.power, rtol=1e-2)


@pytest.mark.parametrize(("snapshots", "antennas"), [(8, 16), (24, 8), (16, 32)])
def test_other_sizes_of_the_array(snapshots: int, antennas: int) -> None:
    physics, scenes = make_scenes(
        8, seed=16, num_snapshots=snapshots, num_antennas=antennas, max_sources=2, snr_values_db=(25.0,)
    )
    found = locate(nomp(physics), scenes, True)
    assert torch.nan_to_num(angle_errors(scenes, found)).median() < 0.5


def test_swaps_mend_a_wrong_source(geometry: ArrayGeometry, view: FieldOfView) -> None:
    """Put one source of each scene somewhere else: a round of swaps brings it back."""
    physics, scenes = make_scenes(16, seed=17, min_sources=3, max_sources=3, snr_values_db=(20.0,))
    estimator = nomp(physics)
    rows = torch.arange(16)
    obs, truth = observe(scenes, rows), true_points(scenes, rows, 3).float()
    at_truth = estimator.search.polish(obs, gaussian_start(obs, truth, geometry), 6)
    wrong = truth.clone()
    wrong[:, 1, :2] = -wrong[:, 1, :2]
    start = estimator.search.polish(obs, gaussian_start(obs, wrong, geometry), 3)
    mended = swap(Detector.compute(obs, estimator.grid), estimator.search, start, 3)
    assert bool((mended.model.log_likelihood >= start.model.log_likelihood).all())
    reached = mended.model.log_likelihood >= at_truth.model.log_likelihood - 1.0
    assert reached.float().mean() >= 0.9
    assert (start.model.log_likelihood < at_truth.model.log_likelihood - 10).float().mean() > 0.5


@pytest.fixture(scope="module")
def coarse(geometry64: ArrayGeometry, view: FieldOfView) -> PolarGrid:
    return PolarGrid.build(geometry64, view, 1.0, 3)


def two_of_three(seed: int) -> tuple[Scenes, Observation, Tensor]:
    """Three scenes of three sources, their measurements, and two of the true points."""
    _, scenes = make_scenes(3, seed=seed, min_sources=3, max_sources=3)
    rows = torch.arange(3)
    return scenes, observe(scenes, rows, torch.complex128), true_points(scenes, rows, 3)[:, :2]


def test_conditional_gain_is_the_true_fall_of_the_cost(geometry64: ArrayGeometry, coarse: PolarGrid) -> None:
    """The detector's score at a grid point equals the cost with and without a source there."""
    _, obs, known = two_of_three(seed=18)
    fit = fit_amplitudes(obs, known, geometry64)
    gain = Detector.compute(obs, coarse).conditional_gain(fit)
    for g in (5, 40, 111):
        joint = torch.cat([known, coarse.points[g].expand(3, 1, 3)], dim=1)
        fall = fit.cost - fit_amplitudes(obs, joint, geometry64).cost
        assert torch.allclose(gain[:, g], fall, rtol=1e-3)


def test_gaussian_gain_is_the_rise_of_the_likelihood(geometry64: ArrayGeometry, coarse: PolarGrid) -> None:
    (scenes, obs, points), wide = two_of_three(seed=19), torch.float64
    known = GaussianParameters(points, torch.zeros(3, 2, dtype=wide), scenes.noise_var.to(wide).log())
    base = gaussian_model(obs, known, geometry64).log_likelihood
    gain = Detector.compute(obs, coarse).gaussian_gain(known, geometry64)
    for g in (5, 40, 111):
        joint = torch.cat([points, coarse.points[g].expand(3, 1, 3)], dim=1)
        rises = []
        for step in POWER_LADDER:
            power = torch.cat([known.log_power, torch.tensor(step, dtype=wide).log().expand(3, 1)], dim=1)
            params = GaussianParameters(joint, power, known.log_noise)
            rises.append(gaussian_model(obs, params, geometry64).log_likelihood - base)
        assert torch.allclose(gain[:, g], torch.stack(rises).amax(0), rtol=1e-8)


def test_occam_factor_grows_by_its_dimension_with_snr(geometry64: ArrayGeometry, view: FieldOfView) -> None:
    """Information grows as the SNR: half its log-determinant by half of ln 10 a decade and coordinate."""
    _, scenes = make_scenes(5, seed=20, min_sources=2, max_sources=2)
    rows = torch.arange(5)
    obs, truth = observe(scenes, rows, torch.complex128), true_points(scenes, rows, 2)
    occam = []
    for decade in (4.0, 5.0):
        noise = torch.full((5,), -decade * torch.tensor(10.0).log().item(), dtype=torch.float64)
        params = GaussianParameters(truth, torch.zeros(5, 2).double(), noise)
        occam.append(occam_factor(params, gaussian_model(obs, params, geometry64), view, 1.0))
    expected = 0.5 * torch.tensor(10.0).log() * 6  # six position coordinates; powers and noise are scale-free
    assert torch.allclose(occam[1] - occam[0], expected.double(), rtol=0.02)


def test_greedy_never_raises_the_cost(geometry: ArrayGeometry) -> None:
    physics, scenes = make_scenes(10, seed=21, stratified=True, snr_values_db=(10.0,))
    estimator = nomp(physics)
    obs = observe(scenes, torch.arange(10))
    detector = Detector.compute(obs, estimator.grid)
    points, last = obs.y.real.new_empty(10, 0, 3), obs.y.abs().square().sum((1, 2))
    for _ in range(4):
        points = greedy_step(detector, estimator.search, points)
        cost = fit_amplitudes(obs, points, geometry).cost
        assert bool((cost < last).all())
        last = cost


def ratio_to_bound(scenes: Scenes, physics: PhysicsConfig, errors: Tensor) -> float:
    """RMSE of the direction over its bound, for the sources found, mean over K = 1..5."""
    bounds = scene_bounds(scenes, ArrayGeometry.from_config(physics))
    variance = torch.rad2deg((bounds.azimuth.square() + bounds.elevation.square()).sqrt()).square()
    ratios = []
    for K in range(1, 6):
        hit = (scenes.num_sources == K).unsqueeze(1) & scenes.source_mask & (errors < 5)
        ratios.append((errors[hit].square().mean() / variance[hit].mean()).sqrt())
    return float(torch.stack(ratios).mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("snr_db", "recall", "count"), [(10.0, 0.95, 0.92), (20.0, 0.99, 0.98), (5.0, 0.80, 0.68)]
)
def test_reference_figures(snr_db: float, recall: float, count: float) -> None:
    """Recall with K given, ratio to the bound, and blind count over 60 scenes for each K = 1..5."""
    physics, scenes = make_scenes(300, seed=1000, stratified=True, snr_values_db=(snr_db,))
    estimator = nomp(physics, decision="count")
    given, blind = locate(estimator, scenes, True), locate(estimator, scenes, False)
    errors = angle_errors(scenes, given)
    real = scenes.source_mask
    assert float((errors[real] < 5).double().mean()) >= recall
    assert float((blind.num_sources == scenes.num_sources).double().mean()) >= count
    if snr_db >= 10:
        assert ratio_to_bound(scenes, physics, errors) <= 1.10


def test_a_given_count_is_obeyed() -> None:
    physics, scenes = make_scenes(6, seed=22, min_sources=2, max_sources=2, snr_values_db=(20.0,))
    asked = torch.tensor([1, 2, 3, 1, 2, 3])
    padded = physics.model_copy(update={"max_sources": 5})
    found = nomp(padded)(scenes.y, scenes.H, scenes.codes, asked)
    assert torch.equal(found.num_sources, asked)
    rows = with_count(scenes, 2)[asked == 2]
    assert torch.nan_to_num(angle_errors(scenes, found)[rows]).max() < 2


@pytest.mark.parametrize(
    ("name", "symbols"),
    [("nomp", "gaussian"), ("nomp", "constant"), ("music", "gaussian"), ("sbl", "gaussian")],
)
def test_no_source_is_an_answer_that_can_be_given(name: str, symbols: str) -> None:
    """In some scenes and in all of a batch; the noise variance is then that of the measurements."""
    physics, scenes = make_scenes(3, seed=22, max_sources=2, symbols=symbols)
    estimator = build_estimator(name, physics, CovarianceConfig(), InferenceConfig())
    for asked in (torch.tensor([0, 0, 0]), torch.tensor([0, 1, 0])):
        found = estimator(scenes.y, scenes.H, scenes.codes, asked)
        assert torch.equal(found.num_sources, asked)
        none = asked == 0
        expected = scenes.y.abs().square().mean((1, 2)).double()
        torch.testing.assert_close(found.noise_var[none], expected[none])
        assert bool((found.noise_var > 0).all())


def test_a_price_of_sources_is_no_part_of_calibrated_probabilities() -> None:
    """Where they decide; where the evidence does, it is what was stated."""
    physics, scenes = make_scenes(8, seed=23)
    found = [
        nomp(physics, count_price=price, count_by=by)(scenes.y, scenes.H, scenes.codes)
        for by in ("best", "evidence")
        for price in (-1.0, 40.0)
    ]
    assert torch.equal(found[0].count_probability, found[1].count_probability)
    assert int(found[3].num_sources.sum()) < int(found[2].num_sources.sum())


def test_a_penalty_counts_the_sources_that_pay_for_it() -> None:
    """Each of the reported sources raises log L by more than its price, and the next would not."""
    physics, scenes = make_scenes(6, seed=24, snr_values_db=(5.0,))
    for price in (6.0, 60.0):
        estimator = nomp(
            physics, count_rule="penalty", count_price=price, count_by="evidence", decision="count"
        )
        found = estimator.find(observe(scenes, torch.arange(6)))
        values = torch.stack([h.model.log_likelihood for h in found.hypotheses[1:]], dim=1)
        best = (values - price * torch.arange(1, 6)).argmax(dim=1) + 1
        counted = estimator(scenes.y, scenes.H, scenes.codes).num_sources
        assert torch.equal(counted[counted > 0], best[counted > 0])
        assert int((counted > 0).sum()) >= 4


def test_plane_waves_leave_the_range_unknown_and_the_angles_known() -> None:
    physics, scenes = make_scenes(6, seed=25, wavefront="planar", snr_values_db=(20.0,), max_sources=2)
    found = locate(nomp(physics), scenes, True)
    used = torch.arange(2) < found.num_sources.unsqueeze(1)
    assert bool(torch.isfinite(found.std_azimuth[used] + found.std_elevation[used]).all())
    assert bool(torch.isinf(found.std_range[used]).all())
    assert torch.nan_to_num(angle_errors(scenes, found)).max() < 2


def test_one_source_is_found_wherever_it_is() -> None:
    """Told K = 1, even near the edge of elevation: no fit is 2 nats below that from the true position."""
    how = {"min_sources": 1, "max_sources": 1, "snr_min_db": 0, "snr_max_db": 20}
    physics, scenes = make_scenes(200, seed=21, **how)
    obs, search = observe(scenes, torch.arange(200)), Search.from_config(physics)
    start = gaussian_start(obs, true_points(scenes, torch.arange(200), 1).float(), search.geometry)
    truth = search.converge(obs, search.polish(obs, start, 6))
    found = NompEstimator.from_config(physics, CovarianceConfig(), InferenceConfig(), "cpu").find(obs)
    lack = truth.model.log_likelihood - search.converge(obs, found.hypotheses[1]).model.log_likelihood
    assert float(lack.max()) < 2.0
