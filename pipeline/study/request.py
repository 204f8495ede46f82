"""The arguments of a study."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.records.study import Precision, RequestRecord
from pipeline.records.tolerance import ToleranceRequest
from pipeline.study.budget import AUTO, Budgets

DEFAULT_LOSSES = "ce,dice,dice_ce,weighted_ce"
DEFAULT_BUDGET = "300s"
DEFAULT_RECIPE = "fast"

ENGINE = "whichloss"
"""Name of our own engine as a trainer."""

NNUNET = "nnunet"
"""Name of nnU-Net v2 as a trainer."""


@dataclass(frozen=True, slots=True)
class StudyRequest:
    """The arguments of ``whichloss study``.

    Attributes
    ----------
    dataset
        Folder or list of cases.
    out
        Folder of the study.
    losses
        Names, import paths with arguments, or a YAML file, as `pipeline.losses.parse_losses` reads them.
    controls
        Losses that get a second arm with random streams of its own, separated by commas.
    folds
        Folds of the cross-validation.
    seeds
        Trainings of each loss and fold.
    first_seed
        The first seed; it also assigns cases to folds.
    budget
        Training budget per run: of our own engine as `pipeline.study.budget.Budget.parse` reads it, of nnU-Net as
        `pipeline.trainers.nnunet.budget.EpochBudget.parse` does. An empty text is the default of the trainer.
    budgets
        Budgets at which each run is evaluated, as `pipeline.study.budget.Budgets.parse` reads them; empty for one.
        Without any budget at all, our own engine evaluates fractions of its default one.
    jobs
        Runs at once; None to measure what this machine can do.
    precision
        Number format of the forward passes; None to measure which is faster and accurate.
    learning_rates
        Candidates of the search, or the only rate; None for the default candidates.
    keep_predictions
        True if the out-of-fold masks are stored.
    skip_bad
        True if the study continues without unusable cases.
    race
        True if losses that are clearly behind are dropped between blocks of folds and seeds.
    executor, address
        ``local`` or ``ray``, and the address of a Ray cluster.
    part
        (i, n) carries out every n-th run from the i-th on of an existing study, beside other parts; (0, n) creates the
        study and trains nothing.
    memory_gib
        Memory that one run may use, in GiB; it bounds the patch.
    tta
        True if held-out cases are predicted with test-time augmentation.
    tolerance_mm
        Tolerances of surface Dice, as `pipeline.records.tolerance.ToleranceRequest` reads them; None to derive them
        from the resolution.
    trainer
        `ENGINE`, `NNUNET`, or ``package.module:Class`` of a `pipeline.trainers.masks.MaskTrainer`.
    configuration, plans
        Configuration and plans of nnU-Net; None for the defaults.
    recipe
        Name of the recipe: network, optimizer, schedule, sampling and augmentation.
    ignore_label
        Label value of voxels that nobody annotated; None for that of the dataset, if it names one.
    absent_means
        ``absent`` or ``unknown``: what it means that a case has no voxel of a class; None if that is no question.
    network, optimizer, schedule
        Parts that replace those of the recipe: names or import paths with arguments; None to keep them.
    weights
        File of pretrained weights of the network; None to draw them from the seed.
    track
        True if the records are mirrored to MLflow.
    cache
        Folder of the prepared cases; None for the folder of the study.
    command
        Command line, for the record.

    Raises
    ------
    ConfigError
        If a value is out of range or does not fit another.
    """

    dataset: Path
    out: Path
    losses: str = DEFAULT_LOSSES
    controls: str = ""
    folds: int = 5
    seeds: int = 1
    first_seed: int = 0
    budget: str = ""
    budgets: str = ""
    jobs: int | None = None
    precision: Precision | None = None
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
    trainer: str = ENGINE
    configuration: str | None = None
    plans: str | None = None
    recipe: str = DEFAULT_RECIPE
    ignore_label: int | None = None
    absent_means: str | None = None
    network: str | None = None
    weights: Path | None = None
    optimizer: str | None = None
    schedule: str | None = None
    track: bool = True
    cache: Path | None = None
    command: str = ""

    def __post_init__(self) -> None:
        for name, minimum, value in (("folds", 2, self.folds), ("seeds", 1, self.seeds), ("jobs", 1, self.jobs)):
            if value is not None and value < minimum:
                raise ConfigError(f"--{name} {value}", f"must be at least {minimum}", f"use --{name} {minimum} or more")
        if not self.memory_gib > 0:
            raise ConfigError(f"--memory {self.memory_gib}", "must be a positive number of GiB", "use e.g. --memory 4")
        if self.precision not in (None, "float32", "bfloat16"):
            raise ConfigError(
                f"--precision {self.precision}", "must be float32 or bfloat16", "use one of them, or omit the option"
            )
        ToleranceRequest.parse(self.tolerance_mm)
        if self.absent_means not in (None, "absent", "unknown"):
            raise ConfigError(f"--absent-means {self.absent_means}", "must be absent or unknown", "use one of them")
        if self.executor not in ("local", "ray"):
            raise ConfigError(f"--executor {self.executor}", "must be local or ray", "use one of them")
        if self.address is not None and self.executor != "ray":
            raise ConfigError(f"--address {self.address}", "must be used with Ray", "add --executor ray")
        if self.trainer == ENGINE:
            self._set_default_budgets()
        self._check_options_of_trainer()

    def _set_default_budgets(self) -> None:
        if not self.budget and not self.budgets:
            object.__setattr__(self, "budgets", AUTO)
        if self.budgets not in ("", AUTO):
            text = Budgets.parse("", self.budgets).largest.text
            if self.budget not in ("", text):
                raise ConfigError(f"--budget {self.budget}", "contradicts --budgets", "omit one of them")
            object.__setattr__(self, "budget", text)
        object.__setattr__(self, "budget", self.budget or DEFAULT_BUDGET)

    def _check_options_of_trainer(self) -> None:
        """Refuse options that the trainer would ignore."""
        options = (
            (NNUNET, "configuration", self.configuration),
            (NNUNET, "plans", self.plans),
            (ENGINE, "budgets", self.budgets or None),
            (ENGINE, "precision", self.precision),
            (ENGINE, "learning-rates", self.learning_rates),
            (ENGINE, "tta", self.tta or None),
            (ENGINE, "recipes", None if self.recipe == DEFAULT_RECIPE else self.recipe),
            *((ENGINE, name, name) for name in self.replaced_parts),
        )
        for trainer, name, value in options:
            if value is not None and trainer != self.trainer:
                raise ConfigError(
                    f"--{name}", f"has no effect with --trainer {self.trainer}", f"omit it, or use --trainer {trainer}"
                )

    @property
    def replaced_parts(self) -> tuple[str, ...]:
        """Names of the options that replace a part of the recipe."""
        parts = {
            "network": self.network,
            "weights": self.weights,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
        }
        return tuple(name for name, value in parts.items() if value is not None)

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds in order, beginning with the first one."""
        return tuple(range(self.first_seed, self.first_seed + self.seeds))

    def identity(self) -> RequestRecord:
        """Return the arguments that must stay the same for the study to be continued.

        The way in which it is carried out may differ, and losses, controls and seeds may be added.
        """
        record = RequestRecord(
            dataset=str(self.dataset.resolve()),
            folds=self.folds,
            first_seed=self.first_seed,
            budget=self.budget,
            learning_rates=self.learning_rates,
            skip_bad=self.skip_bad,
            tta=self.tta,
            tolerance_mm=self.tolerance_mm,
            trainer=None if self.trainer == ENGINE else self.trainer,
            configuration=self.configuration,
            plans=self.plans,
        )
        # Later options are recorded where they are used, so that other studies are recorded as before.
        later = {
            "budgets": self.budgets or None,
            "recipe": None if self.recipe == DEFAULT_RECIPE else self.recipe,
            "ignore_label": self.ignore_label,
            "absent_means": None if self.absent_means == "absent" else self.absent_means,
        }
        return record.model_copy(update={name: value for name, value in later.items() if value is not None})
