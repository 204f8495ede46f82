"""Statistics and the verdict, from a table of results alone."""

from pipeline.comparison.verdict import Verdict, compare

__all__ = ["Verdict", "compare"]
