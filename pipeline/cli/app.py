"""The console command `whichloss`.

A command is a function in a module of its own. It imports heavy packages (torch, monai, mlflow) only when it runs, so
that `whichloss --help` answers at once.
"""

import importlib
import logging
import os
import pkgutil
import sys
import warnings

import typer

import pipeline.cli
from pipeline.cli.console import err
from pipeline.cli.failures import Stopped, as_user_error, stop_on_signals
from pipeline.errors import ExitCode, SeglossError
from pipeline.version import __version__

COMMANDS = (
    "demo", "inspect", "losses", "study", "evaluate", "compare", "report", "ui", "track", "sweep", "export", "predict",
    "verify", "bundle", "nnunet",
)  # fmt: skip


def build_app() -> typer.Typer:
    """Return the application with one command for each module named in `COMMANDS` that exists."""
    app = typer.Typer(
        name="whichloss",
        help="Find the best loss for your 3D segmentation: train with each, compare fairly, export the winner.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_version)
    present = {module.name for module in pkgutil.iter_modules(pipeline.cli.__path__)}
    for name in COMMANDS:
        if name in present:
            module = importlib.import_module(f"pipeline.cli.{name}")
            command = getattr(module, name)
            if isinstance(command, typer.Typer):
                app.add_typer(command, name=name)
            else:
                app.command(name)(command)
    return app


def _version(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        typer.echo(f"whichloss {__version__}")
        raise typer.Exit


def main_by_earlier_name() -> None:
    """Run the command line after a note that the command `segloss` has another name; it goes with the next version."""
    print("note: `segloss` is now `whichloss`; the old name is removed in the next version", file=sys.stderr)
    main()


def main() -> None:
    """Run the command line. User errors and refusals of the machine print one line; bugs print their traceback."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    warnings.simplefilter("ignore")
    try:
        with stop_on_signals():
            build_app()(standalone_mode=True)
    except SeglossError as error:
        _print_error(error)
        sys.exit(ExitCode.WRONG_REQUEST)
    except Stopped as stopped:
        err.print(f"stopped by {stopped}; the same command continues", highlight=False)
        sys.exit(128 + stopped.number)
    except (OSError, MemoryError, RuntimeError) as error:
        known = as_user_error(error)
        if known is None:
            raise
        _print_error(known)
        sys.exit(ExitCode.WRONG_REQUEST)


def _print_error(error: SeglossError) -> None:
    err.print(f"[bold red]error:[/] {_escape(str(error))}", highlight=False)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
