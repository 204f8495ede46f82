"""Silence of pydicom and highdicom, whose warnings and logs repeat malformed values, names of patients among them.

It is set once, when the package is imported, and so holds for every thread.
"""

import logging
import warnings

from pydicom import config


def silence_libraries() -> None:
    """Turn off all warnings, logs and validation messages of pydicom and highdicom.

    This package itself judges and reports whatever matters about a series.
    """
    for name in ("pydicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        warnings.filterwarnings("ignore", module=name)
    config.settings.reading_validation_mode = config.IGNORE
    config.settings.writing_validation_mode = config.IGNORE
