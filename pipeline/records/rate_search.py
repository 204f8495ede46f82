"""Outcome of the search over learning rates of one run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Rule = Literal["given", "best", "fallback"]
"""Why a rate was chosen: the only one given, the best of the last round, or the default because none beat chance."""


@dataclass(frozen=True, slots=True)
class TrialTraining:
    """A short training at one learning rate.

    `score` is the mean average precision on held-out training cases, 0 to 1; None where the training went to NaN or no
    held-out case shows any class.
    """

    learning_rate: float
    steps: int
    score: float | None


@dataclass(frozen=True, slots=True)
class RateSearch:
    """The outcome of a search.

    Attributes
    ----------
    chosen
        The learning rate of the training.
    rule
        Rule that decided.
    chance
        The score that says nothing has been learned: the larger of prevalence and the score of the untrained network.
        None without a search, and if no held-out case shows any class.
    trials
        In the order of their trainings, round after round; all rounds but the last stayed at chance.
    """

    chosen: float
    rule: Rule
    chance: float | None
    trials: tuple[TrialTraining, ...]

    @property
    def last_round(self) -> tuple[TrialTraining, ...]:
        """The longest trial trainings, on which the decision rests."""
        longest = max((trial.steps for trial in self.trials), default=0)
        return tuple(trial for trial in self.trials if trial.steps == longest)

    @property
    def rounds(self) -> int:
        """Number of rounds, each with longer trial trainings than the one before."""
        return len({trial.steps for trial in self.trials})

    @property
    def at_edge(self) -> bool:
        """True if the best rate is the smallest or largest candidate, so that the optimum may lie outside."""
        tried = [trial.learning_rate for trial in self.trials]
        return self.rule == "best" and self.chosen in (min(tried), max(tried))

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``run.json`` and ``events.jsonl``."""
        return {
            "chosen": self.chosen,
            "rule": self.rule,
            "chance": self.chance,
            "candidates": [asdict(trial) for trial in self.trials],
        }

    @staticmethod
    def from_json(content: Mapping[str, Any] | None) -> "RateSearch | None":
        """Return the search that `to_json` wrote; None for runs of versions that did not record its rule."""
        if not content or "rule" not in content:
            return None
        trials = tuple(TrialTraining(one["learning_rate"], one["steps"], one["score"]) for one in content["candidates"])
        return RateSearch(content["chosen"], content["rule"], content["chance"], trials)
