"""The published chain: MUSIC on the blend, range search, polish."""

import torch

from risctl.config import InferenceConfig, load_config, reference_directory
from risctl.data import SceneStream
from risctl.inference import build_estimator
from risctl.model.load import load_checkpoint


def test_it_is_the_learned_estimator_without_moves_and_polish_acts() -> None:
    model, config = load_checkpoint(reference_directory(), "cpu"), load_config("quick", None)
    s = SceneStream(config.physics, 3, "val", 256).scenes(0, 6)

    def ranges(name: str, **changes: object) -> torch.Tensor:
        settings = InferenceConfig(**(config.inference.model_dump() | changes))
        estimator = build_estimator(name, config.physics, config.covariance, settings, "cpu", model)
        return estimator(s.y, s.H, s.codes, s.num_sources.long()).range

    chain = ranges("blend")
    same = ranges("learned", moves=False, start="music")
    torch.testing.assert_close(chain, same, rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(chain.nan_to_num(), ranges("blend", nf_mle_iters=0).nan_to_num())
    coarse, fine = (ranges("blend", nf_mle_iters=0, range_grid=n) for n in (61, 241))
    torch.testing.assert_close(coarse, fine, rtol=1e-4, atol=0, equal_nan=True)  # the nulls are refined
