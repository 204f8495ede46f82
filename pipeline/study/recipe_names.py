"""The list of recipes that a user gives."""

import re

from pipeline.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""Names of recipes, which are folder names too."""


def parse_recipes(text: str) -> tuple[str, ...]:
    """Return the names of a comma-separated list of recipes.

    Raises
    ------
    ConfigError
        If a name is empty, occurs twice, or cannot be the name of a folder.

    Examples
    --------
    >>> parse_recipes("fast, adamw")
    ('fast', 'adamw')
    """
    names = tuple(name.strip() for name in text.split(","))
    if any(not NAME.fullmatch(name) for name in names):
        raise ConfigError(f"--recipes {text}", "is not a list of names", "give e.g. fast,adamw")
    if len(set(names)) < len(names):
        raise ConfigError(f"--recipes {text}", "names a recipe twice", "name each recipe once")
    return names
