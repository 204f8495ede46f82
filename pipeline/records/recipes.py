"""A folder of studies with several recipes: its paths, its settings, and the combined verdict."""

from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.errors import RecordError
from pipeline.records.folder import STUDIES, StudyFolder
from pipeline.records.model import Number, RecordModel, SparseRecord
from pipeline.records.operating_points import VerdictKind
from pipeline.records.study import RequestRecord
from pipeline.records.verdict import MoreNeeded

Agreement = Literal["holds", "differs", "cannot_tell"]
"""Answer to the question whether a result depends on the recipe."""

Change = Literal["order", "order uncertain", "size"]
"""Clear interaction of two losses: each is clearly better under one recipe; the sign of the difference changes, but it
is not clear under both; or only its size changes."""


class RecipesRecord(SparseRecord):
    """The settings of a folder of studies.

    Attributes
    ----------
    recipes
        Names of the recipes, in the order in which they were added.
    request
        Arguments that all studies share.
    command
        Command line that began or last extended the folder.
    """

    schema_version: int = Field(1, alias="schema")
    recipes: tuple[str, ...]
    request: RequestRecord
    command: str = ""


@dataclass(frozen=True, slots=True)
class RecipesFolder:
    """Paths inside a folder of studies, one for each recipe; nothing is read or written.

    ::

        recipes.json          settings and the recipes in order
        recipes.csv           every out-of-fold value: recipe, then the columns of cases.csv
        verdict.json          combined verdict
        report.html           combined page
        prepared/             prepared cases that the studies share
        studies/<recipe>/     one study for each recipe
    """

    root: Path

    @property
    def settings(self) -> Path:
        """Settings, written once the studies of all recipes exist."""
        return self.root / "recipes.json"

    @property
    def table(self) -> Path:
        """The long table of all recipes."""
        return self.root / "recipes.csv"

    @property
    def verdict(self) -> Path:
        """The combined verdict as JSON."""
        return self.root / "verdict.json"

    @property
    def report(self) -> Path:
        """The combined HTML page."""
        return self.root / "report.html"

    @property
    def prepared(self) -> Path:
        """Cache of the prepared cases."""
        return self.root / "prepared"

    def study(self, recipe: str) -> StudyFolder:
        """Return the study of a recipe."""
        return StudyFolder(self.root / STUDIES / recipe)

    def read_record(self) -> RecipesRecord:
        """Return the settings.

        Raises
        ------
        RecordError
            If the folder holds no studies of several recipes, or its settings cannot be read.
        """
        remedy = "give the --out folder of `whichloss study --recipes`"
        try:
            content = self.settings.read_bytes()
        except OSError as error:
            raise RecordError(self.root, "holds no readable recipes.json", remedy) from error
        return RecipesRecord.parse(content, self.settings, remedy)


class RecipeOutcome(RecordModel):
    """The verdict of the study of one recipe.

    Attributes
    ----------
    headline
        First sentence of its verdict.
    set_aside
        Losses without comparable results under this recipe, with the reason.
    """

    recipe: str
    verdict: VerdictKind
    recommended: str | None
    headline: str = ""
    set_aside: dict[str, str] = Field(default_factory=dict)
    dropped: dict[str, str] = Field(default_factory=dict)
    collapsed: dict[str, int] = Field(default_factory=dict)


class RecipeMean(RecordModel):
    """Mean of one loss under one recipe, on the cases that all losses and recipes share.

    Attributes
    ----------
    ci_low, ci_high
        Bootstrap interval of the mean; None for a single patient.
    best
        True if it is the best mean under this recipe.
    """

    metric: str
    recipe: str
    loss: str
    mean: Number
    ci_low: float | None = None
    ci_high: float | None = None
    best: bool = False


class RecipeDifference(RecordModel):
    """Difference between two losses under one recipe; the fields are those of `PairResult`."""

    recipe: str
    difference: Number
    ci_low: Number
    ci_high: Number
    p_holm: Number = nan
    better: str | None = None
    equivalent: bool = False


