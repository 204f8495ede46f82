"""Metrics of segmentations: one panel for each case and class, summaries, and the evaluation of folders."""
