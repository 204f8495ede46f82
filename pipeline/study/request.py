"""What a user asks of a study."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.records.tolerance import ToleranceRequest

DEFAULT_LOSSES = "ce,dice,dice_ce,weighted_ce"


@dataclass(frozen=True, slots=True)
class StudyRequest:
    """The arguments of ``segloss study``.

    `seeds` is how many seeds each loss and fold is trained with; `controls` names losses that get a second arm with
    random streams of its own; `jobs` how many runs at once (None: measured); `precision` forces float32 or bfloat16;
    `cache` is where prepared cases are kept (None: inside the study); with `race`, losses that are clearly behind are
    dropped between blocks of folds and seeds; `executor` is ``local`` or ``ray``, with the `address` of a cluster.
    `part` (i, n) carries out every n-th run from the i-th on of a study that exists, beside other parts; `part` (0, n)
    begins a study and trains nothing. `memory_gib` is what one run may take; it bounds the patch. With `tta` held-out
    cases are predicted with test-time augmentation. `tolerance_mm` gives tolerances of surface Dice as
    `pipeline.records.tolerance.ToleranceRequest` reads them (None: by the resolution).
    """

    dataset: Path
    out: Path
    losses: str = DEFAULT_LOSSES
    controls: str = ""
    folds: int = 5
    seeds: int = 1
    first_seed: int = 0
    budget: str = "300s"
    jobs: int | None = None
    precision: str | None = None
    learning_rates: tuple[float, ...] | None = None
    keep_predictions: bool = True
    skip_bad: bool = False
    race: bool = False
    executor: str = "local"
    address: str | None = None
    part: tuple[int, int] | None = None
    memory_gib: float = 8.0
    tta: bool = False
    tolerance_mm: str | None = None
    track: bool = True
    cache: Path | None = None
    command: str = ""

    def __post_init__(self) -> None:
        for name, least in (("folds", 2), ("seeds", 1)):
            value = getattr(self, name)
            if value < least:
                raise ConfigError(f"--{name} {value}", f"is less than {least}", f"give {least} or more")
        if self.jobs is not None and self.jobs < 1:
            raise ConfigError(f"--jobs {self.jobs}", "is less than 1", "give 1 or more, or leave it out")
        if not self.memory_gib > 0:
            raise ConfigError(f"--memory {self.memory_gib}", "is no memory", "give GiB, e.g. 4")
        if self.precision not in (None, "float32", "bfloat16"):
            raise ConfigError(
                f"--precision {self.precision}", "is unknown", "give float32 or bfloat16, or leave it out"
            )

        ToleranceRequest.parse(self.tolerance_mm)
        if self.executor not in ("local", "ray"):
            raise ConfigError(f"--executor {self.executor}", "is unknown", "give local or ray")
        if self.address is not None and self.executor != "ray":
            raise ConfigError(f"--address {self.address}", "is of a Ray cluster", "give --executor ray too")

    def identity(self) -> dict[str, Any]:
        """Return what must be the same for a study to be continued.

        How it is carried out may differ, and there may be more losses, controls and seeds than before.
        """
        left_out = {"out", "jobs", "track", "cache", "command", "keep_predictions", "precision"}
        left_out |= {"losses", "controls", "seeds", "race", "executor", "address", "part", "memory_gib"}
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in left_out}
        values["dataset"] = str(self.dataset.resolve())
        values["learning_rates"] = list(self.learning_rates) if self.learning_rates else None
        return values
