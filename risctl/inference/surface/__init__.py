"""Calibration of a surface by its own measurements, the sources in them unknown."""
