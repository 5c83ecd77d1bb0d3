"""Training step, loop, optimiser, schedules, averaging. Filled by the learned estimator."""
