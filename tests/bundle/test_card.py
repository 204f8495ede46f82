"""The model card: every part that varies between studies, rendered from a study made by hand."""

from pathlib import Path

import pytest
from untrained import CLASSES, PLAN

from pipeline.bundle.card import model_card
from pipeline.bundle.largest_component import LargestComponentEffect
from pipeline.bundle.model_settings import make_settings
from pipeline.bundle.segment_codes import default_segments
from pipeline.bundle.source import StudySource
from pipeline.bundle.specification import BundleSpec, TrainingRanges
from pipeline.bundle.statements import BundleParts, Statements
from pipeline.bundle.weights import FinalTraining
from pipeline.data.dataset import Dataset
from pipeline.data.fingerprint import Fingerprint
from pipeline.losses import LossSpec
from pipeline.records.folder import StudyFolder
from pipeline.records.verdict import Verdict

VERDICT = {
    "verdict": "equivalent",
    "recommended": "dice",
    "primary": "dice",
    "losses": [
        {
            "name": "dice",
            "metrics": {
                "dice": {"mean": 0.81234, "median": 0.8, "ci_low": 0.79, "ci_high": 0.83, "cases": 12},
                "hausdorff_mm": {"mean": None, "median": None, "cases": 0},
            },
            "counts": {"ok": 20, "missed": 3, "false_positive": 1, "correct_absence": 0},
        }
    ],
    "pairs": [
        {"a": "dice", "b": "ce", "metric": "dice", "cases": 12, "difference": 0.01, "ci_low": -0.02, "ci_high": 0.04,
         "p_holm": 0.5, "equivalent": True},
        {"a": "dice", "b": "mcc", "metric": "dice", "cases": 12, "difference": 0.02, "ci_low": None, "ci_high": None,
         "p_holm": 0.5, "equivalent": False},
        {"a": "ce", "b": "mcc", "metric": "dice", "cases": 12, "difference": 0.03, "ci_low": 0, "ci_high": 0.1,
         "p_holm": 0.5, "equivalent": False},
    ],
}  # fmt: skip


def card(loss="dice", members=1, effects=(), author="A", rules=(), **changes):
    verdict = Verdict.parse(VERDICT, Path("verdict.json"), "")
    source = StudySource(
        study=StudyFolder(Path("study")), loss=LossSpec(loss), runs=(),
        formulas={"dice": "1 - D", "ce": "", "Loss": ""},
        folds=2, seeds=(0, 1), steps=40, precision="float32", threads=1, plan=PLAN,
        dataset=Dataset("balls", Path("data"), "msd", ("T1",), {0: "background", **CLASSES}, ()),
        fingerprint=Fingerprint(()), verdict=verdict,
    )  # fmt: skip
    recipe = make_settings(PLAN, "dice_ce", {}, keep_largest=[1] if any(effect.helps for effect in effects) else ())
    fields = {
        "name": "balls", "channels": ("T1",), "classes": CLASSES, "several_files": False, "spacing_mm": PLAN.spacing_mm,
        "patch": PLAN.patch, "overlap": 0.25, "batch": 2, "precision": "float32", "members": members,
        "fingerprint": TrainingRanges(
            cases=12, spacing_mm=((1, 1.5),) * 3, shape=((16, 20),) * 3, intensity=((0.5, 200),)
        ),
        "segments": default_segments(CLASSES), "series_rules": rules, "recipe": recipe,
    }  # fmt: skip
    training = FinalTraining(0.02, "float32") if members == 1 else None
    parts = BundleParts({}, training, tuple(effects), "1.0.0", Statements(author=author))
    return model_card(source, BundleSpec(**fields | changes), recipe, parts)


def test_results_have_intervals_only_where_the_verdict_has_them():
    text = card()
    assert "`equivalent`: dice is recommended among losses that are equivalent within the margin." in text
    assert "- dice minus ce in dice: +0.0100 (95 % interval -0.0200 to +0.0400)\n" in text
    assert "- dice minus mcc in dice: +0.0200\n" in text
    assert "- ce minus mcc" not in text
    assert "| dice | 0.8123 | 0.79 to 0.83 | 12 |\n| hausdorff_mm |  |  | 0 |\n" in text
    assert "Structures over cases and classes: ok 20, missed 3, false positive 1, correct absence 0.\n" in text


def test_another_loss_than_the_recommended_one_is_stated():
    text = card(loss="ce")
    assert "`equivalent`: the study recommends dice; this bundle was made with ce on request.\n" in text
    assert "| metric |" not in text


def test_a_loss_that_monai_lacks_is_replaced_in_training():
    assert "MONAI has no `my.module:Loss`, so `train.json` trains with dice_ce instead.\n" in card("my.module:Loss")
    assert "MONAI has no" not in card("dice")


def test_weights_are_a_final_training_or_an_ensemble():
    assert "learning rate 0.02 (the median over the runs), in float32." in card()
    text = card(members=4)
    assert "Weights: the networks of all 4 runs of this loss" in text
    assert "no case is left to test it" not in text


def test_effects_of_the_largest_component_are_listed_and_need_scikit_image():
    effects = [
        LargestComponentEffect("anterior", cases=9, gain=0.01, ci_low=0.004, ci_high=0.016),
        LargestComponentEffect("posterior", cases=9, gain=0.001, ci_low=-0.004, ci_high=0.006),
    ]
    text = card(effects=effects)
    assert "- anterior: +0.0100 (95 % interval +0.0040 to +0.0160, 9 cases): applied\n" in text
    assert "- posterior: +0.0010 (95 % interval -0.0040 to +0.0060, 9 cases): not applied\n" in text
    assert "scikit-image" in text
    assert "scikit-image" not in card(effects=effects[1:])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "Inputs: one NIfTI file per case.\n"),
        ({"channels": ("T1", "T2")}, "Inputs: one NIfTI file per case, 4D with 2 channels.\n"),
        ({"channels": ("T1", "T2"), "several_files": True},
         "one file per channel, `case_0000.nii.gz` (T1), `case_0001.nii.gz` (T2), all on one grid.\n"),
        ({"tta": True}, "whichloss predict BUNDLE IMAGES --out MASKS --no-tta"),
    ],
)  # fmt: skip
def test_inputs_and_test_time_augmentation_are_stated(changes, sentence):
    ranges = TrainingRanges(
        cases=1, spacing_mm=((1, 1),) * 3, shape=((9, 9),) * 3, intensity=((0, 1),) * len(changes.get("channels", "1"))
    )
    assert sentence in card(fingerprint=ranges, recipe=None, **changes)


def test_series_rules_are_listed():
    assert "There are no rules for DICOM series" in card()
    text = card(rules=({"name": "T1 <b>", "conditions": {"SeriesDescription": "`T1`"}},))
    assert '- T1  b: `{"SeriesDescription": "\'T1\'"}`\n' in text


def test_texts_of_users_cannot_write_markup():
    text = card(author="<script>alert(1)</script> [x](javascript:y)", classes={1: "a | b", 3: "`c`"})
    assert "<script>" not in text
    assert "[x]" not in text
    assert "Segments a   b, c in volumes" in text
