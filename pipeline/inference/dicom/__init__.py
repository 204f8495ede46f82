"""DICOM input and output: select a series of a study, read it as a volume, write SEG and structured report.

`find_series` reads headers only; `to_nifti` and `write_results` leave all geometry to highdicom.
"""

from pipeline.inference.dicom.case import DicomCase, DicomError, NoImageError
from pipeline.inference.dicom.jpeg_decoder import register_decoder
from pipeline.inference.dicom.library_warnings import silence_libraries
from pipeline.inference.dicom.results import ResultSettings, write_results
from pipeline.inference.dicom.selection import find_series
from pipeline.inference.dicom.volume import to_nifti

silence_libraries()
register_decoder()

__all__ = ["DicomCase", "DicomError", "NoImageError", "ResultSettings", "find_series", "to_nifti", "write_results"]
