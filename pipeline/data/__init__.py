"""Datasets: layouts, NIfTI files, checks, measurements, folds and plans."""
