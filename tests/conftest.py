"""Settings that all tests share, and a tiny study, trained once a session, with the bundles made of it."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent / "bundle"))
sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent / "report"))
from tiny_bundles import bundle, copied, ensemble, python_without_pipeline, tiny_dataset, tiny_study
from training_fixtures import plan, prepared

__all__ = ["bundle", "copied", "ensemble", "plan", "prepared", "python_without_pipeline", "tiny_dataset", "tiny_study"]

# A machine that is busy with something else makes no property false.
settings.register_profile("whichloss", deadline=None)
settings.load_profile("whichloss")
