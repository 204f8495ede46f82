"""pydicom and highdicom repeat malformed values, names among them, in warnings and logs; here they are silenced.

Called once, when the package is imported: nothing of them reaches a log, whatever thread reads.
"""

import logging
import warnings

from pydicom import config


def silence_libraries() -> None:
    """Let pydicom and highdicom say nothing: what matters about a series is judged and worded here."""
    for name in ("pydicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        warnings.filterwarnings("ignore", module=name)
    config.settings.reading_validation_mode = config.IGNORE
    config.settings.writing_validation_mode = config.IGNORE
