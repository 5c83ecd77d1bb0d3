"""The study of a search's ranking, small: which trials it takes, and what it makes of them."""

from pathlib import Path

import risctl
from tests.search_study import chosen, longer, table

TRIALS = """trial,state,loss,epochs,training.lr,model.width,training.batch
0,complete,1.4,3,0.0002,64,64
1,complete,1.2,3,0.0004,32,80
2,pruned,1.1,1,0.0003,32,64
3,complete,1.3,3,0.0001,48,64
4,failed,,0,0.0001,48,64
"""


def test_complete_trials_are_trained_longer_with_their_own_parameters(tmp_path: Path) -> None:
    (tmp_path / "trials.csv").write_text(TRIALS)
    assert [row["trial"] for row in chosen(tmp_path, 2)] == ["1", "0"]
    assert [row["trial"] for row in chosen(tmp_path, 6)] == ["1", "3", "0"]
    config = risctl.load_config("search")
    asked = longer(config, chosen(tmp_path, 1)[0], 3)
    assert asked.data.train_scenes == 3 * config.data.train_scenes
    assert (asked.training.lr, asked.training.batch, asked.model.width) == (0.0004, 80, 32)
    assert asked.training.epochs == config.search.epochs


def test_the_table_ends_with_the_rank_correlation() -> None:
    rows = [{"trial": i, "loss": 1.0 + i, "longer": x} for i, x in enumerate((0.5, 0.7, 0.6))]
    assert list(table(rows))[2:] == [
        "| 0 | 1.000 | 0.500 |",
        "| 1 | 2.000 | 0.700 |",
        "| 2 | 3.000 | 0.600 |",
        "rank correlation 0.50 of 3 trials",
    ]
