"""Python files of trainer classes that nnU-Net finds in the folder ``nnUNet_extTrainer``."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.losses.loss_spec import LossSpec, parse_losses
from pipeline.system.files import write_text
from pipeline.system.random_streams import derived_seed

PREFIX = "nnUNetTrainer_"
ORIGIN = "written by `whichloss nnunet trainers`"

_OWN = "loss nnunet trainers`"
"""Part of `ORIGIN`, which files of version 0.1.0 have as well: the command was called `segloss` then."""
"""Part of the first line of each file; a file without it is never overwritten."""

_NAMES_OF_NNUNET = re.compile(
    r"\d|warmup|DASegOrd0|onlyMirror01|noDummy2DDA|probabilisticOversampling", re.IGNORECASE | re.ASCII
)
"""Starts of names of nnU-Net's own trainers, which it would find first."""

_SEED = re.compile(r"_seed\d+$")


@dataclass(frozen=True, slots=True)
class TrainerFile:
    """One file of trainer classes.

    Attributes
    ----------
    path
        The file.
    label
        Label of the loss.
    class_names
        Name of the class for each seed, for ``nnUNetv2_train -tr``.
    """

    path: Path
    label: str
    class_names: dict[int, str]


def write_trainers(
    losses: Sequence[LossSpec],
    seeds: Sequence[int],
    folder: Path,
    epochs: int | None = None,
    iterations: int | None = None,
) -> tuple[TrainerFile, ...]:
    """Write one file for each loss, with one class for each seed.

    Parameters
    ----------
    losses
        The losses, with distinct labels; controls have random streams of their own.
    seeds
        Seeds, at least 0.
    folder
        Folder of the files, created if it does not exist.
    epochs, iterations
        Epochs, and training batches per epoch; None for nnU-Net's own number.

    Raises
    ------
    ConfigError
        If a file of that name exists that this function did not write, or that holds another loss, or the arguments of
        a loss cannot be written as text.
    """
    for spec in losses:
        _require_text(spec)
    files = []
    for spec, name in zip(losses, trainer_names([spec.label for spec in losses]), strict=True):
        names = {seed: name if seed == 0 else f"{name}_seed{seed}" for seed in seeds}
        files.append(TrainerFile(folder / f"{name}.py", spec.label, names))
    for file in files:
        _require_own(file)
    for spec, file in zip(losses, files, strict=True):
        write_text(file.path, _source(spec, file, epochs, iterations))
    return tuple(files)


def trainer_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Return a class name for each label, without the double underscores that separate parts of nnU-Net's folders.

    Names that would be equal, or that nnU-Net would take for another trainer or seed, end in a hash of their label.

    Examples
    --------
    >>> trainer_names(["dice_ce", "tversky-alpha=0.3-beta=0.7"])
    ('nnUNetTrainer_dice_ce', 'nnUNetTrainer_tversky_alpha0p3_beta0p7')
    """
    readable = [_readable(label) for label in labels]
    # Some file systems do not distinguish upper and lower case.
    count = Counter(name.lower() for name in readable)
    return tuple(
        PREFIX + (name if count[name.lower()] == 1 and not _taken(name) else f"loss_{name}_{_hash(label)}")
        for label, name in zip(labels, readable, strict=True)
    )


def _readable(label: str) -> str:
    text = re.sub(r"(?<=\d)\.(?=\d)", "p", label).replace("=", "")
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "loss"


def _taken(name: str) -> bool:
    return _NAMES_OF_NNUNET.match(name) is not None or _SEED.search(name) is not None


def _hash(label: str) -> str:
    return hashlib.blake2b(label.encode(), digest_size=3).hexdigest()


def _require_text(spec: LossSpec) -> None:
    """Refuse arguments that the trainer would read differently, such as mappings from a YAML file."""
    problem = ConfigError(f"loss {spec.label}", "has arguments that cannot be written as text", "give numbers or lists")
    try:
        (read,) = parse_losses(spec.text)
    except (ConfigError, ValueError) as error:
        raise problem from error
    if read.arguments != spec.arguments:
        raise problem


def _require_own(file: TrainerFile) -> None:
    try:
        lines = file.path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(file.path, f"cannot be read ({error})", "choose another folder with --out") from error
    if not lines or _OWN not in lines[0]:
        raise ConfigError(file.path, "was not written by this command", "choose another folder with --out")
    if f"    label = {_quoted(file.label)}" not in lines:
        raise ConfigError(file.path, "holds trainers of another loss", "choose another folder with --out")


def _source(spec: LossSpec, file: TrainerFile, epochs: int | None, iterations: int | None) -> str:
    first = next(iter(file.class_names.values()))
    lines = [
        f'"""Trainers of nnU-Net for the loss {file.label}, {ORIGIN}.',
        "",
        "The environment variable nnUNet_extTrainer must name the folder of this file:",
        "",
        f"    nnUNetv2_train DATASET CONFIGURATION FOLD -tr {first}",
        '"""',
        "",
        "from pipeline.trainers.nnunet.loss_trainer import LossTrainer",
    ]
    for seed, name in file.class_names.items():
        lines += [
            "",
            "",
            f"class {name}(LossTrainer):",
            f'    """Seed {seed}."""',
            "",
            f"    loss = {_quoted(spec.text)}",
            f"    label = {_quoted(spec.label)}",
            f"    seed = {derived_seed(seed, 'control') if spec.control else seed}",
        ]
        if epochs is not None:
            lines.append(f"    epochs = {epochs}")
        if iterations is not None:
            lines.append(f"    iterations = {iterations}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
