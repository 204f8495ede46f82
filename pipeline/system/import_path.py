"""Import of a class by its path, as options of the command line name it."""

import importlib

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
        If there is no such class.

    Examples
    --------
    >>> from pipeline.system.import_path import import_class
    >>> import_class("collections.OrderedDict", "--option").__name__
    'OrderedDict'
    """
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{option} {path}", f"could not be imported ({error})", "check the path, and PYTHONPATH"
        ) from error
    if not isinstance(found, type):
        raise ConfigError(f"{option} {path}", "is not a class", "name a class by its import path")
    return found
