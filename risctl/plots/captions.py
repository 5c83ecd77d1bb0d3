"""What each picture shows, in a line, by the name of its file."""

from collections.abc import Iterable
from pathlib import Path

CAPTIONS = {
    "rmse": "errors against SNR, beside the bound of the same sources",
    "rates": "recall and K right, against SNR",
    "confusion": "estimated against true number of sources",
    "detection": "sources found against false ones, as the threshold falls",
    "reliability": "stated against observed probabilities",
    "scene": "a scene: true and estimated positions",
    "spectrum": "the MUSIC spectrum of that scene",
    "curves": "losses, figures, rates and gradients over the training",
    "history": "losses of the trials",
    "importance": "what mattered for the loss",
    "parallel": "every trial's settings, coloured by its loss",
}


def pictures(files: Iterable[str | Path]) -> list[tuple[Path, str]]:
    """The pictures among the files, each with its caption."""
    found = [Path(file) for file in files]
    return [(path, caption_of(path)) for path in found if path.suffix in (".png", ".pdf", ".svg")]


def caption_of(path: Path) -> str:
    """What the picture of that name shows; a sweep's name holds its setting."""
    if path.stem.startswith("sweep_"):
        return f"every estimator against {path.stem.removeprefix('sweep_')}"
    return CAPTIONS.get(path.stem, "")
