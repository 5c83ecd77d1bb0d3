"""The report of a run: what it says, that it needs nothing beside it, and that a browser finds no fault."""

import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from risctl import runs
from risctl.config import reference_directory
from risctl.config.layers import Layers
from risctl.errors import DamagedFileError, InputError
from risctl.runs.names import REPORT_FILE, SEARCH_FILE
from risctl.runs.report import read_page

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LIMIT = 3_000_000  # bytes
OUTWARD = re.compile(r"""(?:src|href|url\()\s*=?\s*["'(]?\s*(?:https?:|//|file:)""")


class Wellformed(html.parser.HTMLParser):
    """Counts tags and fails on one that is closed in the wrong place; `<p>` and cells must be closed, too."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(path: Path) -> Wellformed:
    text = path.read_text(encoding="utf-8")
    assert len(text) < LIMIT
    assert not OUTWARD.search(text), "it refers to something outside the file"
    parser = Wellformed()
    parser.feed(text)
    assert parser.open == []
    return parser


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the fixture that leaves reports out."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("evaluated"))
        request = runs.EvaluationRequest(Layers("quick"), estimators=("music",), scenes=30)
        return runs.evaluate(request).run.absolute()


def test_an_evaluation_ends_with_a_report_of_figures_tables_and_its_command(evaluated: Path) -> None:
    path = evaluated / REPORT_FILE
    parser = checked(path)
    assert parser.seen.count("svg") == 4
    assert parser.seen.count("img") == 0
    text = path.read_text(encoding="utf-8")
    results = json.loads((evaluated / "eval" / "results.json").read_text())
    cell = next(c for c in results["cells"] if c["snr_db"] is None and c["num_sources"] is None)
    assert f"<td>{cell['gospa']['mean']:.3g}</td>" in text
    for part in ("At a glance", "Sources found", "Settings", "Reproduce", "Provenance", "evaluation.scenes"):
        assert part in text


def test_every_picture_is_drawn_again_from_the_files(evaluated: Path) -> None:
    names = {path.stem for path in (evaluated / "eval").glob("*.png")}
    drawn = runs.draw_run(evaluated, "pdf")
    assert {path.stem for path in drawn} == names >= {"rmse", "scene", "spectrum"}
    assert all(path.read_bytes().startswith(b"%PDF") for path in drawn)
    with pytest.raises(InputError, match="png, pdf, svg"):
        runs.draw_run(evaluated, "gif")


def test_a_training_that_is_done_has_a_report_and_one_that_was_stopped_has_none(run: Path) -> None:
    checked(runs.write_report(run))
    page = read_page(run)
    assert page.command == "train"
    assert page.state == "done"
    assert page.tables[0].rows[0][0] == "validation loss"


def test_several_runs_stand_side_by_side_with_the_settings_that_differ(run: Path, evaluated: Path) -> None:
    path = runs.write_reports([run, evaluated], Path("both.html"))
    assert checked(path).seen.count("article") == 2
    text = path.read_text(encoding="utf-8")
    assert "Settings that differ" in text
    assert "<td>physics.ris_columns</td><td>6</td><td>preset</td>" in text


def test_what_a_run_is_called_cannot_write_into_the_page(run: Path) -> None:
    """Text from files is escaped."""
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | {"command": "<script>alert(1)</script>"}))
    text = runs.write_report(run).read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_the_shipped_model_has_one_though_it_is_older(tmp_path: Path) -> None:
    page = read_page(reference_directory())
    assert page.pictures[0].image.startswith("<svg")
    assert "Best validation loss" in page.headline


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [(SEARCH_FILE, "{}", DamagedFileError), (SEARCH_FILE, "[1]", DamagedFileError)],
)
def test_a_damaged_result_is_named(run: Path, name: str, text: str, error: type[Exception]) -> None:
    (run / name).write_text(text)
    with pytest.raises(error, match=name):
        runs.write_report(run)


@pytest.mark.parametrize("git", [[1], {"dirty": []}, "x"])
def test_provenance_of_another_kind_is_damage(run: Path, git: object) -> None:
    document = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps(document | {"git": git}))
    with pytest.raises(DamagedFileError, match=r"provenance\.json"):
        read_page(run)


def test_a_directory_without_a_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        runs.write_report(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="a run with a result"):
        runs.write_report(tmp_path)


PROBE = """<script>
window.addEventListener("load", () => {
  for (const image of document.images)
    if (!image.naturalWidth) console.error("picture missing: " + image.alt);
  for (const part of document.querySelectorAll("figure image")) {
    const copy = new Image();
    copy.onerror = () => console.error("picture missing in a figure");
    copy.src = part.href.baseVal;
  }
  for (const head of document.querySelectorAll("th button")) head.click();
  document.title = "pictures " + (document.images.length + document.querySelectorAll("figure svg").length);
});
</script>"""


def browse(page: Path, width: int, dark: bool) -> tuple[str, str]:
    """The document after its scripts ran, and what the browser's console said."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic"]
    options += ["--disable-background-networking", "--enable-logging=stderr", f"--window-size={width},900"]
    options += ["--force-dark-mode"] if dark else []
    options += [f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]
    command = [str(BROWSER), *options, page.absolute().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (420, True)])
def test_a_browser_finds_no_fault(evaluated: Path, width: int, dark: bool) -> None:
    text = (evaluated / REPORT_FILE).read_text(encoding="utf-8")
    page = Path("probe.html")
    page.write_text(text.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    document, console = browse(page, width, dark)
    assert console == ""
    assert "<title>pictures 4</title>" in document
    broken = text.replace("data:image/png;base64,", "data:image/png;base64,AAAA")
    page.write_text(broken.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    assert "picture missing" in browse(page, width, dark)[1], "the probe notices a broken picture"
