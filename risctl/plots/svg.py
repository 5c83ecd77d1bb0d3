"""Figures as SVG that follows the page's colours, light or dark."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

from risctl.plots.style import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Neutral colours of the pictures, by the page's own: what is drawn in them follows light and dark.
NEUTRAL = {
    INK: "var(--ink)",
    "#000000": "var(--ink)",
    FAINT: "var(--faint)",
    "#dddddd": "var(--grid)",
    "#eeeeee": "var(--grid)",
    "#d8d8d8": "var(--grid)",
    "#f7f7f7": "var(--panel)",
}
HOLLOW = "fill: #ffffff"  # marks without a filling, in the colour of the page's figures
COLOUR = re.compile(r"(fill|stroke): (#[0-9a-f]{6})")


def svg_of(figure: Figure, label: str) -> str:
    """The figure as an `<svg>` element with `label` for screen readers; its text stays text."""
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": label, "font.family": "sans-serif"}):
        figure.patch.set_alpha(0.0)
        for axes in figure.axes:
            axes.patch.set_alpha(0.0)
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)  # as wide as the page
    text = text.replace(HOLLOW, "fill: var(--panel)")
    text = COLOUR.sub(lambda found: f"{found[1]}: {NEUTRAL.get(found[2], found[2])}", text)
    text = re.sub(r"font: ([\d.]+)px[^;\"]*", r"font: \1px system-ui, sans-serif", text)
    text = text.replace("<text ", '<text fill="var(--ink)" ')
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def png_of(path: Path) -> str:
    """A PNG file as a data address."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
