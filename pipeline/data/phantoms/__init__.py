"""Phantoms: synthetic heads with exact labels, for the demo, for tests and for sweeps over the foreground fraction."""

from pipeline.data.phantoms.writing import make_phantoms

__all__ = ["make_phantoms"]
