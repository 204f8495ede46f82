"""The first screen of the page: verdict, caveats and facts about the study."""

from dataclasses import dataclass

from pipeline.comparison.caveats import MIXED
from pipeline.comparison.evidence import Evidence
from pipeline.comparison.phrases import counted
from pipeline.records.metrics import metric_of
from pipeline.records.run import RunTrace
from pipeline.report.formatting import duration, typeset

KIND_LABELS = {"winner": "A winner", "equivalent": "Equivalent", "inconclusive": "Inconclusive"}
NO_VERDICT = "No verdict"
"""Label of a study that cannot recommend a loss: each loss was trained once, or has no results."""

SHOWN_SENTENCES = 5
SHOWN_CAVEATS = 4


@dataclass(frozen=True, slots=True)
class Caveat:
    """A sentence to know before trusting the verdict; serious ones are highlighted and come first."""

    text: str
    serious: bool


@dataclass(frozen=True, slots=True)
class Fact:
    """A property of the study with its label."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Summary:
    """Contents of the first screen.

    Attributes
    ----------
    kind
        Kind of the verdict in a word or two.
    recommends
        True if a loss is recommended.
    headline, sentences, scope
        The verdict in words: the first sentence, the others, and those on the conditions of the trainings.
    caveats
        The serious ones first.
    facts
        Properties of the study.
    unfinished
        Planned runs without a record.
    noise_known
        True if the noise between seeds was measured.
    """

    kind: str
    recommends: bool
    headline: str
    sentences: tuple[str, ...]
    scope: tuple[str, ...]
    caveats: tuple[Caveat, ...]
    facts: tuple[Fact, ...]
    unfinished: tuple[RunTrace, ...]
    noise_known: bool


def summarize_verdict(evidence: Evidence, pairing_equal: bool | None) -> Summary:
    """Return the first screen; `pairing_equal` is the result of `pipeline.report.run_tables.check_pairing`."""
    verdict = evidence.verdict
    scope = [sentence for sentence in evidence.scope.words if sentence in verdict.words]
    sentences = [typeset(sentence) for sentence in verdict.words if sentence not in scope]
    recommends = bool(verdict.replicated and verdict.recommended)
    kind = KIND_LABELS[verdict.verdict] if recommends else NO_VERDICT
    caveats = [Caveat(typeset(caveat), caveat.startswith(MIXED)) for caveat in verdict.caveats]
    progress = f"{len(evidence.finished)} of {len(evidence.runs)} finished"
    noise = _noise(evidence)
    return Summary(
        kind=kind,
        recommends=recommends,
        headline=sentences[0] if sentences else kind,
        sentences=tuple(sentences[1:]),
        scope=tuple(typeset(sentence) for sentence in scope),
        caveats=tuple(sorted(caveats, key=lambda caveat: not caveat.serious)),
        facts=_facts(evidence, progress, noise, pairing_equal),
        unfinished=tuple(run for run in evidence.runs if run.record is None),
        noise_known=noise is not None,
    )


def _noise(evidence: Evidence) -> str | None:
    """Return the standard deviation between seeds of one loss in the primary metric; None if it is unknown."""
    noise = evidence.verdict.noise_floor.get(evidence.primary)
    if noise is None or noise.sd_between_seeds is None:
        return None
    metric = metric_of(evidence.primary)
    return f"{metric.factor * noise.sd_between_seeds:.2f} {metric.displayed_unit}".rstrip()


def _facts(evidence: Evidence, progress: str, noise: str | None, pairing_equal: bool | None) -> tuple[Fact, ...]:
    settings = evidence.settings
    cases = settings.dataset.cases or evidence.table["case"].nunique()
    seconds = sum(run.record.seconds or 0.0 for run in evidence.runs if run.record is not None)
    unknown = "only one run" if settings.trainer is None else "not recorded"
    pairing = {True: "verified: equal hashes", False: "BROKEN: hashes differ", None: unknown}[pairing_equal]
    folds, seeds = counted(settings.folds, "fold", "folds"), counted(len(settings.seeds), "seed", "seeds")
    return (
        Fact("dataset", f"{settings.dataset.name}, {cases} cases"),
        Fact("runs", progress),
        Fact("design", f"{_arms(evidence)} × {folds} × {seeds}"),
        Fact("fair pairing", pairing),
        Fact("noise between seeds", noise or "not measured"),
        Fact("compute", duration(seconds)),
    )


def _arms(evidence: Evidence) -> str:
    """Return the number of losses, and of controls if there are any."""
    controls = sum(arm.control for arm in evidence.settings.losses)
    losses = counted(len(evidence.losses) - controls, "loss", "losses")
    return f"({losses} + {counted(controls, 'control', 'controls')})" if controls else losses
