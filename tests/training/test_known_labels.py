"""Ignored voxels survive preparation and augmentation, and trainings use what is known of each case."""

import json
from dataclasses import replace
from importlib.util import find_spec

import nibabel as nib
import numpy as np
import pytest
import torch

from pipeline.data.annotation import IGNORED_INDEX, Annotation
from pipeline.data.datalists import read_dataset
from pipeline.data.planning import make_plan
from pipeline.data.scan import scan_dataset
from pipeline.losses import LossSpec, build_loss
from pipeline.losses.deep_supervision import DeeplySupervised
from pipeline.losses.known import loss_on_known
from pipeline.network.architecture import build_network
from pipeline.training.augmentation import Augmentation, AugmentationRanges
from pipeline.training.known_labels import loss_on_known_labels
from pipeline.training.nnunet_augmentation import NnUNetRanges
from pipeline.training.patch_sampling import PatchSampler
from pipeline.training.preparation import prepare_dataset
from pipeline.training.state import Training
from pipeline.training.trainer import train
from pipeline.training.validation import EvaluationSettings, ranking_score


def partly_ignored(case):
    """Let the upper half of a prepared case be ignored."""
    label = np.load(case.folder / "label.npy")
    label[:, :, 8:] = IGNORED_INDEX
    np.save(case.folder / "label.npy", label)
    np.savez(case.folder / "foreground.npz", **{"1": np.flatnonzero(label == 1)})
    return replace(case, annotation=Annotation(IGNORED_INDEX))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.3, 1.1)])
def test_ignored_voxels_survive_resampling(tmp_path, spacing):
    label = np.zeros((12, 14, 10), np.uint8)
    label[4:8, 5:9, 3:7] = 5
    label[:, :4] = 9
    image = np.random.default_rng(0).standard_normal(label.shape).astype(np.float32)
    for name, volume in (("i", image), ("l", label)):
        nib.save(nib.Nifti1Image(volume, np.diag([-1.0, 1.0, 1.0, 1.0])), tmp_path / f"{name}.nii.gz")
    entries = [{"image": "i.nii.gz", "label": "l.nii.gz"}]
    (tmp_path / "list.json").write_text(json.dumps({"cases": entries, "classes": {"5": "box", "9": "ignore"}}))
    found = scan_dataset(read_dataset(tmp_path / "list.json"))
    plan = replace(make_plan(found.dataset, found.fingerprint), spacing_mm=spacing)
    hashes = {scan.case: scan.content_hash for scan in found.fingerprint.scans}
    (case,) = prepare_dataset(found.dataset, plan, hashes, tmp_path / "cache", workers=0).values()
    prepared = case.label()
    assert set(np.unique(prepared)) == {0, 1, IGNORED_INDEX}
    assert np.mean(prepared == IGNORED_INDEX) == pytest.approx(np.mean(label == 9), abs=0.05)
    assert set(case.foreground()) == {1}
    assert case.annotation == Annotation(IGNORED_INDEX)
    complete = replace(found.dataset.cases[0], annotation=Annotation(9, (5,)))
    (other,) = prepare_dataset(
        replace(found.dataset, cases=(complete,)), plan, hashes, tmp_path / "cache", workers=0
    ).values()
    assert other.folder != case.folder


def test_ignored_voxels_survive_rotation_and_scaling(plan, prepared):
    sampler = PatchSampler(tuple(map(partly_ignored, prepared)), plan, seed=0, fold=0)
    augmentation = Augmentation(plan, 0, 0, AugmentationRanges(affine=1.0, flip=0.5))
    crops = [sampler.sample(draw) for draw in range(4)]
    images, labels = (torch.stack(part) for part in zip(*crops, strict=True))
    _, patches = augmentation(images, labels.float(), 0)
    assert {0, 1, IGNORED_INDEX} >= set(patches.unique().tolist()) > {0, IGNORED_INDEX}


def trained(plan, cases, loss="dice_ce"):
    training = Training(
        network=build_network(plan, 1, 2, 0, 0),
        loss=build_loss(LossSpec(loss), (9000, 300)),
        sampler=PatchSampler(cases, plan, seed=0, fold=0),
        learning_rate=0.01,
        steps=4,
        precision="float32",
        device=torch.device("cpu"),
    )
    train(training, interval=4)
    return training


def test_a_case_of_which_nothing_is_known_trains_nothing(plan, prepared):
    assert loss_on_known_labels(build_loss(LossSpec("ce"), (9, 1)), PatchSampler(prepared, plan, 0, 0)) is None
    unknown = tuple(replace(case, annotation=Annotation(classes=())) for case in prepared)
    weights = trained(plan, unknown).network.state_dict()
    start = build_network(plan, 1, 2, 0, 0).state_dict()
    assert all(torch.allclose(weights[name], start[name], atol=1e-3) for name in start)


def test_a_training_on_ignored_voxels_depends_on_known_labels_alone(plan, prepared):
    full = trained(plan, prepared).network.state_dict()
    ignoring = trained(plan, tuple(map(partly_ignored, prepared))).network.state_dict()
    assert all(torch.isfinite(tensor).all() for tensor in ignoring.values())
    assert any(not torch.equal(full[name], ignoring[name]) for name in full)


def test_the_search_over_rates_scores_known_voxels_and_classes_alone(plan, prepared):
    network = build_network(plan, 1, 2, 0, 0)
    settings = EvaluationSettings(plan, {1: "ball"}, "float32", torch.device("cpu"))
    unknown = [replace(case, annotation=Annotation(classes=())) for case in prepared]
    assert ranking_score(network, unknown, settings) is None
    whole = ranking_score(network, prepared[:1], settings)
    below = ranking_score(network, [partly_ignored(prepared[0])], settings)
    label = prepared[0].label()
    assert below.prevalence == pytest.approx(np.mean(label[label != IGNORED_INDEX] == 1))
    assert below.prevalence != whole.prevalence


def test_a_loss_over_several_resolutions_is_that_of_the_known_voxels_of_each(plan, prepared):
    sampler = PatchSampler(tuple(map(partly_ignored, prepared)), plan, 0, 0)
    inner = build_loss(LossSpec("dice_ce"), (9000, 300))
    loss = loss_on_known_labels(DeeplySupervised(inner), sampler)
    loss.begin_batch(0)
    generator = torch.Generator().manual_seed(0)
    outputs = tuple(torch.randn(2, 2, *(16 >> level,) * 3, generator=generator) for level in range(3))
    target = torch.randint(0, 2, (2, 1, 16, 16, 16), generator=generator).float()
    target[..., 8:] = IGNORED_INDEX
    coarse = torch.nn.functional.interpolate(target, (8, 8, 8), mode="nearest-exact")
    parts = [loss_on_known(inner, outputs[0], target), loss_on_known(inner, outputs[1], coarse)]
    torch.testing.assert_close(loss(outputs, target), (2 * parts[0] + parts[1]) / 3)


@pytest.mark.skipif(find_spec("batchgeneratorsv2") is None, reason="needs the extra nnunet")
def test_ignored_voxels_survive_the_augmentation_of_nnunet(plan, prepared):
    ranges = NnUNetRanges(rotation=1.0, scaling=1.0)
    sampler = PatchSampler(tuple(map(partly_ignored, prepared)), plan, 0, 0, augmentation=ranges)
    images, labels = (torch.stack(part) for part in zip(*map(sampler.sample, range(4)), strict=True))
    _, patches = ranges.build(plan, 0, 0)(images, labels.float(), 0)
    assert {0, 1, IGNORED_INDEX} >= set(patches.unique().tolist()) > {0, IGNORED_INDEX}
