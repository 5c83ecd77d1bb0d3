"""One self-contained HTML page about one or several runs: no server, no network, nothing beside the file."""

from risctl.report.page import Check, Fact, Page, Picture, Setting
from risctl.report.render import render_pages

__all__ = ["Check", "Fact", "Page", "Picture", "Setting", "render_pages"]
