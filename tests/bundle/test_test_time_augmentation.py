"""A study with ``--tta``: the same trainings, other predictions, and a bundle that predicts as the study did."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from tiny_bundles import run_and_report, tiny_request

from pipeline.bundle.export import export_bundle
from pipeline.bundle.model import load_model
from pipeline.bundle.source import read_source
from pipeline.errors import RecordError
from pipeline.inference.batch import Batch
from pipeline.inference.options import Options
from pipeline.inference.sources import find_jobs
from pipeline.records.events import ValidationEvent, read_events
from pipeline.records.study import run_folders
from pipeline.study.run import run_study
from pipeline.training.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def request_(tiny_dataset, tmp_path_factory):
    return tiny_request(tiny_dataset, tmp_path_factory.mktemp("tta") / "study", tta=True)


@pytest.fixture(scope="module")
def study(request_):
    return run_and_report(request_)


@pytest.fixture(scope="module")
def tta_bundle(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundle") / "tta"
    export_bundle(read_source(study, "dice_ce"), out, origin="folds")
    return out


def points(run):
    events = [event for event in read_events(run.events) if isinstance(event, ValidationEvent)]
    assert events
    return [event.model_dump(exclude={"seconds"}) for event in events]


def test_networks_and_curves_are_those_of_a_study_without(study, tiny_study):
    for run, plain in zip(run_folders(study), run_folders(tiny_study), strict=True):
        augmented, other = (json.loads(folder.record.read_text()) for folder in (run, plain))
        assert run.key == plain.key
        assert augmented["weights_hash"] == other["weights_hash"]
        assert points(run) == points(plain)
        assert augmented["mean_dice"] != other["mean_dice"]


def test_predict_gives_the_out_of_fold_masks_of_the_study(study, tmp_path):
    source = read_source(study, "dice_ce")
    first = replace(source, runs=source.runs[:1])
    model = load_model(export_bundle(first, tmp_path / "bundle", origin="folds").root)
    differs = 0
    for run in source.runs:
        model.network.load_state_dict(load_checkpoint(run.folder.checkpoint)["network"])
        for path in sorted(run.folder.predictions.glob("*.nii.gz")):
            case = path.name.removesuffix(".nii.gz")
            (job,) = find_jobs(next(c.images[0] for c in source.dataset.cases if c.id == case), model.channels)
            masks = {}
            for tta in (None, False):
                out = tmp_path / f"{case} {tta}"
                (record,) = Batch(model, out, Options(tta=tta)).run([job])
                assert record.status in ("done", "held"), record.reason
                assert json.loads((out / "manifest.json").read_text())["options"]["tta"] is (tta is None)
                masks[tta] = np.asarray(nib.load(out / "masks" / f"{case}.nii.gz").dataobj)
            expected = np.asarray(nib.load(path).dataobj)
            assert np.mean(masks[None] != expected) < 1e-3
            differs += int((masks[False] != expected).sum())
    assert differs > 50


def test_the_card_states_it(tta_bundle, ensemble):
    card, other = ((root / "docs/README.md").read_text() for root in (tta_bundle, ensemble))
    assert "--no-tta" in card
    assert "mean of nine predictions" in card
    assert "tta" not in other


def test_a_study_is_not_continued_with_other_predictions(study, request_):
    with pytest.raises(RecordError, match="tta True → False"):
        run_study(replace(request_, tta=False))
