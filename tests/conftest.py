"""Settings that all tests share."""

from hypothesis import settings

# A machine that is busy with something else makes no property false.
settings.register_profile("segloss", deadline=None)
settings.load_profile("segloss")
