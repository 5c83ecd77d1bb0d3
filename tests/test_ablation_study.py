"""The ablation study, small: a job leaves its figures and no run, the table compares with the same seed."""

from pathlib import Path

import pytest

from tests.ablation_study import BASE, FIGURES, VARIANTS, job, rows_of, settings, table

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_a_configuration(variant: str) -> None:
    assert (settings(variant, 1) == settings(BASE, 1)) == (variant == BASE)


@pytest.mark.slow
def test_a_job_has_every_figure_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    short = ("data.train_scenes=128", "data.val_scenes=64", "training.epochs=2")
    row = job("no-ortho", 0, 20, short)
    assert all(0.0 <= row[name] <= 1.0 for name in FIGURES if name != "nmse_blend")
    assert not list(tmp_path.glob("runs/train/*"))


def test_the_table_gives_differences_to_the_same_seed() -> None:
    rows = [{"variant": BASE, "seed": s, **dict.fromkeys(FIGURES, 0.5 + 0.1 * s)} for s in range(3)]
    rows += [{"variant": "stored", "seed": s, **dict.fromkeys(FIGURES, 0.4 + 0.1 * s)} for s in range(3)]
    _, _, base, stored = table(rows)
    assert base.split(" | ")[1] == "0.600"
    assert stored.split(" | ")[1] == "-0.100 (0.000)"


def test_the_documents_show_the_table_of_the_reference_rows() -> None:
    shown = "\n".join(table(rows_of(ROOT / "runs/reference/ablations.jsonl")))
    assert shown in (ROOT / "docs/training.md").read_text(encoding="utf-8")
