"""README and docs: every link leads somewhere, every command and setting they name exists."""

import re
from pathlib import Path

import pytest
import typer

from risctl.cli.app import app
from risctl.config import Config, flatten
from tests import results_tables

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
KNOWN = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def heading_anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        assert there.exists(), f"{document}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in map(heading_anchor, headings), f"{document}: {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_commands_and_settings_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for command in re.findall(r"(?:^|`|\n)risctl ([a-z][a-z-]+)", text):
        assert command in KNOWN, f"{document}: risctl {command}"
    settings = flatten(Config().model_dump(mode="json"))
    sections = "|".join(Config.model_fields)
    for key in re.findall(rf"\b((?:{sections})\.[a-z_]+(?:\.[a-z_]+)*)=", text):
        assert key in settings or key == "physics.snr_db", f"{document}: {key}"


@pytest.mark.parametrize("document", results_tables.DOCUMENTS)
def test_the_results_are_those_of_the_reference_evaluation(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert results_tables.with_block(text) == text, "run: python tests/results_tables.py"
