"""DICOM in and out: choose a series of a study, read it as a volume, write SEG and structured report on it.

`find_series` needs headers alone; `to_nifti` and `write_results` use highdicom for all geometry.
"""

from pipeline.inference.dicom.case import DicomCase, DicomError, NoImageError
from pipeline.inference.dicom.jpeg_decoder import register_decoder
from pipeline.inference.dicom.library_warnings import silence_libraries
from pipeline.inference.dicom.results import write_results
from pipeline.inference.dicom.selection import find_series
from pipeline.inference.dicom.volume import to_nifti

silence_libraries()
register_decoder()

__all__ = ["DicomCase", "DicomError", "NoImageError", "find_series", "to_nifti", "write_results"]
