import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch

from pipeline.bundle.export import export_bundle
from pipeline.bundle.manifest import identify
from pipeline.bundle.model import load_model
from pipeline.bundle.model_settings import make_settings
from pipeline.bundle.network_config import ensemble_config, ensemble_weights
from pipeline.bundle.preprocessing_config import preprocessing_config
from pipeline.bundle.source import read_source
from pipeline.bundle.testvector import mask_hash, predict
from pipeline.bundle.weights import costs, final_weights
from pipeline.data.plan import Plan
from pipeline.errors import BundleError, DatasetError
from pipeline.network.architecture import build_network
from pipeline.training.checkpoint import load_checkpoint


def test_model_gives_the_out_of_fold_masks_of_the_study(bundle, tiny_study):
    model = load_model(bundle)
    source = read_source(tiny_study, "dice_ce")
    images = {case.id: case.images for case in source.dataset.cases}
    compared = 0
    for run in source.runs:
        model.network.load_state_dict(load_checkpoint(run.folder.checkpoint)["network"])
        for path in sorted(run.folder.predictions.glob("*.nii.gz")):
            stored = nib.load(path)
            prepared = model.prepare(images[path.name.removesuffix(".nii.gz")])
            mask, probabilities = model.finish(prepared, model.infer(prepared), probabilities=True)
            expected = np.asarray(stored.dataobj)
            assert mask.shape == expected.shape == prepared.shape
            assert np.mean(mask != expected) < 1e-3
            assert np.allclose(prepared.affine, stored.affine)
            assert probabilities.shape == (3, *mask.shape)
            assert np.allclose(probabilities.sum(0), 1, atol=1e-4)
            compared += 1
    assert compared == 4


def test_masks_hold_the_label_values_of_the_dataset(bundle, tiny_dataset):
    model = load_model(bundle)
    mask, _ = predict(model, [tiny_dataset / "imagesTr" / "case_1.nii.gz"])
    assert set(np.unique(mask)) <= {0, 1, 3}
    assert model.classes == {1: "ball", 3: "small ball"}
    assert (mask == 1).sum() > 100


def test_test_vector_is_reproduced(bundle, ensemble):
    for root in (bundle, ensemble):
        expected_vector = json.loads((root / "test_vector/expected.json").read_text())
        mask, _ = predict(load_model(root), [root / "test_vector" / name for name in expected_vector["inputs"]])
        assert mask_hash(mask) == expected_vector["sha256_mask"]
        assert np.array_equal(mask, np.asarray(nib.load(root / "test_vector/expected.nii.gz").dataobj))


def test_ensemble_is_the_mean_of_its_members_logits():
    plan = Plan(
        spacing_mm=(1.0, 1.0, 1.0), patch=(8, 8, 8), batch=1, normalisation=("zscore",) * 2,
        intensity_range=((0.0, 1.0),) * 2, intensity_mean=(0.0,) * 2, intensity_std=(1.0,) * 2, channels=(4, 8, 8),
        strides=((2, 2, 2),) * 2, tolerance_mm=1.0, metrics=("dice",), reasons={},
    )  # fmt: skip
    members = [build_network(plan, 2, 3, seed, 0).eval() for seed in range(3)]
    from monai.bundle import ConfigParser

    config = ensemble_config(make_settings(plan, "dice_ce", {}), 2, 3, 3)
    whole = ConfigParser(config).get_parsed_content("network_def").eval()
    whole.load_state_dict(ensemble_weights([member.state_dict() for member in members], 2, 3))
    image = torch.rand(1, 2, 8, 8, 8)
    with torch.no_grad():
        expected = torch.stack([member(image) for member in members]).mean(0)
        assert torch.allclose(whole(image), expected, atol=1e-5)


def test_ensemble_states_the_number_of_its_networks(ensemble, tiny_study):
    final, folds = costs(read_source(tiny_study, "dice_ce"))
    assert folds.networks == 2
    assert folds.training_s == 0
    assert final.training_s > 0
    metadata = json.loads((ensemble / "configs/metadata.json").read_text())
    assert metadata["segloss"]["members"] == 2
    assert load_model(ensemble).precision == "float32"


