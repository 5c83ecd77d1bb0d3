"""Other conventions of sign and order, and the likelihood by which they are compared."""

import numpy as np
import pytest
import torch

from risctl.inference import Estimates
from risctl.inference.conventions import conventions, log_likelihood, p_of_gain, p_of_gains
from risctl.inference.observation import Observation
from risctl.physics import ArrayGeometry
from tests.inference.conftest import make_scenes
from tests.oracle import Array, gaussian_log_likelihood


def test_each_convention_is_its_own_inverse_or_an_order_by_columns() -> None:
    rows, columns = 2, 3
    y, H, codes = (torch.randn(2, *shape, dtype=torch.complex64) for shape in ((5, 4), (4, 6), (5, 6)))
    turned = conventions(y, H, codes, (rows, columns))
    for name in ("codes conjugated", "H conjugated", "y conjugated"):
        back = conventions(*turned[name], (rows, columns))[name]
        for found, expected in zip(back, (y, H, codes), strict=True):
            assert torch.equal(found, expected)
    _, by_rows, _ = turned["elements numbered by columns"]
    by_columns = H.view(2, 4, columns, rows)
    torch.testing.assert_close(by_rows.view(2, 4, rows, columns), by_columns.mT)
    assert set(conventions(y, H, codes, None)) == set(turned) - {"elements numbered by columns"}


def test_the_likelihood_is_that_of_the_oracle_with_sources_or_none(geometry64: ArrayGeometry) -> None:
    _, scenes = make_scenes(6, seed=1, max_sources=3, snr_min_db=10.0, snr_max_db=10.0)
    found = Estimates.empty(6, 5, torch.device("cpu"))
    for i in range(5):  # the last scene has none
        K = int(scenes.num_sources[i])
        found.num_sources[i] = K
        for name in ("azimuth", "elevation", "range", "power"):
            getattr(found, name)[i, :K] = getattr(scenes, name)[i, :K].double()
    found.noise_var[:] = scenes.noise_var.double()
    obs = Observation.build(scenes.y, scenes.H, scenes.codes)
    value, (L, M) = log_likelihood(obs, found, geometry64), scenes.y.shape[1:]
    for i in range(6):
        K = int(found.num_sources[i])
        where = torch.stack([found.azimuth[i], found.elevation[i], found.range[i]], dim=-1)[:K].numpy()
        Phi, y = obs.Phi[i].to(torch.complex128).numpy(), obs.y[i].to(torch.complex128).numpy()
        power, noise = found.power[i, :K].numpy(), float(found.noise_var[i])
        expected = -L * M * np.log(noise) - float((np.abs(y) ** 2).sum()) / noise
        if K:
            expected = gaussian_log_likelihood(Array(), Phi, y, where, power, noise) + L * M * np.log(np.pi)
        assert float(value[i]) == pytest.approx(expected, rel=1e-6)


def test_a_gain_of_a_few_nats_says_nothing() -> None:
    p = p_of_gain(torch.tensor([-torch.inf, -300.0, 0.0, 13.0, 30.0], dtype=torch.float64))
    assert p[:4].tolist() == [1.0] * 4
    assert float(p[4]) < 1e-6


def test_gains_of_scenes_add_up_above_a_price_for_each() -> None:
    nats = torch.tensor([15.0, -3.0, 10.0, 6.0], dtype=torch.float64)
    assert p_of_gains(nats) == pytest.approx(np.exp(-(28.0 - 4 * 5.0) / 2.0))
    assert p_of_gains(nats - 2.0) == 1.0
    assert p_of_gains(torch.zeros(10)) == 1.0
