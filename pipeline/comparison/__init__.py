"""Statistics and the verdict, from a table of results alone."""

from pipeline.comparison.settings import ComparisonSettings
from pipeline.comparison.verdict import compare
from pipeline.records.verdict import Verdict

__all__ = ["ComparisonSettings", "Verdict", "compare"]
