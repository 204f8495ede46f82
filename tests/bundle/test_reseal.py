"""`whichloss bundle reseal`: a deliberate edit becomes part of the bundle, and the card states it."""

import json

import pytest
import torch
from typer.testing import CliRunner

from pipeline.bundle.manifest import identify, read_manifest, write_manifest
from pipeline.bundle.model import load_model
from pipeline.bundle.resealing import reseal
from pipeline.bundle.verification import verify_bundle
from pipeline.cli.app import build_app
from pipeline.errors import BundleError, ConfigError

METADATA, TRAIN, CARD, WEIGHTS = "configs/metadata.json", "configs/train.json", "docs/README.md", "models/model.pt"


def edit(root, name, change):
    value = json.loads((root / name).read_text())
    change(value)
    (root / name).write_text(json.dumps(value, indent=2))


def state(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def run(*arguments):
    return CliRunner().invoke(build_app(), ["bundle", "reseal", *map(str, arguments)])


def rename_rule(metadata):
    metadata["segloss"]["series_rules"] = [{"name": "T1 only", "conditions": {"SeriesDescription": "T1"}}]


def test_an_edited_rule_is_part_of_the_bundle_and_of_the_card(edited):
    before = identify(edited)
    edit(edited, METADATA, rename_rule)
    with pytest.raises(BundleError, match="whichloss bundle reseal"):
        load_model(edited)
    result = reseal(edited, "our scanner names its series otherwise")
    assert [(change.path, change.kind) for change in result.changes] == [(METADATA, "changed")]
    assert (result.version_before, result.version) == ("1.0.0", "1.0.1")
    assert (result.sha256_before, result.sha256) == (before, identify(edited))
    assert result.results == ()
    model = load_model(edited)
    assert model.series_rules[0]["name"] == "T1 only"
    assert model.version == "1.0.1"
    card = (edited / CARD).read_text()
    assert card.startswith("# untrained 1.0.1\n\nNo card.\n")
    assert "## Changes after export" in card
    assert "our scanner names its series otherwise" in card
    assert f"`{METADATA}` changed" in card
    assert f"Manifest before the edit: `{before}`" in card
    assert "our scanner" in json.loads((edited / METADATA).read_text())["changelog"]["1.0.1"]
    assert verify_bundle(edited).problems == ()


def test_a_second_edit_adds_to_the_card(edited):
    edit(edited, METADATA, rename_rule)
    reseal(edited, "first")
    edit(edited, TRAIN, lambda config: config.update(learning_rate=0.01))
    assert reseal(edited, "second").version == "1.0.2"
    card = (edited / CARD).read_text()
    assert card.count("## Changes after export") == 1
    assert card.index("### 1.0.1") < card.index("first") < card.index("### 1.0.2") < card.index("second")
    load_model(edited)


def test_a_version_that_was_edited_stays(edited):
    edit(edited, METADATA, lambda metadata: metadata.update(version="2.0.0"))
    assert reseal(edited).version == "2.0.0"
    assert read_manifest(edited).version == "2.0.0"


def test_without_an_edit_nothing_is_written(edited):
    before = state(edited)
    result = run(edited)
    assert result.exit_code == 0
    assert "Nothing was changed" in result.output
    assert state(edited) == before


def test_other_weights_change_the_results_and_the_test_vector(edited):
    weights = torch.load(edited / WEIGHTS, weights_only=True)
    for name in [name for name in weights if name.startswith("output_block")]:
        weights[name] = weights[name][[0, 2, 1]].clone()
    torch.save(weights, edited / WEIGHTS)
    result = run(edited)
    assert result.exit_code == 0
    assert "warning: the results changed" in result.output
    assert "label 3 (posterior)" in result.output or "label 1 (anterior)" in result.output
    assert "**The results changed.**" in (edited / CARD).read_text()
    assert verify_bundle(edited).problems == ()


@pytest.mark.parametrize(
    ("file", "change", "word"),
    [
        (TRAIN, lambda c: c.update(initialize=["$open('/tmp/x', 'w')"]), "initialize"),
        (TRAIN, lambda c: c.update(zebra=1), "zebra"),
        (METADATA, lambda c: c["segloss"]["classes"].update({"1": "a\nb"}), "classes"),
        (METADATA, lambda c: c["segloss"].update(overlap=0.5), "inferer::overlap"),
        (METADATA, lambda c: c["segloss"]["classes"].update({"1": "posterior", "3": "anterior"}), "channel_def"),
        (METADATA, lambda c: c.update(description="$1"), "description"),
    ],
)
def test_an_edit_that_predict_would_refuse_is_refused_and_nothing_is_written(file, change, word, edited):
    edit(edited, file, change)
    before = state(edited)
    with pytest.raises(BundleError, match=word):
        reseal(edited)
    assert state(edited) == before


@pytest.mark.parametrize("name", ["scripts/run.py", "configs/logging.conf", "eval/metrics.csv", "configs/loss.json"])
def test_files_that_are_not_part_of_a_bundle_are_refused(name, edited):
    (edited / name).parent.mkdir(exist_ok=True)
    (edited / name).write_text("{}")
    before = state(edited)
    with pytest.raises(BundleError, match=name.rpartition("/")[2]):
        reseal(edited)
    assert state(edited) == before


def test_a_missing_manifest_is_refused(edited):
    (edited / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"manifest\.json"):
        reseal(edited)


def test_a_document_may_be_added_and_removed(edited):
    (edited / "docs/local.md").write_text("Site 3 only.")
    assert [(c.path, c.kind) for c in reseal(edited).changes] == [("docs/local.md", "added")]
    (edited / "docs/local.md").unlink()
    assert [(c.path, c.kind) for c in reseal(edited).changes] == [("docs/local.md", "removed")]


@pytest.mark.parametrize("note", ["x" * 501, "two\nlines", "\x1b[31m"])
def test_a_note_must_be_one_line(note, edited):
    edit(edited, METADATA, rename_rule)
    with pytest.raises(ConfigError, match="note"):
        reseal(edited, note)


def test_a_note_cannot_write_markup_or_code_into_the_bundle(edited):
    edit(edited, METADATA, rename_rule)
    reseal(edited, "$open('x') <script>alert(1)</script> [a](javascript:b)")
    assert "<script>" not in (edited / CARD).read_text()
    load_model(edited)


def test_an_interrupted_resealing_leaves_a_bundle_that_is_refused_and_can_be_resealed(edited, monkeypatch):
    edit(edited, METADATA, rename_rule)
    monkeypatch.setattr("pipeline.bundle.resealing.write_manifest", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        reseal(edited)
    with pytest.raises(BundleError):
        load_model(edited)
    monkeypatch.setattr("pipeline.bundle.resealing.write_manifest", write_manifest)
    assert reseal(edited).version == "1.0.1"
    assert load_model(edited).version == "1.0.1"


def test_json_has_the_result_alone(edited):
    edit(edited, METADATA, rename_rule)
    content = json.loads(run(edited, "--note", "why", "--json").stdout)
    assert content["files"] == [{"path": METADATA, "change": "changed"}]
    assert content["sha256"] == identify(edited)


@pytest.mark.parametrize("condition", [{"SeriesDescription": "^(?!scout)"}, {"SeriesDescripton": "T1"}])
def test_a_rule_that_selects_nothing_is_neither_resealed_nor_verified(condition, edited):
    edit(edited, METADATA, lambda m: m["segloss"].update(series_rules=[{"name": "site 3", "conditions": condition}]))
    before = state(edited)
    result = run(edited)
    assert isinstance(result.exception, ConfigError)
    assert "series rules, site 3" in str(result.exception)
    assert state(edited) == before
    write_manifest(edited, "untrained", "1.0.0")
    verified = CliRunner().invoke(build_app(), ["verify", str(edited), "--device", "cpu"])
    assert isinstance(verified.exception, ConfigError)
