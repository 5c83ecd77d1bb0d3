import torch

from risctl.inference.sbl import merged_peaks

BOX = torch.tensor([0.15, 0.15, 0.15])


def lattice():
    axis = torch.arange(11) * 0.1
    return torch.cartesian_prod(axis, axis, axis[:3])


def test_a_peak_is_the_centroid_of_its_neighbourhood():
    points = lattice()
    gamma = torch.zeros(len(points))
    gamma[(points - torch.tensor([0.5, 0.5, 0.1])).norm(dim=1) < 1e-3] = 3.0
    gamma[(points - torch.tensor([0.6, 0.5, 0.1])).norm(dim=1) < 1e-3] = 1.0
    found = merged_peaks(gamma[None], points[None], 1, BOX, BOX)
    torch.testing.assert_close(found[0, 0], torch.tensor([0.525, 0.5, 0.1]))


def test_merged_power_outranks_a_taller_spike():
    points = lattice()
    gamma = torch.zeros(len(points))
    gamma[(points - torch.tensor([0.1, 0.1, 0.0])).norm(dim=1) < 1e-3] = 5.0
    gamma[(points - torch.tensor([0.8, 0.8, 0.1])).norm(dim=1) < 0.101] = 1.0  # a point and six neighbours
    found = merged_peaks(gamma[None], points[None], 2, BOX, BOX)
    torch.testing.assert_close(found[0, 0], torch.tensor([0.8, 0.8, 0.1]))
    torch.testing.assert_close(found[0, 1], torch.tensor([0.1, 0.1, 0.0]))


def test_peaks_are_nested_in_their_number():
    generator = torch.Generator().manual_seed(0)
    points = lattice()
    gamma = torch.rand(3, len(points), generator=generator)
    points = points.expand(3, -1, -1)
    torch.testing.assert_close(
        merged_peaks(gamma, points, 5, BOX, BOX)[:, :3], merged_peaks(gamma, points, 3, BOX, BOX)
    )


def test_no_power_left_still_gives_lattice_points():
    points = lattice()
    gamma = torch.zeros(len(points))
    gamma[7] = 1.0
    found = merged_peaks(gamma[None], points[None], 3, BOX, BOX)
    assert bool(torch.isfinite(found).all())
    torch.testing.assert_close(found[0, 0], points[7])
