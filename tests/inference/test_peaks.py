import torch

from risctl.inference.sbl import merged_peaks

AXIS = torch.arange(11) * 0.1
LATTICE = torch.cartesian_prod(AXIS, AXIS, AXIS[:3])


def peaks(gamma, count):
    box = torch.tensor([0.15, 0.15, 0.15])
    return merged_peaks(gamma, LATTICE.expand(len(gamma), -1, -1), count, box, box)


def powers(*places):
    """Powers [1, G] of the lattice, zero but within a radius of each ``(point, radius, power)``."""
    gamma = torch.zeros(1, len(LATTICE))
    for point, radius, power in places:
        gamma[0, (LATTICE - torch.tensor(point)).norm(dim=1) < radius] = power
    return gamma


def test_a_peak_is_the_centroid_of_its_neighbourhood():
    found = peaks(powers(([0.5, 0.5, 0.1], 1e-3, 3.0), ([0.6, 0.5, 0.1], 1e-3, 1.0)), 1)
    torch.testing.assert_close(found[0], torch.tensor([[0.525, 0.5, 0.1]]))


def test_merged_power_outranks_a_taller_spike():
    six_neighbours = ([0.8, 0.8, 0.1], 0.101, 1.0)
    found = peaks(powers(([0.1, 0.1, 0.0], 1e-3, 5.0), six_neighbours), 2)
    torch.testing.assert_close(found[0], torch.tensor([[0.8, 0.8, 0.1], [0.1, 0.1, 0.0]]))


def test_peaks_are_nested_in_their_number():
    gamma = torch.rand(3, len(LATTICE), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(peaks(gamma, 5)[:, :3], peaks(gamma, 3))


def test_no_power_left_still_gives_lattice_points():
    found = peaks(powers((LATTICE[7].tolist(), 1e-3, 1.0)), 3)
    assert bool(torch.isfinite(found).all())
    torch.testing.assert_close(found[0, 0], LATTICE[7])
