"""Estimators side by side on scenes of your own choice: eight antennas, 10 and 20 dB."""

import risctl


def main() -> None:
    """Evaluate NOMP and MUSIC, told nothing, beside the Cramer-Rao bound."""
    settings = ["physics.num_antennas=8", "evaluation.snr_values_db=[10, 20]", "evaluation.bootstrap=50"]
    config = risctl.load_config("quick", overrides=settings)
    evaluated = risctl.evaluate(config, ["nomp", "music"], scenes=40)
    for cell in evaluated.evaluation.results.cells:
        if cell.num_sources is None and cell.snr_db is not None:
            azimuth = cell.azimuth_deg
            print(
                f"{cell.estimator} at {cell.snr_db:g} dB: recall {cell.recall.value:.2f}, "
                f"precision {cell.precision.value:.2f}, azimuth RMSE {azimuth.rmse:.2f} deg "
                f"(bound {azimuth.bound:.2f})"
            )
    print("tables and pictures:", evaluated.run)


if __name__ == "__main__":
    main()
