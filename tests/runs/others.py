"""Measurement files as somebody else makes them: right ones in other units and sizes, and wrong ones.

Made with the oracle, which shares no code with the library. Every function returns the arrays of a file.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tests import oracle
from tests.oracle.signals import line_of_sight
from tests.oracle.simulator import complex_normal, draw_channel, draw_positions

ComplexArray = npt.NDArray[np.complex128]
TWO = ((20.0, -5.0, 3.0), (-35.0, 10.0, 6.0))  # azimuth deg, elevation deg, range m


@dataclass(frozen=True)
class Arrays:
    """What stands in a file: y [S, L, M], H [S, M, N], codes [S, L, N]."""

    y: ComplexArray
    H: ComplexArray
    codes: ComplexArray

    def scaled(self, y: float = 1.0, H: float = 1.0) -> "Arrays":
        return Arrays(self.y * y, self.H * H, self.codes)


def simulated(
    sources: tuple[tuple[float, float, float], ...] | int = TWO,
    snr_db: float = 20.0,
    scenes: int = 1,
    seed: int = 0,
    *,
    snapshots: int = 16,
    antennas: int = 16,
    array: oracle.Array | None = None,
    scattered: bool = True,
    gain: npt.NDArray[np.complex128] | None = None,
    powers_db: tuple[float, ...] | None = None,
) -> Arrays:
    """Scenes of the same sources, or of so many at random, each with a channel and codes of its own.

    Args:
        sources: azimuth (deg), elevation (deg) and range (m) of each, or their number.
        scattered: a Rician channel; False: the line of sight alone.
        gain: of each element, the true one, unknown to whoever reads the file.
        powers_db: of each source; None: within 3 dB.
    """
    rng, array = np.random.default_rng(seed), array or oracle.Array()
    how = (snr_db, snapshots, antennas, scattered, gain, powers_db)
    made = [_scene(rng, array, sources, *how) for _ in range(scenes)]
    return Arrays(*(np.stack(parts) for parts in zip(*made, strict=True)))


def _scene(
    rng: np.random.Generator,
    array: oracle.Array,
    sources: tuple[tuple[float, float, float], ...] | int,
    snr_db: float,
    L: int,
    M: int,
    scattered: bool,
    gain: npt.NDArray[np.complex128] | None,
    powers_db: tuple[float, ...] | None,
) -> tuple[ComplexArray, ComplexArray, ComplexArray]:
    if isinstance(sources, int):
        at = draw_positions(rng, array, sources)
    else:
        at = np.array(sources) * (np.pi / 180, np.pi / 180, 1.0)
    levels = rng.uniform(-3, 3, len(at)) if powers_db is None else np.array(powers_db)
    x = 10 ** (levels[:, None] / 20) * complex_normal(rng, len(at), L)
    H = draw_channel(rng, array, M) if scattered else line_of_sight(array, M, 0.3, 0.4, 0.1)
    codes = oracle.codes_from_index(rng.integers(0, 8, (L, array.num_elements)))
    true_H = H if gain is None else H * gain
    clean = oracle.noise_free(oracle.sensing_matrices(true_H, codes), oracle.steering_matrix(array, at), x)
    noise = np.sqrt(np.mean(np.abs(clean) ** 2) / 10 ** (snr_db / 10))
    return clean + noise * complex_normal(rng, L, M), H, codes


def noise_alone(scenes: int, seed: int = 0) -> Arrays:
    file = simulated(1, 0.0, scenes, seed)
    return Arrays(complex_normal(np.random.default_rng([seed, 1]), *file.y.shape), file.H, file.codes)


def phase_errors(scenes: int, snr_db: float = 20.0, sources: int = 2, seed: int = 0) -> Arrays:
    """A surface whose elements have static phase errors of 0.3 rad, the same in all scenes."""
    gain = np.exp(0.3j * np.random.default_rng([seed, 2]).standard_normal(144))
    return simulated(sources, snr_db, scenes, seed, gain=gain)


def conjugated(file: Arrays, *names: str) -> Arrays:
    """Some of the arrays conjugated: the other sign of the phase in one place only."""
    return replace(file, **{name: getattr(file, name).conj() for name in names})


def rows_for_columns(file: Arrays, rows: int = 12, columns: int = 12) -> Arrays:
    """The elements in the other order, the row running first."""
    order = np.arange(rows * columns).reshape(rows, columns).T.ravel()
    return Arrays(file.y, file.H[..., order], file.codes[..., order])


def transposed(file: Arrays) -> Arrays:
    """Snapshots for antennas: of 16 x 16 nobody can see it by the shape."""
    return Arrays(file.y.transpose(0, 2, 1), file.H, file.codes)


def one_live_snapshot(scenes: int, seed: int = 0) -> Arrays:
    """All but the first snapshot hold noise only."""
    file = simulated(2, 20.0, scenes, seed)
    level = 0.1 * np.sqrt(np.mean(np.abs(file.y) ** 2))
    noise = level * complex_normal(np.random.default_rng([seed, 3]), *file.y.shape)
    return replace(file, y=np.concatenate([file.y[:, :1], noise[:, 1:]], axis=1))