class Interaction(RecordModel):
    """Double difference: ``a - b`` under the first recipe minus ``a - b`` under the second, paired by case.

    Attributes
    ----------
    first, second
        The difference under each recipe.
    difference, ci_low, ci_high
        Double difference and its interval, in the metric's unit.
    p_value, p_holm
        p value of the t test of the double difference, before and after Holm's correction for all pairs of losses and
        recipes of a metric.
    clear
        True if the double difference is shown to differ from 0.
    equivalent
        True if it is shown to lie within `margin`.
    verdict
        ``holds`` if both recipes show the same clearly better loss, or both show equivalence, and the interaction is
        not clear beyond the margin; ``differs`` if the interaction is clear beyond the margin.
    change
        Kind of a clear interaction.
    detectable
        Interaction that a study like this one finds with a probability of 80 %.
    more_needed
        The smallest study that would probably decide whether the differences differ, for the deciding metric.
    """

    metric: str
    a: str
    b: str
    first: RecipeDifference
    second: RecipeDifference
    cases: int
    difference: Number
    ci_low: Number
    ci_high: Number
    p_value: Number = nan
    p_holm: Number = nan
    replicated: bool = True
    clear: bool = False
    equivalent: bool = False
    verdict: Agreement = "cannot_tell"
    change: Change | None = None
    margin: float = nan
    detectable: float | None = None
    more_needed: MoreNeeded | None = None

    @property
    def losses(self) -> frozenset[str]:
        """Both losses."""
        return frozenset((self.a, self.b))

    @property
    def recipes(self) -> tuple[str, str]:
        """Both recipes, in the order of the difference."""
        return self.first.recipe, self.second.recipe


class Regret(RecordModel):
    """Cost of using under one recipe the loss that another recipe recommends.

    Attributes
    ----------
    chosen_under, used_under
        Recipe whose recommendation is used, and recipe of the trainings.
    loss, recommended
        Loss that is used, and loss that the second recipe recommends.
    regret, ci_low, ci_high
        Mean difference between them in the metric's unit; positive values are worse.
    clear
        True if the regret is shown to exceed 0.
    within_margin
        True if both losses are equivalent under the second recipe.
    """

    chosen_under: str
    used_under: str
    loss: str
    recommended: str
    metric: str
    regret: Number
    ci_low: Number
    ci_high: Number
    clear: bool = False
    within_margin: bool = False


class RecipesVerdict(RecordModel):
    """Combined verdict on several recipes.

    Attributes
    ----------
    verdict
        ``holds`` if the recommendation of each recipe is shown to be best or equivalent under every other;
        ``differs`` if the recommendation of one recipe does not suit another and the interaction is clear.
    recommended
        The loss that all recipes recommend, None if they differ.
    primary
        Metric that decides.
    waiting
        Recipes without results yet.
    smallest_detectable
        Interaction that a study like this one finds with a probability of 80 % (median over pairs), by metric.
    more_needed
        The smallest study that would probably decide the open pairs of recommended losses.
    """

    schema_version: int = Field(1, alias="schema")
    verdict: Agreement
    recommended: str | None
    primary: str
    recipes: tuple[RecipeOutcome, ...] = ()
    waiting: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    means: tuple[RecipeMean, ...] = ()
    pairs: tuple[Interaction, ...] = ()
    regrets: tuple[Regret, ...] = ()
    smallest_detectable: dict[str, float | None] = Field(default_factory=dict)
    more_needed: MoreNeeded | None = None
    replicated: bool = True
    cases: int = 0
    confidence: float = 0.95
    words: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that were compared, the deciding one first."""
        names = dict.fromkeys(mean.metric for mean in self.means)
        return tuple(sorted(names, key=lambda name: name != self.primary))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the recipes with results, in order."""
        return tuple(outcome.recipe for outcome in self.recipes)

    def pairs_of(self, metric: str) -> tuple[Interaction, ...]:
        """Return the interactions of one metric."""
        return tuple(pair for pair in self.pairs if pair.metric == metric)

    def mean_of(self, metric: str, recipe: str, loss: str) -> RecipeMean | None:
        """Return the mean of one loss under one recipe; None without results."""
        key = (metric, recipe, loss)
        return next((mean for mean in self.means if (mean.metric, mean.recipe, mean.loss) == key), None)
