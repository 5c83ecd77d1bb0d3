"""Loss terms and their total. Filled by the learned estimator."""
