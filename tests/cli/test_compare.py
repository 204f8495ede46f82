import io
import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from pipeline.cli.app import build_app
from pipeline.cli.verdict_tables import print_verdict
from pipeline.comparison import ComparisonSettings, compare
from pipeline.errors import ConfigError, RecordError
from pipeline.records.folder import StudyFolder
from pipeline.records.metrics import REGISTRY
from pipeline.records.verdict import read_verdict


def table(gap=0.1, cases=20):
    """Two losses, five folds."""
    rows = [
        {"loss": loss, "fold": i % 5, "case": f"c{i}", "metric": "dice"}
        | {"value": 0.7 + 0.001 * ((7 * i + k) % 11) + gap * k}
        for k, loss in enumerate(("ce", "dice"))
        for i in range(cases)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def cases(tmp_path):
    path = tmp_path / "cases.csv"
    table().to_csv(path, index=False)
    return path


def run(*arguments):
    return CliRunner().invoke(build_app(), ["compare", *map(str, arguments)])


def test_the_verdict_comes_first(cases):
    result = run(cases)
    assert result.exit_code == 0
    assert result.stdout.startswith("Use dice: on 20 cases, its Dice is better than that of every other loss.")
    assert "ce - dice" in result.stdout


def test_json_is_one_object_and_nothing_else(cases):
    value = json.loads(run(cases, "--json").stdout)
    assert value["verdict"] == "winner"
    assert value["recommended"] == "dice"
    assert [(pair["a"], pair["b"], pair["metric"]) for pair in value["pairs"]] == [("ce", "dice", "dice")]


def test_out_holds_the_same_verdict_as_json(cases, tmp_path):
    out = tmp_path / "verdict.json"
    assert json.loads(run(cases, "--json", "--out", out).stdout) == json.loads(out.read_text(encoding="utf-8"))


def test_a_margin_above_the_gap_makes_equivalents_and_the_simplest_is_recommended(cases):
    value = json.loads(run(cases, "--json", "--margin-dice", "0.2").stdout)
    assert (value["verdict"], value["recommended"], value["reason"]) == ("equivalent", "ce", "simplest")


def test_a_table_with_one_training_of_each_loss_gives_no_verdict(tmp_path):
    path = tmp_path / "cases.csv"
    table().drop(columns="fold").to_csv(path, index=False)
    result = run(path)
    assert result.stdout.startswith("No verdict: each loss was trained once")
    value = json.loads(run(path, "--json").stdout)
    assert (value["verdict"], value["replicated"]) == ("inconclusive", False)


def test_a_table_without_a_study_says_that_its_conditions_are_unknown(cases):
    value = json.loads(run(cases, "--json").stdout)
    (message,) = [sentence for sentence in value["words"] if "conditions" in sentence]
    assert message == "The table does not state the conditions (steps, optimizer, network) of these trainings."
    assert value["scope"] == {}
    assert message in " ".join(run(cases).stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--metrics", "dixe"), "dixe: is not in the table"),
        (("--metrics", ","), "is an empty list"),
        (("--margin-dice", "-1"), "must be finite and above 0"),
        (("--confidence", "95"), "must lie between 0.5 and 1"),
    ],
)
def test_a_wrong_request_is_reported_in_one_line(cases, arguments, message):
    error = run(cases, *arguments).exception
    assert isinstance(error, ConfigError)
    assert message in str(error)


def test_thresholds_of_another_file_tell_if_it_is_the_loss_or_the_threshold(cases, tmp_path):
    half = pd.read_csv(cases).query("metric == 'dice'").assign(seed=0)
    half["class"] = "x"
    levels = [half.assign(threshold=level, dice=half["value"] - abs(level - 0.5)) for level in (0.25, 0.5, 0.75)]
    path = tmp_path / "thresholds.csv"
    pd.concat(levels)[["loss", "fold", "seed", "case", "class", "threshold", "dice"]].to_csv(path, index=False)
    result = run(cases, "--thresholds", path)
    assert result.exit_code == 0, result.output
    assert "Loss or threshold?" in result.output
    assert "Best thresholds, chosen on the cases of the other folds" in " ".join(result.output.split())
    found = json.loads(run(cases, "--thresholds", path, "--json").stdout)["operating_points"]
    assert found["pairs"][0]["says"] == "stays"


