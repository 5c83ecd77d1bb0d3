"""The network as a whole: what its answer may and may not depend on, and what it must consist of."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from risctl.config import CovarianceConfig, LossConfig, ModelConfig, PhysicsConfig
from risctl.errors import MeasurementError
from risctl.losses import Truth, main_weights, total_loss
from risctl.losses.presence import detection_terms
from risctl.model import RisNetwork, build_network, predict
from risctl.model.backbone import group_norm
from risctl.model.network import slot_powers, structured_factors
from risctl.model.slots import Slots
from risctl.physics import ArrayGeometry, FieldOfView, Scenes, steering_vector
from risctl.physics.polar import from_polar
from risctl.physics.steering import steering_derivatives
from tests.model.networks import make_network, make_scenes, outputs


@pytest.fixture(params=["structured", "factors"])
def head(request: pytest.FixtureRequest) -> str:
    return request.param


def _assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], atol: float = 1e-3) -> None:
    for name, x in expected.items():
        torch.testing.assert_close(found[name], x, rtol=1e-3, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


def test_shapes_types_and_limits(head: str) -> None:
    physics, scenes = make_scenes(3)
    out = outputs(make_network(physics, head=head), scenes)
    B, N, K = 3, physics.num_elements, physics.max_sources
    assert out["A_angle"].shape == out["A_range"].shape == (B, N, K)
    assert out["A_angle"].dtype == out["A_range"].dtype == torch.complex64
    assert out["count_logits"].shape == out["power"].shape == (B, K)
    assert out["position"].shape == (B, K, 3)
    low = torch.tensor([-math.radians(60.0), -math.radians(30.0), 0.5]) - 1e-5
    high = torch.tensor([math.radians(60.0), math.radians(30.0), 10.0]) + torch.tensor([1e-5, 1e-5, 1e-4])
    assert bool(((out["position"] >= low) & (out["position"] <= high)).all())
    assert float(out["power"].min()) >= 0.0
    torch.testing.assert_close(out["power"].sum(1), torch.ones(B))


def test_order_phase_and_scale_of_the_snapshots_do_not_matter(head: str) -> None:
    physics, scenes = make_scenes(4)
    network = make_network(physics, head=head)
    L = scenes.y.shape[1]
    order = torch.randperm(L, generator=torch.Generator().manual_seed(3))
    turn = torch.polar(torch.ones(4, L, 1), torch.linspace(0.0, 40.0, 4 * L).view(4, L, 1))
    expected = outputs(network, scenes)
    _assert_same(outputs(network, scenes, y=scenes.y[:, order], codes=scenes.codes[:, order]), expected)
    _assert_same(outputs(network, scenes, y=scenes.y * turn), expected)
    _assert_same(outputs(network, scenes, y=scenes.y * 1e-4), expected)
    _assert_same(outputs(network, scenes, H=scenes.H * 1e3), expected)


def test_the_answer_depends_on_what_was_measured() -> None:
    physics, scenes = make_scenes(2)
    network = make_network(physics)
    here, there = outputs(network, scenes), outputs(network, scenes, y=scenes.y.flip(0))
    assert not torch.allclose(here["count_logits"], there["count_logits"], atol=1e-4)


@pytest.mark.parametrize("changes", [{"num_snapshots": 1}, {"num_snapshots": 7}, {"num_antennas": 6}])
def test_one_set_of_weights_takes_other_snapshots_and_antennas(changes: dict[str, int]) -> None:
    network = make_network(PhysicsConfig())
    _, scenes = make_scenes(3, **changes)
    assert all(bool(torch.isfinite(x).all()) for x in outputs(network, scenes).values())


@pytest.mark.parametrize(
    "changes",
    [
        {"ris_columns": 4, "ris_rows": 4, "max_sources": 1},
        {"ris_columns": 4, "ris_rows": 4, "max_sources": 8, "max_coherence": 1.0},
        {"ris_columns": 5, "ris_rows": 3, "num_antennas": 4, "max_sources": 2, "num_snapshots": 3},
        {"wavefront": "planar", "ris_columns": 6, "ris_rows": 6},
        {"wavefront": "fresnel", "amplitude_taper": True, "ris_columns": 6, "ris_rows": 6},
    ],
)
def test_other_surfaces_and_slots(changes: dict[str, object], head: str) -> None:
    physics, scenes = make_scenes(2, **changes)
    network = make_network(physics, head=head, depth=1, map_rows=4, map_columns=8, map_ranges=2)
    forward = predict(network, scenes.y, scenes.H, scenes.codes, CovarianceConfig(center=False))
    assert forward.prediction.A_angle.shape == (2, physics.num_elements, physics.max_sources)
    assert bool(torch.isfinite(forward.covariances.blend.norm()).all())


def test_a_batch_is_its_scenes(head: str) -> None:
    physics, scenes = make_scenes(5)
    network = make_network(physics, head=head, depth=3)
    single = [outputs(network, scenes[i : i + 1]) for i in range(5)]
    _assert_same(outputs(network, scenes), {k: torch.cat([s[k] for s in single]) for k in single[0]}, 1e-4)


def test_training_and_evaluation_differ_by_dropout_alone(head: str) -> None:
    physics, scenes = make_scenes(4)
    network = make_network(physics, head=head)
    evaluated = outputs(network, scenes)
    trained = outputs(network.train(), scenes)
    assert all(torch.equal(trained[k], x) for k, x in evaluated.items())
    dropping = make_network(physics, head=head, dropout=0.5)
    dropping.load_state_dict(network.state_dict())
    assert all(torch.equal(x, evaluated[k]) for k, x in outputs(dropping, scenes).items())
    torch.manual_seed(0)
    assert not torch.equal(outputs(dropping.train(), scenes)["maps"], evaluated["maps"])


def _step_loss(network: RisNetwork, physics: PhysicsConfig, scenes: Scenes) -> Tensor:
    geometry, loss = ArrayGeometry.from_config(physics), LossConfig()
    truth = Truth.of(scenes, geometry)
    forward = predict(network, scenes.y, scenes.H, scenes.codes, CovarianceConfig())
    value = total_loss(forward, truth, loss, main_weights(loss), geometry)
    own = detection_terms(forward.prediction, truth, FieldOfView.from_config(physics))
    return value.total + torch.stack(list(own.values())).sum()


def test_the_gradient_reaches_every_parameter_and_is_finite(head: str) -> None:
    physics, scenes = make_scenes(6)
    network = make_network(physics, head=head, depth=3)
    _step_loss(network, physics, scenes).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert bool(parameter.grad.any()), name


def test_features_of_patches_give_maps_of_cells(head: str) -> None:
    """With four cells to a feature the maps keep their size, and cells of one patch differ."""
    physics, scenes = make_scenes(6)
    network = make_network(physics, head=head, patch=2)
    assert network.backbone.stem(torch.zeros(1, network.features.channels, 16, 32)).shape[-2:] == (8, 16)
    maps = outputs(network, scenes)["maps"]
    assert maps.shape == (6, 6, 16, 32)
    patches = maps.unflatten(3, (16, 2)).unflatten(2, (8, 2))
    assert not torch.allclose(patches[:, :, :, 0, :, 0], patches[:, :, :, 1, :, 1])
    presence = maps[:, 0].sigmoid().mean()
    assert 0.005 < float(presence) < 0.02  # the prior, in every cell
    _step_loss(network, physics, scenes).backward()
    assert all(bool(parameter.grad.any()) for parameter in network.parameters())


def test_every_parameter_is_in_one_group_once(head: str) -> None:
    network = make_network(head=head)
    groups = network.parameter_groups()
    assert set(groups) == {"backbone", "head"}
    listed = [id(p) for group in groups.values() for p in group]
    assert sorted(listed) == sorted({id(p) for p in network.parameters()})
    assert {id(p) for p in network.backbone.parameters()} == {id(p) for p in groups["backbone"]}


def test_weights_follow_from_the_seed_alone() -> None:
    physics = PhysicsConfig()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_network(physics, ModelConfig(width=8, depth=1), 7).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = (build_network(physics, ModelConfig(width=8, depth=1), s).state_dict() for s in (7, 8))
    assert all(torch.equal(x, again[name]) for name, x in first.items())
    assert not all(torch.equal(x, other[name]) for name, x in first.items())


def test_constants_are_not_in_the_state() -> None:
    network = make_network()
    assert set(network.state_dict()) == {name for name, _ in network.named_parameters()}


def test_wider_and_deeper_is_larger() -> None:
    sizes = [
        sum(p.numel() for p in make_network(width=w, depth=d, blocks=b).parameters())
        for w, d, b in ((8, 1, 1), (8, 2, 1), (8, 2, 2), (16, 2, 2))
    ]
    assert sizes == sorted(set(sizes))


def test_autocast_reaches_convolutions_only(head: str) -> None:
    physics, scenes = make_scenes(3)
    network = make_network(physics, head=head)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = _step_loss(network, physics, scenes)
        half = outputs(network, scenes)
    loss.backward()
    assert half["A_angle"].dtype == half["A_range"].dtype == torch.complex64
    assert all(x.dtype in (torch.float32, torch.complex64) for x in half.values())
    normalised = group_norm(8)(torch.ones(1, 8, 2, 2, dtype=torch.bfloat16))
    assert normalised.dtype == torch.float32
    assert all(bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None)
    full = outputs(network, scenes)
    torch.testing.assert_close(half["maps"], full["maps"], rtol=0.1, atol=0.1)
    assert not torch.equal(half["maps"], full["maps"])


def test_structured_factors_are_steering_vectors_and_range_tangents(geometry: ArrayGeometry) -> None:
    physics, scenes = make_scenes(3)
    out = outputs(make_network(physics), scenes)
    a = steering_vector(*out["position"].unbind(-1), geometry).mT
    root = out["power"].sqrt().unsqueeze(1)
    torch.testing.assert_close(out["A_angle"], root * a, rtol=1e-3, atol=1e-5)
    _, slopes = steering_derivatives(*out["position"].unbind(-1), geometry)
    tangent = slopes[..., 2, :].mT
    tangent = tangent / tangent.abs().square().sum(1, keepdim=True).sqrt()
    rho = (out["A_range"].abs().square().sum(1, keepdim=True)).sqrt() / root
    torch.testing.assert_close(out["A_range"], root * rho * tangent, rtol=1e-2, atol=1e-4)
    assert float(rho.min()) > 0.0
    assert float(rho.max()) < 1.0


def _slots(std: float, view: FieldOfView) -> Slots:
    points = torch.tensor([[[0.3, -0.2, 0.4], [-0.5, 0.1, 1.5]]])
    return Slots(points, torch.zeros(1, 2), torch.zeros(1, 2), torch.full((1, 2), std))


def test_the_range_factor_is_what_range_errors_add(geometry: ArrayGeometry, view: FieldOfView) -> None:
    std = 1e-3
    slots = _slots(std, view)
    power = torch.tensor([[0.7, 0.3]])
    A, T = structured_factors(slots, power, geometry)
    nudged = replace(slots, points=slots.points + torch.tensor([0.0, 0.0, std]))
    B, _ = structured_factors(nudged, power, geometry)
    torch.testing.assert_close(A - B, T, rtol=0.05, atol=2e-4)
    torch.testing.assert_close(from_polar(slots.points)[2], torch.tensor([[2.5, 1 / 1.5]]))


def test_a_plane_wave_has_no_range_factor(view: FieldOfView) -> None:
    geometry = ArrayGeometry.from_config(PhysicsConfig(wavefront="planar"))
    _, T = structured_factors(_slots(0.1, view), torch.tensor([[0.5, 0.5]]), geometry)
    assert float(T.abs().max()) < 1e-6


def test_unlikely_slots_get_no_power(view: FieldOfView) -> None:
    log_power = torch.tensor([[0.0, 0.7, 0.0, 0.0]])
    slots = Slots(torch.zeros(1, 4, 3), torch.zeros(1, 4), log_power, torch.ones(1, 4))
    sure_of_two = torch.tensor([[-20.0, 20.0, -20.0, -20.0]])
    power = slot_powers(slots, sure_of_two)
    weight = torch.tensor([1.0, math.exp(0.7)])
    torch.testing.assert_close(power[0, :2], weight / weight.sum())
    assert float(power[0, 2:].max()) < 1e-9
    assert bool((slot_powers(slots, torch.zeros(1, 4))[0].diff()[1:] < 0).all())


def test_half_empty_slots_keep_the_gradient_finite() -> None:
    physics, scenes = make_scenes(3)
    network = make_network(physics)
    network.count.net[-1].bias.data = torch.tensor([200.0, 0.0, -200.0, -200.0, -200.0])
    assert float(outputs(network, scenes)["power"][:, 1:].max()) < 1e-6
    _step_loss(network, physics, scenes).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None)


def test_silence_is_refused() -> None:
    physics, scenes = make_scenes(2)
    y = scenes.y.clone()
    y[1] = 0.0
    with pytest.raises(MeasurementError, match="scene 1"):
        predict(make_network(physics), y, scenes.H, scenes.codes, CovarianceConfig())


@pytest.mark.parametrize("off", [slice(0, 1), slice(1, None)], ids=["one", "all but one"])
def test_a_snapshot_with_the_surface_off_is_no_trouble(off: slice) -> None:
    physics, scenes = make_scenes(2)
    codes = scenes.codes.clone()
    codes[:, off] = 0.0
    found = make_network(physics)(scenes.y, scenes.H, codes)
    for x in (found.maps, found.count_logits, found.position, found.power):
        assert torch.isfinite(x).all()


def test_a_few_steps_learn(view: FieldOfView) -> None:
    physics, scenes = make_scenes(16, max_sources=2, snr_values_db=(20.0,))
    network = make_network(physics, width=8).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    values = []
    for _ in range(15):
        loss = _step_loss(network, physics, scenes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < 0.75 * values[0]
