"""Trainings of several sources, nnU-Net's results and studies, become one comparison."""

import json
import shutil
from pathlib import Path

import pytest
from fake_results import write_arm
from fake_study import write_fake_study

from pipeline.comparison.settings import ComparisonSettings
from pipeline.errors import ConfigError, RecordError
from pipeline.records.folder import RunKey, StudyFolder
from pipeline.records.gather import gather_cases
from pipeline.records.run import RunTrace, read_traces
from pipeline.records.study import read_study
from pipeline.report.build import build_report
from pipeline.report.results import ResultsRequest, compare_results
from pipeline.trainers.found import find_trainings

LABELS = {"background": 0, "Anterior": 1, "Posterior": 2}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 12 cases, dice and dice_ce, three folds and one seed."""
    root = tmp_path_factory.mktemp("own")
    return write_fake_study(root, losses=("dice", "dice_ce"), noise=(0.9, 0.8), seeds=1, size=20).root


def nnunet(root: Path, trainer: str = "nnUNetTrainer", *, folds: int = 3, cases: int = 12, labels=LABELS) -> Path:
    write_arm(root / "results", trainer, folds=folds, cases=cases, labels=labels, name="case_{:02}")
    return root / "results"


def compare(out: Path, *folders: Path, comparison: ComparisonSettings | None = None, **options: object):
    return compare_results(ResultsRequest(folders, **options), out, comparison)


def test_a_study_and_nnunet_of_one_split_are_paired(own: Path, tmp_path: Path) -> None:
    verdict, results = compare(tmp_path / "out", nnunet(tmp_path), own)
    assert results.labels == ("nnUNetTrainer", "dice", "dice_ce")
    study = StudyFolder(tmp_path / "out")
    record = read_study(study)
    assert record.trainer == "nnU-Net v2 and whichloss 0.1.0"
    assert (record.folds, record.budget.asked) == (3, "4 epochs or 800steps")
    assert "nnU-Net v2 trained nnUNetTrainer; whichloss 0.1.0 trained dice, dice_ce" in record.notes[0]
    assert record.notes[0].startswith("The arms share cases and splits. The trainers of the arms differ")
    assert record.notes[0] in verdict.caveats
    assert verdict.cases == 12
    assert verdict.replicated


def test_values_times_and_curves_of_a_study_are_those_of_its_records(own: Path, tmp_path: Path) -> None:
    compare(tmp_path / "out", nnunet(tmp_path), own)
    found = gather_cases(StudyFolder(tmp_path / "out")).query("loss == 'dice_ce'").reset_index(drop=True)
    source = gather_cases(StudyFolder(own)).query("loss == 'dice_ce'")
    expected = source[source["metric"].isin(["dice", "sensitivity", "precision"])].reset_index(drop=True)
    assert found["value"].tolist() == expected["value"].tolist()
    assert found["case"].tolist() == expected["case"].tolist()
    trace, original = (trace_of(folder, RunKey("dice_ce", 1, 0)) for folder in (tmp_path / "out", own))
    assert trace.record is not None
    assert (trace.record.training_seconds, trace.record.steps) == (280.0, 800)
    assert list(trace.events) == list(original.events)


def trace_of(study: Path, key: RunKey) -> RunTrace:
    return next(trace for trace in read_traces(StudyFolder(study)) if trace.key == key)


def test_only_metrics_that_all_arms_have_are_compared(own: Path, tmp_path: Path) -> None:
    verdict, _ = compare(tmp_path / "out", nnunet(tmp_path), own)
    assert set(gather_cases(StudyFolder(tmp_path / "out"))["metric"]) == {"dice", "sensitivity", "precision"}
    assert any(
        caveat.startswith("Not compared, since not all arms have them: assd_mm, hausdorff95_mm, hausdorff_mm, iou, nsd")
        for caveat in verdict.caveats
    )


def test_different_splits_are_refused_by_name_or_compared_on_common_cases(own: Path, tmp_path: Path) -> None:
    results = nnunet(tmp_path, folds=2, cases=16)
    with pytest.raises(RecordError, match=r"arms nnUNetTrainer and dice: have different cases: case_12 \(only nnUNet"):
        compare(tmp_path / "out", results, own)
    verdict, _ = compare(tmp_path / "out", results, own, unpaired=True)
    assert (verdict.cases, verdict.replicated) == (12, False)
    assert any("uses their 12 common cases, and all folds of an arm count as one" in one for one in verdict.caveats)
    assert not any("share cases and splits" in one for one in verdict.caveats)


def test_common_cases_of_equal_folds_stay_in_their_folds(own: Path, tmp_path: Path) -> None:
    verdict, _ = compare(tmp_path / "out", nnunet(tmp_path, cases=15), own, unpaired=True)
    assert (verdict.cases, verdict.replicated) == (12, True)
    assert read_study(StudyFolder(tmp_path / "out")).folds == 3


def test_different_classes_are_refused_unless_common_ones_are_chosen(own: Path, tmp_path: Path) -> None:
    results = nnunet(tmp_path, labels={"background": 0, "Anterior": 1, "tail": 2})
    problem = r"have different classes: Posterior \(only dice\), tail \(only nnUNetTrainer\)"
    with pytest.raises(RecordError, match=problem) as refused:
        compare(tmp_path / "out", results, own)
    assert "\n" not in str(refused.value)
    chosen = ComparisonSettings(classes=("Anterior",))
    assert compare(tmp_path / "out", results, own, comparison=chosen)[0].classes == ("Anterior",)


def test_arms_without_a_common_case_are_refused(own: Path, tmp_path: Path) -> None:
    write_arm(tmp_path / "results", "nnUNetTrainer", labels=LABELS, name="patient_{}")
    with pytest.raises(RecordError, match=r"have no case in common, e.g. patient_0 and case_00"):
        compare(tmp_path / "out", tmp_path / "results", own, unpaired=True)


def test_arms_of_one_name_get_the_name_of_their_source(own: Path, tmp_path: Path) -> None:
    other = tmp_path / "resunet"
    shutil.copytree(own, other)
    found = find_trainings([own, other])
    assert found.labels == ("study__dice", "study__dice_ce", "resunet__dice", "resunet__dice_ce")
    twin = tmp_path / "later" / "study"
    shutil.copytree(own, twin)
    parent = own.parent.name
    assert find_trainings([own, twin]).labels[::2] == (f"{parent}_study__dice", "later_study__dice")
    assert find_trainings([own, nnunet(tmp_path)]).labels == ("nnUNetTrainer", "dice", "dice_ce")
    with pytest.raises(RecordError, match="is given twice"):
        find_trainings([own, own])


def test_studies_are_compared_without_nnunet(own: Path, tmp_path: Path) -> None:
    other = tmp_path / "resunet"
    shutil.copytree(own, other)
    verdict, _ = compare(tmp_path / "out", own, other, arms="study__dice=unet, resunet__dice=resunet")
    assert {loss.name for loss in verdict.losses} == {"unet", "resunet"}
    assert verdict.verdict == "equivalent"
    assert verdict.pairs[0].difference == 0
    assert any("come from several studies: whichloss 0.1.0 trained unet, resunet" in one for one in verdict.caveats)
    assert "nsd" in verdict.smallest_detectable


def test_the_mean_dice_of_a_run_is_a_mean_over_classes(own: Path, tmp_path: Path) -> None:
    compare(tmp_path / "out", nnunet(tmp_path, folds=2), own, unpaired=True)
    rows = gather_cases(StudyFolder(tmp_path / "out")).query("metric == 'dice' and loss == 'dice'")
    by_class = [rows[rows["class"] == name]["value"].dropna().mean() for name in ("Anterior", "Posterior")]
    trace = trace_of(tmp_path / "out", RunKey("dice", 0, 0))
    assert trace.record is not None
    assert trace.record.mean_dice == pytest.approx(sum(by_class) / 2)
    assert trace.record.training_seconds == 280.0


def test_a_selection_is_checked(own: Path) -> None:
    with pytest.raises(ConfigError, match=r"--arms ce: is not among the results; choose from dice, dice_ce"):
        find_trainings([own], "ce")
    with pytest.raises(ConfigError, match="cannot name a folder"):
        find_trainings([own], "dice=a/b")
    with pytest.raises(ConfigError, match="gives two arms one name"):
        find_trainings([own], "dice=a,dice_ce=a")


def test_unfinished_runs_are_refused_or_left_out(tmp_path: Path) -> None:
    own = write_fake_study(tmp_path, losses=("dice", "dice_ce"), seeds=1, size=20, unfinished=[("dice", 1, 0)])
    with pytest.raises(RecordError, match="fold1_seed0: has not finished; run its `whichloss study` command again"):
        compare(tmp_path / "out", own.root)
    verdict, results = compare(tmp_path / "out", own.root, skip_bad=True, unpaired=True)
    assert [gap.key for gap in results.gaps] == [RunKey("dice", 1, 0)]
    assert verdict.cases == 8


@pytest.mark.parametrize("content", ['{"schema"', "[1]", '{"losses": 3}'])
def test_a_study_that_cannot_be_read_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.json").write_text(content)
    with pytest.raises(RecordError) as refused:
        find_trainings([tmp_path / "study"])
    assert str(refused.value).startswith(f"{tmp_path / 'study' / 'study.json'}: cannot be used")
    assert "\n" not in str(refused.value)


def test_a_study_is_never_overwritten_by_a_comparison(own: Path, tmp_path: Path) -> None:
    before = (own / "study.json").read_bytes()
    with pytest.raises(RecordError, match="holds a study with trainings of its own; give another --out"):
        compare(own, nnunet(tmp_path), own)
    assert (own / "study.json").read_bytes() == before
    compare(tmp_path / "out", nnunet(tmp_path / "first"))
    compare(tmp_path / "out", tmp_path / "first" / "results", own)
    assert read_study(StudyFolder(tmp_path / "out")).labels == ("nnUNetTrainer", "dice", "dice_ce")


def test_references_without_results_of_nnunet_are_refused(own: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--references"):
        compare(tmp_path / "out", own, references=tmp_path)


def test_a_later_report_has_the_options_of_the_comparison(tmp_path: Path) -> None:
    for trainer, both in (("nnUNetTrainerCE", 60), ("nnUNetTrainerDice", 62)):
        write_arm(tmp_path / "results", trainer, folds=3, cases=30, both=both)
    options = ComparisonSettings(
        metrics=("iou", "dice"),
        classes=("tumor",),
        margins={"share": 0.03, "mm": 2.0},
        confidence=0.9,
        training_sd=0.01,
    )
    verdict, _ = compare(tmp_path / "out", tmp_path / "results", comparison=options)
    study = StudyFolder(tmp_path / "out")
    written = json.loads(study.verdict.read_text())
    assert (verdict.primary, verdict.classes, verdict.confidence, verdict.training_sd) == ("iou", ("tumor",), 0.9, 0.01)
    build_report(study)
    assert json.loads(study.verdict.read_text()) == written
    assert build_report(study, ComparisonSettings(metrics=("dice",))).primary == "dice"


def write_training_record(fold: Path, label: str, weights: str, batches: list[str]) -> None:
    content = {"loss": label, "label": label, "seed": 0, "fold": int(fold.name[-1]), "initial_weights_hash": weights}
    (fold / "segloss.json").write_text(json.dumps(content | {"batch_hashes": batches, "iterations": 10, "epochs": 4}))


@pytest.mark.parametrize(
    ("weights", "proved"), [("a", "equal: the trainings are paired"), ("b", "do not prove equal initial weights")]
)
def test_hashes_of_own_nnunet_trainers_prove_the_pairing(tmp_path: Path, weights: str, proved: str) -> None:
    for trainer, first in (("nnUNetTrainerCE", "a"), ("nnUNetTrainerDice", weights)):
        arm = write_arm(tmp_path / "results", trainer)
        for fold in arm.glob("fold_*"):
            write_training_record(fold, trainer, first, ["x", "y"])
    verdict, results = compare(tmp_path / "out", tmp_path / "results")
    assert proved in next(one for one in verdict.caveats if one.startswith("The arms share"))
    assert {training.record.steps for training in results.trainings} == {40}
    trace = read_traces(StudyFolder(tmp_path / "out"))[0]
    assert trace.record is not None
    assert trace.record.initial_weights_hash == "a"
    assert trace.record.feed_hash is not None


def test_hashes_of_some_arms_prove_nothing(tmp_path: Path) -> None:
    arm = write_arm(tmp_path / "results", "nnUNetTrainerCE")
    write_arm(tmp_path / "results", "nnUNetTrainer")
    for fold in arm.glob("fold_*"):
        write_training_record(fold, "ce", "a", ["x"])
    verdict, _ = compare(tmp_path / "out", tmp_path / "results")
    assert any("do not prove equal initial weights and batches" in one for one in verdict.caveats)
    traces = read_traces(StudyFolder(tmp_path / "out"))
    assert {trace.record.feed_hash for trace in traces if trace.record is not None} == {None}
