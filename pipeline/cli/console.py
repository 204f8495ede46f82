"""Output of the commands: results on stdout, logs and progress on stderr."""

import json
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pipeline.errors import ConfigError
from pipeline.system.json_values import to_json_value

# Long paths stay on one line, so that they can be copied and parsed.
out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


def print_json(value: object) -> None:
    """Print a value as one JSON document on stdout (`pipeline.system.json_values.to_json_value`)."""
    sys.stdout.write(json.dumps(to_json_value(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def parse_positive_numbers(option: str, text: str) -> tuple[float, ...]:
    """Return the numbers of a comma-separated list.

    Parameters
    ----------
    option
        Name of the option, for the error message.
    text
        Value of the option.

    Raises
    ------
    ConfigError
        The text is anything but positive numbers separated by commas.

    Examples
    --------
    >>> parse_positive_numbers("--learning-rates", "0.001,0.004")
    (0.001, 0.004)
    """
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) <= 0:
        raise ConfigError(f"{option} {text}", "is not a list of positive numbers", "give e.g. 0.001,0.004")
    return numbers


def progress_bar() -> Progress:
    """Return a progress display with the time left, on stderr; nothing is shown if stderr is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
        transient=True,
    )