def test_every_file_is_in_the_manifest_and_no_case_is_named(bundle, tiny_study):
    manifest = json.loads((bundle / "manifest.json").read_text())
    found = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert found == {*manifest["files"], "manifest.json"}
    assert {
        "LICENSE",
        "docs/README.md",
        "docs/data_license.txt",
        "models/model.pt",
        "large_files.yml",
    } <= found
    text = "".join((bundle / name).read_text() for name in found if name.endswith((".json", ".md", ".txt")))
    assert "case_" not in text.replace("case_0000", "")
    assert str(tiny_study.root) not in text
    assert "CC0" in (bundle / "docs/data_license.txt").read_text()


def test_card_states_verdict_intervals_and_limits(bundle, tiny_study):
    card = (bundle / "docs/README.md").read_text()
    verdict = json.loads(tiny_study.verdict.read_text())
    assert f"`{verdict['verdict']}`" in card
    assert "95 % interval" in card
    assert "not a medical device" in card
    assert "spacing along R, mm | 1 | 1.4" in card


def test_two_exports_of_one_study_are_the_same_bytes(bundle, tiny_study, tmp_path):
    again = tmp_path / "again"
    export_bundle(read_source(tiny_study, "auto"), again, name="balls")
    assert identify(again) == identify(bundle)


def test_a_final_training_that_was_stopped_continues_to_the_same_weights(bundle, tiny_study):
    source = read_source(tiny_study, "auto")
    shutil.rmtree(tiny_study.root / "final")

    def stop(step, of):
        if step == 5:  # the last state is that of step 4: two steps between states
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        final_weights(source, stop)
    steps = []
    weights, _ = final_weights(source, lambda step, of: steps.append(step))
    assert steps == list(range(5, 21))
    expected = torch.load(bundle / "models/model.pt", weights_only=True)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_an_existing_folder_is_not_overwritten(bundle, tiny_study):
    with pytest.raises(BundleError, match="exists already"):
        export_bundle(read_source(tiny_study, "auto"), bundle)


def test_an_unknown_loss_is_refused_in_one_line(tiny_study):
    with pytest.raises(BundleError, match="give one of dice_ce, weighted_ce"):
        read_source(tiny_study, "focal")


def test_a_file_that_is_not_an_image_is_refused_in_one_line(bundle, tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"broken\.nii\.gz"):
        load_model(bundle).prepare([broken])


def test_an_output_that_is_not_finite_is_an_error_instead_of_an_empty_mask(bundle, tiny_dataset):
    model = load_model(bundle)
    prepared = model.prepare([tiny_dataset / "imagesTr" / "case_0.nii.gz"])
    scores = torch.full((3, *prepared.image.shape[1:]), torch.nan)
    with pytest.raises(FloatingPointError):
        model.finish(prepared, scores)


def test_several_channels_and_ct_are_prepared_as_in_training(tmp_path):
    from monai.bundle import ConfigParser

    from pipeline.data.dataset import Case
    from pipeline.training.preparation import load_case

    random = np.random.default_rng(0)
    affine = np.diag([2.0, -1.0, 1.5, 1.0])
    volume = random.normal(50, 200, (14, 12, 10, 3)).astype(np.float32)
    volume[:4, ..., 2] = 0
    paths = []
    for index in range(3):
        paths.append(tmp_path / f"case_{index:04d}.nii.gz")
        nib.save(nib.Nifti1Image(volume[..., index], affine), paths[-1])
    nib.save(nib.Nifti1Image(volume, affine), tmp_path / "four.nii.gz")
    plan = Plan(
        spacing_mm=(1.5, 1.5, 1.5), patch=(8, 8, 8), batch=1, normalisation=("ct", "zscore", "zscore_nonzero"),
        intensity_range=((-100.0, 200.0), (0.0, 1.0), (0.0, 1.0)), intensity_mean=(40.0, 0.0, 0.0),
        intensity_std=(90.0, 1.0, 1.0), channels=(4, 8), strides=((2, 2, 2),), tolerance_mm=1.0, metrics=("dice",),
        reasons={},
    )  # fmt: skip
    steps = preprocessing_config(make_settings(plan, "dice_ce", {}), plan.spacing_mm)
    prepare = ConfigParser({"p": {"_target_": "Compose", "transforms": steps}}).get_parsed_content("p")
    for images in (tuple(paths), (tmp_path / "four.nii.gz",)):
        expected, _, affine_prepared = load_case(Case("x", images, None, "x"), plan, with_label=False)
        found = prepare({"image": [str(path) for path in images]})["image"]
        assert np.allclose(np.asarray(found), expected, atol=1e-4)
        assert np.allclose(np.asarray(found.affine), affine_prepared)
