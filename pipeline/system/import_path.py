"""Import of a class or function by its path, as options of the command line name it."""

import importlib
from typing import Any

from pipeline.errors import ConfigError


def import_class(path: str, option: str) -> type:
    """Return the class at ``package.module.Class`` or ``package.module:Class``.

    Parameters
    ----------
    path
        Import path of the class.
    option
        Option that names it, for the error.

    Raises
    ------
    ConfigError
        If the path cannot be imported, or is not that of a class.

    Examples
    --------
    >>> from pipeline.system.import_path import import_class
    >>> import_class("collections.OrderedDict", "--option").__name__
    'OrderedDict'
    """
    found = import_object(path, f"{option} {path}")
    if not isinstance(found, type):
        raise ConfigError(f"{option} {path}", "is not a class", "name a class by its import path")
    return found


def import_object(path: str, subject: str) -> Any:
    """Return the class or function at ``package.module.name`` or ``package.module:name``.

    Parameters
    ----------
    path
        Import path.
    subject
        Subject of the error, such as the option and its value.

    Raises
    ------
    ConfigError
        If the path cannot be imported.
    """
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(subject, f"could not be imported ({error})", "check the path, and PYTHONPATH") from error