def test_a_file_that_is_not_a_table_is_refused(tmp_path):
    path = tmp_path / "notes.csv"
    path.write_text("loss,case\na,c0\n", encoding="utf-8")
    assert isinstance(run(path).exception, RecordError)
    assert isinstance(run(tmp_path / "absent.csv").exception, RecordError)


@pytest.mark.parametrize("count", [1, 2])
def test_tiny_tables_are_printed_too(tmp_path, count):
    path = tmp_path / "cases.csv"
    table(cases=count).to_csv(path, index=False)
    result = run(path)
    assert result.exit_code == 0
    assert f"on {count} case" in result.stdout.lower()


def test_a_verdict_of_nothing_but_collapsed_runs_is_printed():
    stream = io.StringIO()
    print_verdict(compare(table().assign(state="collapsed")), Console(file=stream, width=80))
    assert stream.getvalue().startswith("No loss has results")


def test_names_with_brackets_are_shown_as_they_are():
    stream = io.StringIO()
    frame = table().replace({"loss": {"dice": "mine[a=1]"}})
    print_verdict(compare(frame), Console(file=stream, width=120))
    assert "mine[a=1]" in stream.getvalue()


def printed(verdict, width=80):
    stream = io.StringIO()
    print_verdict(verdict, Console(file=stream, width=width))
    return stream.getvalue()


def test_a_pair_is_one_line_of_a_terminal_of_80_columns():
    frame = table().replace({"loss": {"dice": "weighted_ce"}})
    verdict = compare(frame)
    lines = printed(verdict).splitlines()
    for entry in verdict.pairs:
        (line,) = [line for line in lines if f"{entry.a} - {entry.b}" in line]
        assert f"{100 * entry.difference:+.2f}" in line
        assert f"{100 * entry.ci_low:+.2f} to {100 * entry.ci_high:+.2f}" in line


def test_volumes_are_printed_in_ml_with_a_margin_in_ml_and_never_as_points():
    volumes = table(gap=0.0).assign(metric="volume_error_ml")
    volumes["value"] += 1.5 * (volumes["loss"] == "dice")
    verdict = compare(pd.concat([table(), volumes]), ComparisonSettings(metrics=("dice", "volume_error_ml")))
    (pair,) = verdict.pairs_of("volume_error_ml")
    assert pair.difference == pytest.approx(-1.5, abs=0.01)
    assert pair.margin == 1.0
    (line,) = [line for line in printed(verdict, width=120).splitlines() if line.startswith(" Vol. error mL")]
    assert "-1.50" in line
    assert "(Dice 0.5, Vol. error mL 1)" in " ".join(printed(verdict).split())


def test_every_metric_has_a_heading_narrow_enough_for_a_terminal():
    assert all(0 < len(metric.short) <= 13 for metric in REGISTRY.values())
    assert len({metric.short for metric in REGISTRY.values()}) == len(REGISTRY)


def test_a_control_is_printed_against_its_own_loss_alone():
    both = [table().replace({"loss": {"ce": "dice-aa"}}), table().query("loss == 'ce'")]
    verdict = compare(pd.concat(both, ignore_index=True))
    assert verdict.controls == {"dice-aa": "dice"}
    text = printed(verdict)
    assert "dice-aa - dice " in text
    assert "dice-aa - ce" not in text
    assert "ce - dice-aa" not in text
    assert "1 more pair: see --json" in text


def test_one_training_of_each_loss_shows_no_p_value():
    stream = io.StringIO()
    print_verdict(compare(table().drop(columns="fold")), Console(file=stream, width=120))
    message = stream.getvalue()
    assert message.startswith("No verdict: each loss was trained once")
    assert "<0.001" not in message
    (pair,) = [line.split() for line in message.splitlines() if line.startswith(" Dice")]
    assert pair[-1] == "-"


def test_five_metrics_with_failures_fit_eighty_columns(tmp_path):
    with zipfile.ZipFile(Path(__file__).parents[1] / "records" / "studies" / "statistics-2.zip") as archive:
        archive.extractall(tmp_path)
    verdict = read_verdict(StudyFolder(tmp_path))
    text = printed(verdict, width=80)
    assert "…" not in text
    assert "collapsed runs" in text
    assert all(f"{loss.metrics['hausdorff95_mm'].mean:.2f}" in text for loss in verdict.losses)
