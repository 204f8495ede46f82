"""`segloss compare`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.console import out as console
from pipeline.cli.console import print_json
from pipeline.errors import ConfigError, RecordError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

MOST_PAIRS = 30
"""Rows of the pairwise table on a terminal; the JSON holds all."""

SHORT = {"dice": "Dice", "hausdorff95_mm": "HD95 mm", "hausdorff_mm": "HD mm", "assd_mm": "ASSD mm", "nsd": "NSD"}
STATES = {"missed": "missed", "false_positive": "false pos.", "correct_absence": "absent"}


def compare(
    cases: Annotated[
        Path, typer.Argument(help="CSV with columns loss, case, metric, value (and fold, seed, class ..).")
    ],
    out: Annotated[Path | None, typer.Option(help="Write the whole verdict to this JSON file.")] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Metrics to compare, for example dice,nsd. The first one decides.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Classes to compare, for example tumor. All classes by default.")
    ] = None,
    margin_dice: Annotated[
        float, typer.Option(help="Difference in Dice and other shares that does not matter.")
    ] = 0.005,
    margin_mm: Annotated[float, typer.Option(help="Difference in mm that does not matter.")] = 0.5,
    confidence: Annotated[float, typer.Option(help="Confidence of the intervals and of the verdict.")] = 0.95,
    training_sd: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of the deciding metric's mean between two trainings of one loss, for tables with "
            "a single training of each loss, for example 0.005."
        ),
    ] = None,
    miss_value: Annotated[
        float | None,
        typer.Option(help="Value of a missing distance, for example the diagonal of an image in mm."),
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(help="CSV with columns loss, fold, seed, case, class, threshold, dice: loss or threshold?"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Say which loss is best, which are as good, or what it takes to tell; from any tool's table of results."""
    from pipeline.comparison import compare as compare_losses
    from pipeline.records.table import read_table
    from pipeline.system.files import write_text

    if out is not None and out.is_dir():
        raise ConfigError(f"--out {out}", "is a folder", "name a file, e.g. verdict.json")
    if miss_value is not None and not 0 < miss_value < float("inf"):
        raise ConfigError(f"--miss-value {miss_value:g}", "is not a distance", "give mm, for example 300")
    margins = {"share": margin_dice, "mm": margin_mm}
    names = _names("--metrics", metrics, "dice,hausdorff95_mm")
    of_classes = _names("--classes", classes, "tumor")
    table = read_table(cases)
    levels = None if thresholds is None else _read_thresholds(thresholds)
    verdict = compare_losses(
        table,
        metrics=names,
        classes=of_classes,
        margins=margins,
        confidence=confidence,
        thresholds=levels,
        training_sd=training_sd,
        miss_value=miss_value,
    ).to_json()
    if out is not None:
        import json as plain

        write_text(out, plain.dumps(verdict, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    if json:
        print_json(verdict)
    else:
        print_verdict(verdict, console)
        if out is not None:
            console.print(f"\nVerdict: {out}", highlight=False, markup=False)


def _names(option: str, text: str | None, example: str) -> list[str] | None:
    """Return the names of a comma-separated list, None where the option was not given."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"{option} {text!r}", "is an empty list", f"give, for example, {example}")
    return names


def _read_thresholds(path: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        return pd.read_csv(path, dtype={"loss": str, "case": str, "class": str})
    except (OSError, ValueError) as error:
        raise RecordError(path, f"cannot be read as CSV ({error})", "give the columns of thresholds.csv") from error


def print_verdict(verdict: Mapping[str, Any], console: "Console") -> None:
    """Print the verdict (`Verdict.to_json`): what to do first, then means, then every pair."""
    words = verdict["words"]
    if words:
        console.print(words[0], style="bold", highlight=False, markup=False)
    for sentence in words[1:]:
        console.print(f"  {sentence}", highlight=False, markup=False)
    for sentence in verdict.get("operating_points", {}).get("words", [])[1:]:
        console.print(f"    {sentence}", highlight=False, markup=False)
    for sentence in verdict["caveats"]:
        console.print(f"  ! {sentence}", highlight=False, markup=False)
    if verdict["losses"] and verdict["ranking"]:
        console.print()
        console.print(_losses_table(verdict, console.width))
    if verdict["pairs"]:
        console.print()
        pairs = _shown_pairs(verdict)[:MOST_PAIRS]
        console.print(_pairs_table(pairs, verdict["confidence"]))
        left = len(verdict["pairs"]) - len(pairs)
        if left > 0:
            console.print(f"and {left} pair{'s' if left > 1 else ''} more: see --json or --out", highlight=False)


def _losses_table(verdict: Mapping[str, Any], width: int) -> "Table":
    from rich.markup import escape

    from pipeline.comparison.words import counted

    metrics = list(verdict["ranking"])
    states = [name for name in STATES if any(entry["counts"].get(name) for entry in verdict["losses"])]
    failing = verdict["primary"] if any(_failure_rate(entry, verdict["primary"]) for entry in verdict["losses"]) else ""
    fallen = any(entry["collapsed_runs"] for entry in verdict["losses"])
    room = width >= 26 + 14 * len(metrics)
    below = f", below them {100 * verdict['confidence']:g} % intervals" if room else ""
    table = _table(f"Means over {counted(verdict['cases'], 'case', 'cases')}{below}")
    table.add_column("loss", overflow="fold")
    for name in [*(SHORT.get(metric, metric) for metric in metrics), "cases", *(STATES[state] for state in states)]:
        table.add_column(name, justify="right")
    if failing:
        table.add_column("below 0.5", justify="right")
    if fallen:
        table.add_column("collapsed runs", justify="right")
    for entry in verdict["losses"]:
        found, counts = entry["metrics"], entry["counts"]
        first = next((item["cases"] for item in found.values()), 0)
        table.add_row(
            escape(entry["name"]) + (" *" if entry.get("set_aside") else ""),
            *(_mean(metric, found.get(metric), room, first) for metric in metrics),
            str(first),
            *(str(counts.get(state, 0)) for state in states),
            *([_percent(_failure_rate(entry, failing))] if failing else []),
            *([f"{entry['collapsed_runs']} of {entry['collapse']['of']}"] if fallen else []),
            style="bold" if entry["name"] == verdict["recommended"] else None,
        )
    if verdict["set_aside"]:
        table.caption = "* takes no part in the comparison"
    return table


def _failure_rate(entry: Mapping[str, Any], metric: str) -> float | None:
    """Return the share of cases in which a loss fails by this metric, None where that is not defined."""
    found = entry["metrics"].get(metric)
    return None if found is None else found.get("failure_rate")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _shown_pairs(verdict: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the pairs, those of a control (the same loss twice) with its own loss alone; the JSON has all."""
    again = verdict.get("controls", {})
    return [
        entry
        for entry in verdict["pairs"]
        if not {entry["a"], entry["b"]} & set(again) or entry["b"] == again.get(entry["a"])
        or entry["a"] == again.get(entry["b"])
    ]  # fmt: skip


def _pairs_table(pairs: Sequence[Mapping[str, Any]], confidence: float) -> "Table":
    from rich.markup import escape

    from pipeline.comparison.bounds import possible

    noise_known = any(entry["noise_floor"] is not None for entry in pairs)
    title = "Pairs, on the same cases; shares in points (hundredths)"
    table = _table(title + ("; noise: how far two studies of one loss differ (SD)" if noise_known else ""))
    table.add_column("metric")
    table.add_column("a - b", overflow="fold")
    for column in ("gap", f"{100 * confidence:g} % interval", "p", *(["noise"] if noise_known else []), "same?"):
        table.add_column(column, justify="right", no_wrap=True)
    table.collapse_padding = True
    before = None
    for entry in pairs:
        metric = entry["metric"]
        noise = entry["noise_floor"]
        low, high = possible(metric, entry["ci_low"], entry["ci_high"])
        table.add_row(
            "" if metric == before else escape(SHORT.get(metric, metric)),
            escape(f"{entry['a']} - {entry['b']}"),
            _signed(metric, entry["difference"]),
            f"{_signed(metric, low)} to {_signed(metric, high)}",
            _p_value(entry),
            *(["?" if noise is None else f"{_factor(metric) * noise:.2f}"] if noise_known else []),
            "yes" if entry["equivalent"] else "",
            style="bold" if entry["better"] else None,
        )
        before = metric
    margins = {SHORT.get(e["metric"], e["metric"]): f"{_factor(e['metric']) * e['margin']:g}" for e in pairs}
    table.caption = (
        "bold: clearly different; p: t test of the mean, corrected for all pairs (Holm); same?: within the margin ("
        + ", ".join(f"{name} {margin}" for name, margin in margins.items())
        + ")"
        + ("" if noise_known else "; noise between seeds: one seed, not measured")
    )
    return table


def _p_value(entry: Mapping[str, Any]) -> str:
    """Return the corrected p; none where trainings were not replicated, since it would be that of patients alone."""
    if not entry["replicated"]:
        return "-"
    return "<0.001" if entry["p_holm"] < 0.001 else f"{entry['p_holm']:.3f}"


def _table(title: str) -> "Table":
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", caption_justify="left", pad_edge=False)


def _amount(metric: str, value: float) -> str:
    return f"{value:.2f}" if metric.endswith("_mm") else f"{value:.4f}"


def _factor(metric: str) -> float:
    from pipeline.records.metrics import metric_of

    return metric_of(metric).factor


def _signed(metric: str, value: float) -> str:
    from pipeline.comparison.words import signed

    return signed(_factor(metric) * value)


def _mean(metric: str, found: Mapping[str, Any] | None, interval: bool, cases: int) -> str:
    if found is None:
        return "-"
    text = _amount(metric, found["mean"]) + ("" if found["cases"] == cases else f" ({found['cases']} cases)")
    if not interval or found["ci_low"] is None:
        return text
    places = 2 if metric.endswith("_mm") else 3
    return f"{text}\n{found['ci_low']:.{places}f}–{found['ci_high']:.{places}f}"
