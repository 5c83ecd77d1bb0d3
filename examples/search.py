"""A hyper-parameter search, shortened to two trials of one epoch."""

import risctl


def main() -> None:
    """Search the learning rate and the size of the network; say which trial was best."""
    short = ["search.epochs=1", "data.train_scenes=256", "data.val_scenes=64"]
    config = risctl.load_config("search", overrides=short)
    found = risctl.search(
        config, trials=2, need_gate=False
    )  # a real one needs risctl.overfit() to pass first
    for trial in found.outcome.trials:
        print(trial.number, trial.state, trial.value, dict(trial.params))
    print("go" if found.verdict.go else "no-go", "- settings of the best trial:", found.run / "best.toml")


if __name__ == "__main__":  # the trials run in processes of their own
    main()
