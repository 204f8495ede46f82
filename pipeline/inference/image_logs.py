"""The logs of the libraries that read images, which are silenced because they may name the patient."""

import logging


def silence_image_logs() -> None:
    """Silence pydicom, highdicom and nibabel: their messages quote malformed values of the files."""
    for name in ("pydicom", "highdicom", "nibabel"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
