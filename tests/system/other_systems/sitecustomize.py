"""Remove what only Linux or only POSIX has, in every process that has this folder in PYTHONPATH.

PYTHONPATH=$PWD:$PWD/tests/system/other_systems python -m pytest tests/study
"""

import builtins
import ctypes
import os
import sys

_MODULES = {"fcntl", "resource", "termios", "pwd", "grp", "pty"}
_HAVE_THEIR_OWN_WAYS = ("filelock", "psutil")
"""Packages that use other modules where these are absent, which needs the other system."""

# Not register_at_fork: torch asks for the system by name before it calls it.
for _name in ("sched_getaffinity", "killpg", "nice", "fork", "forkpty", "setsid", "O_DIRECTORY"):
    delattr(os, _name)

os.environ.setdefault("USERNAME", "user")  # Windows always sets it.

_import, _getattr = builtins.__import__, ctypes.CDLL.__getattr__


def _import_elsewhere(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "")
    if name in _MODULES and importer.partition(".")[0] not in _HAVE_THEIR_OWN_WAYS:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return _import(name, globals, locals, fromlist, level)


def _find_elsewhere(library, name):
    if name == "prctl":
        raise AttributeError(name)
    return _getattr(library, name)


for _name in _MODULES:
    sys.modules.pop(_name, None)
builtins.__import__, ctypes.CDLL.__getattr__ = _import_elsewhere, _find_elsewhere
