"""Results tables of README and docs/results.md, made from the results under runs/reference.

    risctl eval ...                    # the two commands below the tables; their results.json to
                                       # runs/reference/eval and runs/reference/count
    python tests/results_tables.py

A test holds both documents to what this makes.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "docs/results.md")
BEGIN, END = "<!-- results of runs/reference -->", "<!-- end of results -->"
SHOWN_DB = (-5.0, 0.0, 5.0, 10.0, 20.0)
HEADS = (
    "estimator",
    "SNR dB",
    "recall",
    "precision",
    "K right",
    "GOSPA m",
    "azimuth deg",
    "elevation deg",
    "range m",
)

Cell = Mapping[str, Any]


def results(name: str) -> dict[str, Any]:
    """The results of the reference evaluation `name`."""
    loaded: dict[str, Any] = json.loads((ROOT / "runs/reference" / name / "results.json").read_text("utf-8"))
    return loaded


def cells(evaluation: Mapping[str, Any], estimator: str) -> list[Cell]:
    """Cells of `estimator` over all counts at the SNRs shown."""
    mine = [c for c in evaluation["cells"] if c["estimator"] == estimator and c["num_sources"] is None]
    return [next(c for c in mine if c["snr_db"] == snr) for snr in SHOWN_DB]


def series(shown: list[Cell], figure: Callable[[Cell], float]) -> str:
    """One figure at the SNRs shown, `a / b / c`."""
    return " / ".join(f"{figure(c):.2f}" for c in shown)


def error(cell: Cell, coordinate: str) -> str:
    """`RMSE / bound (ratio)` of a coordinate."""
    e = cell[coordinate]
    return f"{e['rmse']:.2f} / {e['bound']:.2f} ({e['ratio']['value']:.2f})"


def block() -> str:
    """What stands between the two marks: decision=count in words, the table, the times."""
    evaluation, counted = results("eval"), cells(results("count"), "learned")
    figures = {
        name: series(counted, lambda c, key=key: c[key]["value"])  # type: ignore[misc]
        for name, key in (("recall", "recall"), ("precision", "precision"), ("K right", "count_accuracy"))
    }
    figures["GOSPA"] = series(counted, lambda c: c["gospa"]["mean"]) + " m"
    words = ", ".join(f"{name} {values}" for name, values in figures.items())
    lines = [
        "`inference.decision=count` reports the most probable count instead (learned, "
        "-5 / 0 / 5 / 10 / 20 dB: " + words + ").",
        "",
        "| " + " | ".join(HEADS) + " |",
        "|---" * len(HEADS) + "|",
    ]
    for estimator in ("learned", "nomp", "sbl", "music"):
        for c in cells(evaluation, estimator):
            shares = [f"{c[key]['value']:.2f}" for key in ("recall", "precision", "count_accuracy")]
            errors = [error(c, key) for key in ("azimuth_deg", "elevation_deg", "range_m")]
            entries = [estimator, f"{c['snr_db']:.0f}", *shares, f"{c['gospa']['mean']:.2f}", *errors]
            lines.append("| " + " | ".join(entries) + " |")
    seconds = {t["estimator"]: 1e3 * t["cpu_seconds_per_scene"] for t in evaluation["timings"]}
    times = ", ".join(f"{name} {seconds[name]:.0f}" for name in ("learned", "nomp", "sbl", "music"))
    told = evaluation["references"][0]
    lines += [
        "",
        f"CPU per scene in ms, one thread, counting included: {times}. The oracle `ceiling`, the peak search",
        f"told the true covariance and K, is off by {told['median_angle_deg']:.0e} deg and "
        f"{told['median_range_m']:.0e} m (medians).",
    ]
    return "\n".join(lines)


def with_block(text: str) -> str:
    """`text` with what :func:`block` makes between the marks.

    Raises:
        ValueError: if the marks are missing.
    """
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"expected the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{block()}\n{END}{after}"


def main() -> None:
    """Write both documents."""
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(with_block(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
