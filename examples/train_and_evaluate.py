"""Train a network for your own surface, then put it beside NOMP: here 8 x 8 elements, for seconds only."""

import risctl
from risctl.training import EpochResult, Event

SURFACE = ["physics.ris_rows=8", "physics.ris_columns=8", "physics.max_sources=2"]
SHORT = ["training.epochs=2", "data.train_scenes=512", "data.val_scenes=128"]  # not for a real training


def main() -> None:
    """Train, follow the losses, evaluate."""
    config = risctl.load_config("quick", overrides=[*SURFACE, *SHORT])

    def listener(event: Event) -> None:
        if isinstance(event, EpochResult):
            print("validation loss", round(event.val["total"], 3))

    trained = risctl.train(config, listeners=[listener])
    evaluated = risctl.evaluate(config, ["learned", "nomp"], model=trained.run, scenes=24)
    for cell in evaluated.evaluation.results.cells:
        if cell.num_sources is None and cell.snr_db is None:
            print(f"{cell.estimator}: recall {cell.recall.value:.2f}, GOSPA {cell.gospa.mean:.2f} m")


if __name__ == "__main__":
    main()
