"""Hyper-parameter search. Filled after training; only this layer imports optuna."""
