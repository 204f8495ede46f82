"""Segloss answers which loss is best for *your* 3D segmentation."""

import logging
import warnings

__version__ = "0.1.0"

# MONAI's LoadImage builds every reader it knows, whichever is asked for, and one of them complains of a missing GPU
# decoder for DICOM each time. It is not used here: NIfTI is read by nibabel, DICOM by highdicom.
logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader", category=UserWarning)
