"""From the content of a report to HTML."""

from collections.abc import Sequence
from importlib import resources

from jinja2 import Environment, StrictUndefined

from risctl import __version__
from risctl.report.page import Page, Setting


def render_pages(pages: Sequence[Page]) -> str:
    """One HTML document of one run, or of several: side by side first, then each by itself.

    Everything is inside: style, script and images. Text is escaped; only SVG drawn here is not.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_part("page.html"))
    return template.render(
        pages=pages,
        differences=differing_settings(pages),
        style=_part("page.css"),
        script=_part("page.js"),
        version=__version__,
    )


def differing_settings(pages: Sequence[Page]) -> list[tuple[str, list[str]]]:
    """Settings that the runs do not share: the key and each run's value, `preset` where it is unchanged."""
    if len(pages) < 2:
        return []
    own: list[dict[str, Setting]] = [{s.key: s for s in page.settings} for page in pages]
    keys = sorted(set().union(*own))
    rows = [(key, [str(values[key].value) if key in values else "preset" for values in own]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def _part(name: str) -> str:
    return resources.files("risctl.report").joinpath(name).read_text(encoding="utf-8")
