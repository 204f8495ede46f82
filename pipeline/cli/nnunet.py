"""`whichloss nnunet`: files for nnU-Net."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.console import print_json
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.losses import LossSpec
    from pipeline.trainers.nnunet.trainer_files import TrainerFile

nnunet = typer.Typer(help="Train nnU-Net with the losses of whichloss.", no_args_is_help=True)


@nnunet.callback()
def _group() -> None:
    # Without a callback, typer would merge the single command into its group.
    pass


@nnunet.command("trainers")
def trainers(
    losses: Annotated[str, typer.Option(help="Losses separated by commas, or a YAML file; see `whichloss losses`.")],
    out: Annotated[Path, typer.Option(help="Folder of the trainers, for nnU-Net's variable nnUNet_extTrainer.")],
    seeds: Annotated[int, typer.Option(help="Trainings of each loss and fold, each with a class of its own.")] = 1,
    epochs: Annotated[int | None, typer.Option(help="Epochs of a training; default: 1000, as in nnU-Net.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the trainers as JSON.")] = False,
) -> None:
    """Write a trainer class for each loss and seed, and print the commands that train with them."""
    from pipeline.losses import parse_losses
    from pipeline.losses.trial import try_losses
    from pipeline.trainers.nnunet.trainer_files import write_trainers

    for option, value in (("--seeds", seeds), ("--epochs", epochs)):
        if value is not None and value < 1:
            raise ConfigError(f"{option} {value}", "must be at least 1", f"give e.g. {option} 3")
    specs = parse_losses(losses)
    try_losses(specs)
    files = write_trainers(specs, range(seeds), out, epochs)
    export = f"export nnUNet_extTrainer={_quoted(out)}"
    rows = list(_rows(specs, files))
    if json:
        print_json({"folder": str(out.resolve()), "export": export, "trainers": rows})
        return
    typer.echo(export)
    for row in rows:
        typer.echo(row["command"])


def _rows(specs: "Sequence[LossSpec]", files: "Sequence[TrainerFile]") -> "Iterator[dict[str, Any]]":
    for spec, file in zip(specs, files, strict=True):
        for seed, name in file.class_names.items():
            yield {
                "loss": spec.label,
                "spec": spec.text,
                "seed": seed,
                "trainer": name,
                "file": str(file.path.resolve()),
                "command": f"nnUNetv2_train DATASET CONFIGURATION FOLD -tr {name}",
            }


def _quoted(folder: Path) -> str:
    import shlex

    return shlex.quote(str(folder.resolve()))
