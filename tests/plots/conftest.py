"""The evaluation whose figures are drawn."""

from tests.evaluation.conftest import evaluated, evaluation, oracle, physics, run, scenes, source

__all__ = ["evaluated", "evaluation", "oracle", "physics", "run", "scenes", "source"]
