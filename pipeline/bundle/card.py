"""The model card of an exported bundle, ``docs/README.md``, from the template ``card.md.j2``."""

import json
import math
from collections.abc import Iterable
from functools import cache

import jinja2

from pipeline.bundle.losses import FALLBACK, LOSSES
from pipeline.bundle.markdown import without_markup
from pipeline.bundle.metadata import INTENDED_USE, TRACKING_PACKAGES, required_packages
from pipeline.bundle.model_settings import ModelSettings
from pipeline.bundle.segment_codes import PRIVATE_SCHEME
from pipeline.bundle.source import StudySource
from pipeline.bundle.specification import BundleSpec
from pipeline.bundle.statements import BundleParts
from pipeline.records.pair_result import PairResult
from pipeline.records.verdict import MetricSummary

_MEANINGS = {
    "winner": "better than every other loss of the study",
    "equivalent": "recommended among losses that are equivalent within the margin",
    "inconclusive": "recommended, although the study could not distinguish the best losses",
}


def model_card(source: StudySource, spec: BundleSpec, settings: ModelSettings, parts: BundleParts) -> str:
    """Return the card as Markdown."""
    verdict, loss = source.verdict, source.loss.label
    return _template().render(
        source=source,
        spec=spec,
        ranges=spec.fingerprint,
        version=parts.version,
        author=parts.statements.author,
        license=parts.statements.license.name,
        training=parts.training,
        effects=parts.effects,
        loss=loss,
        formula=source.formulas[loss],
        monai_has_loss=source.loss.name in LOSSES,
        fallback=FALLBACK,
        verdict=verdict,
        meaning=_MEANINGS[verdict.verdict],
        pairs=[pair for pair in verdict.primary_pairs if loss in pair.names],
        result=source.result,
        intended_use=INTENDED_USE,
        packages=required_packages(settings),
        tracking_packages=TRACKING_PACKAGES,
        has_private_codes=any(segment.type.scheme == PRIVATE_SCHEME for segment in spec.segments.values()),
        private_scheme=PRIVATE_SCHEME,
    )


@cache
def _template() -> jinja2.Template:
    # Not HTML: texts of users pass through the filter `plain`, which removes all markup.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.bundle", "templates"),
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals["zip"] = zip
    environment.filters |= {
        "plain": without_markup,
        "listed": _listed,
        "number": _number,
        "interval": _interval,
        "json": json.dumps,
    }
    return environment.get_template("card.md.j2")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(without_markup(name) for name in names)


def _number(value: float | None, digits: str) -> str:
    """Return a number in a format of Python, or "" if it is undefined."""
    return "" if value is None or math.isnan(value) else format(value, digits)


def _interval(bounds: PairResult | MetricSummary, digits: str) -> str:
    """Return the 95 % interval of a result, or "" if it has none."""
    low, high = _number(bounds.ci_low, digits), _number(bounds.ci_high, digits)
    return f"{low} to {high}" if low and high else ""
