"""A sweep and its picture: recall and errors against the number of snapshots."""

import risctl


def main() -> None:
    """Evaluate the shipped model and MUSIC with 8 and 16 snapshots."""
    axes = {"physics.num_snapshots": (8, 16)}
    swept = risctl.sweep(axes, "quick", ["learned", "music"], scenes=30)
    for point in swept.sweeps[0].points:
        for cell in point.cells:
            if cell.num_sources is None and cell.snr_db is None:
                print(f"{point.value} snapshots, {cell.estimator}: recall {cell.recall.value:.2f}")
    print("picture:", next(path for path in swept.files if path.suffix == ".png"))


if __name__ == "__main__":
    main()
