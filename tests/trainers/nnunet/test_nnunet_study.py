"""A whole study with nnU-Net as its trainer: real trainings of eight steps on phantoms.

python -m pytest -m slow tests/trainers/nnunet
"""

import shutil
from pathlib import Path

import pytest

from pipeline.data.phantoms import make_phantoms
from pipeline.errors import BundleError, ConfigError
from pipeline.records.events import ValidationEvent
from pipeline.records.run import read_traces
from pipeline.records.study import read_study
from pipeline.records.table import read_table

pytest.importorskip("nnunetv2", reason="needs nnU-Net: pip install 'whichloss[nnunet]'")

from pipeline.bundle.source import read_source
from pipeline.report.build import build_report
from pipeline.study.request import StudyRequest
from pipeline.study.run import run_study


@pytest.fixture(scope="module")
def request_of(tmp_path_factory):
    root = tmp_path_factory.mktemp("nnunet")
    dataset = make_phantoms(root / "phantoms", cases=8, shape=(24, 24, 20), foreground_fraction=0.1)

    def request(**changes: object) -> StudyRequest:
        # nnU-Net would fill 8 GiB with hundreds of such small patches.
        settings = {"losses": "ce", "folds": 2, "budget": "8steps", "trainer": "nnunet", "memory_gib": 0.2}
        return StudyRequest(dataset=dataset, **({"out": root / "study"} | settings | changes))

    return request


@pytest.fixture(scope="module")
def study(request_of):
    return run_study(request_of(), in_process=True)


@pytest.mark.slow
def test_records_are_those_of_any_study(study):
    record = read_study(study)
    assert (record.trainer, record.budget.steps, record.is_imported) == ("nnU-Net v2", 8, False)
    assert record.versions["nnunetv2"].startswith("2.8")
    table = read_table(study.cases)
    assert len(table[["loss", "case"]].drop_duplicates()) == 8
    assert {"dice", "hausdorff95_mm", "nsd"} <= set(table["metric"])
    for trace in read_traces(study):
        assert [event.step for event in trace.of_kind(ValidationEvent)] == [4, 8]
        assert len(list(trace.folder.predictions.glob("*.nii.gz"))) == 4
        assert (trace.folder.root / "nnunet.log").exists()


@pytest.mark.slow
def test_a_run_without_its_record_is_scored_again_from_the_trained_network(study, request_of, tmp_path):
    (trace, *_) = read_traces(study)
    before = read_table(trace.folder.cases)
    results = next((study.root / "trainer" / "results").glob("*/nnUNetTrainer_ce__*/fold_0"))
    weights = (results / "checkpoint_final.pth").stat().st_mtime_ns
    shutil.rmtree(trace.folder.root)
    run_study(request_of(), in_process=True)
    assert read_table(trace.folder.cases).equals(before)
    assert (results / "checkpoint_final.pth").stat().st_mtime_ns == weights


@pytest.mark.slow
def test_other_settings_are_another_study(study, request_of):
    from pipeline.errors import RecordError

    with pytest.raises(RecordError, match="trainer nnunet → None"):
        run_study(request_of(trainer="whichloss", budget="10steps"), in_process=True)
    with pytest.raises(RecordError, match="configuration None → 2d"):
        run_study(request_of(configuration="2d"), in_process=True)


@pytest.mark.slow
def test_export_names_the_command_of_nnunet(study):
    build_report(study)
    with pytest.raises(
        BundleError, match=r"nnUNetv2_export_model_to_zip -d 1 -tr nnUNetTrainer_ce .* -f 0 1 -o ce.zip"
    ):
        read_source(study, "ce")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tta": True}, "--tta: has no effect with --trainer nnunet; omit it, or use --trainer whichloss"),
        ({"trainer": "whichloss", "plans": "nnUNetPlans"}, "--plans: has no effect with --trainer whichloss"),
        ({"trainer": "nowhere:Trainer"}, "--trainer nowhere:Trainer: could not be imported"),
        ({"trainer": "pathlib:Path"}, "--trainer pathlib:Path: is not a trainer; derive the class from"),
        ({"budget": "300s"}, "--budget 300s: must be epochs, or at least 4 steps, for nnU-Net"),
    ],
)
def test_wrong_requests_are_one_line(request_of, tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        run_study(request_of(out=Path(tmp_path) / "new", **changes), in_process=True)


@pytest.mark.slow
def test_a_further_loss_has_the_weights_and_batches_of_the_first(study, request_of):
    run_study(request_of(losses="ce,dice_ce"), in_process=True)
    hashes: dict[int, set[object]] = {}
    for trace in read_traces(study):
        assert trace.record is not None
        hashes.setdefault(trace.key.fold, set()).add((trace.record.initial_weights_hash, trace.record.feed_hash))
    assert [len(found) for found in hashes.values()] == [1, 1]
    assert hashes[0] != hashes[1]
    verdict = build_report(study)
    assert {loss.name for loss in verdict.losses} == {"ce", "dice_ce"}
    page = study.report.read_text(encoding="utf-8")
    assert "verified: equal hashes" in page
    assert "nnU-Net v2" in page
