"""Segloss answers which loss is best for *your* 3D segmentation.

The names below are the Python interface; docs/reference/python-api.md shows each in use. They are imported when they
are first used, so that ``import pipeline`` takes no time and loads neither torch nor pandas.
"""

import importlib
import logging
import warnings
from typing import TYPE_CHECKING

from pipeline.version import __version__

if TYPE_CHECKING:
    from pipeline.bundle.export import export_bundle
    from pipeline.bundle.model import Model, load_model
    from pipeline.bundle.source import read_source
    from pipeline.comparison.folders import compare_folders
    from pipeline.comparison.settings import ComparisonSettings
    from pipeline.comparison.verdict import compare
    from pipeline.data.datalists import read_dataset
    from pipeline.data.dataset import Dataset
    from pipeline.data.phantoms.writing import make_phantoms
    from pipeline.errors import SeglossError
    from pipeline.inference.request import PredictionRequest, predict
    from pipeline.metrics.evaluation import Evaluation, evaluate_folders
    from pipeline.records.folder import StudyFolder
    from pipeline.records.table import read_table
    from pipeline.records.verdict import Verdict, read_verdict
    from pipeline.report.build import build_report
    from pipeline.report.results import ResultsRequest, compare_results
    from pipeline.study.request import StudyRequest
    from pipeline.study.run import run_study

__all__ = [
    "ComparisonSettings",
    "Dataset",
    "Evaluation",
    "Model",
    "PredictionRequest",
    "ResultsRequest",
    "SeglossError",
    "StudyFolder",
    "StudyRequest",
    "Verdict",
    "__version__",
    "build_report",
    "compare",
    "compare_folders",
    "compare_results",
    "evaluate_folders",
    "export_bundle",
    "load_model",
    "make_phantoms",
    "predict",
    "read_dataset",
    "read_source",
    "read_table",
    "read_verdict",
    "run_study",
]

_MODULES = {
    "ComparisonSettings": "pipeline.comparison.settings",
    "Dataset": "pipeline.data.dataset",
    "Evaluation": "pipeline.metrics.evaluation",
    "Model": "pipeline.bundle.model",
    "PredictionRequest": "pipeline.inference.request",
    "ResultsRequest": "pipeline.report.results",
    "SeglossError": "pipeline.errors",
    "StudyFolder": "pipeline.records.folder",
    "StudyRequest": "pipeline.study.request",
    "Verdict": "pipeline.records.verdict",
    "build_report": "pipeline.report.build",
    "compare": "pipeline.comparison.verdict",
    "compare_folders": "pipeline.comparison.folders",
    "compare_results": "pipeline.report.results",
    "evaluate_folders": "pipeline.metrics.evaluation",
    "export_bundle": "pipeline.bundle.export",
    "load_model": "pipeline.bundle.model",
    "make_phantoms": "pipeline.data.phantoms.writing",
    "predict": "pipeline.inference.request",
    "read_dataset": "pipeline.data.datalists",
    "read_source": "pipeline.bundle.source",
    "read_table": "pipeline.records.table",
    "read_verdict": "pipeline.records.verdict",
    "run_study": "pipeline.study.run",
}

# MONAI's LoadImage builds every reader it knows, whichever is asked for, and one of them complains of a missing GPU
# decoder for DICOM each time. It is not used here: NIfTI is read by nibabel, DICOM by highdicom.
logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader", category=UserWarning)


def __getattr__(name: str) -> object:
    """Import a name of the Python interface when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
