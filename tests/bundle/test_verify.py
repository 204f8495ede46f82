"""`whichloss verify`: the same numbers on another machine pass, exchanged labels and damaged bundles do not."""

import gzip
import json
import shutil
import struct

import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pipeline.bundle import verification
from pipeline.bundle.manifest import write_manifest
from pipeline.bundle.model import load_model
from pipeline.bundle.testvector import write_expected
from pipeline.bundle.verification import compare_test_vector, verify_bundle
from pipeline.cli.app import build_app
from pipeline.errors import BundleError, DatasetError

METADATA, EXPECTED, WEIGHTS = "configs/metadata.json", "test_vector/expected.json", "models/model.pt"


def edit(root, name, change):
    value = json.loads((root / name).read_text())
    change(value)
    (root / name).write_text(json.dumps(value))
    write_manifest(root, "untrained", "1.0.0")


def run(*arguments):
    return CliRunner().invoke(build_app(), ["verify", *map(str, arguments)])


def test_an_untouched_bundle_passes_and_names_what_was_checked(untrained):
    found = verify_bundle(untrained)
    assert found.problems == ()
    assert found.comparison.different_voxels == 0
    assert found.configurations == ("evaluate", "inference", "multi_gpu_train", "tracking_mlflow", "train")
    expected = nib.load(untrained / "test_vector/expected.nii.gz").get_fdata()
    assert [(c.value, c.name, c.dice) for c in found.comparison.classes] == [(1, "anterior", 1), (3, "posterior", 1)]
    assert [c.found_voxels for c in found.comparison.classes] == [(expected == 1).sum(), (expected == 3).sum()]
    assert {"monai", "torch", "numpy", "nibabel"} <= {version.package for version in found.versions}


def test_a_bundle_of_a_study_passes(bundle):
    assert verify_bundle(bundle).problems == ()


def test_an_ensemble_of_a_study_passes(ensemble):
    assert verify_bundle(ensemble).problems == ()


def exchange_outputs(root):
    """Exchange the two foreground outputs of the network, as a wrong order of classes in training would."""
    weights = torch.load(root / WEIGHTS, weights_only=True)
    for name in [name for name in weights if name.startswith("output_block")]:
        weights[name] = weights[name][[0, 2, 1]].clone()
    torch.save(weights, root / WEIGHTS)
    (root / "large_files.yml").unlink(missing_ok=True)
    write_manifest(root, "untrained", "1.0.0")


def test_exchanged_labels_fail_and_are_named(edited):
    exchange_outputs(edited)
    problems = " ".join(verify_bundle(edited).problems)
    assert "voxels differ beyond rounding" in problems
    assert (
        "label 3 (posterior) instead of label 1 (anterior)" in problems
        or "label 1 (anterior) instead of label 3 (posterior)" in problems
    )


def test_exchanged_labels_fail_where_the_mask_is_empty(edited):
    """Without a single voxel of a class, only the network's outputs tell the classes apart."""
    weights = torch.load(edited / WEIGHTS, weights_only=True)
    bias = next(name for name in weights if name.startswith("output_block") and name.endswith("bias"))
    weights[bias][0] += 30
    torch.save(weights, edited / WEIGHTS)
    write_manifest(edited, "untrained", "1.0.0")
    write_expected(edited, load_model(edited), [edited / "test_vector/input.nii.gz"])
    write_manifest(edited, "untrained", "1.0.0")
    assert verify_bundle(edited).comparison.classes[0].expected_voxels == 0
    exchange_outputs(edited)
    found = verify_bundle(edited)
    assert found.comparison.different_voxels == 0
    assert found.problems == found.comparison.problems
    assert "outputs differ" in found.problems[0]


def test_exchanged_names_fail(edited):
    def exchange(metadata):
        metadata["segloss"]["classes"] = {"1": "posterior", "3": "anterior"}
        metadata["network_data_format"]["outputs"]["pred"]["channel_def"] |= {"1": "posterior", "2": "anterior"}

    edit(edited, METADATA, exchange)
    problems = verify_bundle(edited).problems
    assert any("label 1 is 'posterior' in the metadata, but 'anterior' in the test vector" in one for one in problems)


def test_names_that_monai_reads_must_be_those_of_whichloss(edited):
    edit(edited, METADATA, lambda m: m["network_data_format"]["outputs"]["pred"]["channel_def"].update({"1": "other"}))
    assert any("channel_def" in problem for problem in verify_bundle(edited).problems)


def test_labels_exchanged_in_the_configuration_are_refused(edited):
    def exchange(config):
        step = next(s for s in config["deciding"]["transforms"] if s["_target_"] == "MapLabelValued")
        step["target_labels"] = [0, 3, 1]

    edit(edited, "configs/inference.json", exchange)
    with pytest.raises(BundleError, match="target_labels"):
        verify_bundle(edited)


def disturbed(root, relative):
    """Return the model with weights that differ by a relative error, as on other hardware."""
    model = load_model(root)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.mul_(1 + relative * (2 * torch.rand(parameter.shape, generator=generator) - 1))
    return model


def rounded(tensor):
    """Return float32 numbers with the 10 bits of mantissa that TensorFloat-32 has."""
    bits = tensor.contiguous().view(torch.int32)
    return ((bits + (1 << 12)) >> 13 << 13).view(torch.float32)


def test_rounding_in_the_last_digits_passes(untrained):
    found = compare_test_vector(untrained, disturbed(untrained, 1e-7))
    assert found.problems == ()
    assert 0 < found.logit_difference < found.logit_tolerance / 100


def test_convolutions_in_tensorfloat_32_pass(untrained):
    """GPUs compute convolutions in TensorFloat-32; here weights and inputs are rounded to it."""
    model = load_model(untrained)
    for module in model.network.modules():
        if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d):
            module.weight.data = rounded(module.weight.data)
            module.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0]),))
    found = compare_test_vector(untrained, model)
    assert found.problems == ()
    assert found.different_voxels == found.tied_voxels
    assert 0 < found.logit_difference < found.logit_tolerance / 2


def test_weights_that_are_wrong_by_ten_percent_fail(untrained):
    assert compare_test_vector(untrained, disturbed(untrained, 0.1)).problems


def test_a_voxel_that_is_no_tie_fails(untrained, tmp_path):
    root = shutil.copytree(untrained, tmp_path / "bundle")
    image = nib.load(root / "test_vector/expected.nii.gz")
    mask = np.asarray(image.dataobj).copy()
    model = load_model(root)
    prepared = model.prepare([root / "test_vector/input.nii.gz"])
    _, probabilities = model.finish(prepared, model.infer(prepared), probabilities=True)
    # The voxel that is most clearly background becomes "posterior".
    clearest = np.unravel_index(probabilities[0].argmax(), mask.shape)
    mask[clearest] = 3
    nib.save(nib.Nifti1Image(mask, image.affine), root / "test_vector/expected.nii.gz")
    edit(root, EXPECTED, lambda e: e.update(sha256_mask=verification.mask_hash(mask)))
    found = compare_test_vector(root, model)
    assert (found.different_voxels, found.tied_voxels) == (1, 0)
    assert found.problems == (
        "1 voxel differs beyond rounding, most often label 0 (background) instead of label 3 (posterior)",
    )


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda e: e.update(inputs=["../../canary.nii.gz"]), "inputs"),
        (lambda e: e.update(inputs=["/etc/passwd"]), "inputs"),
        (lambda e: e.update(inputs=[]), "inputs"),
        (lambda e: e.update(inputs=["other.nii.gz"]), "other.nii.gz: is missing"),
        (lambda e: e.update(expected="..nii.gz"), "expected"),
        (lambda e: e.update(sha256_mask="0" * 64), "is not the mask of expected.json"),
        (lambda e: e.update(logits=[[0], [0, 1], [0]]), "logits"),
        (lambda e: e.update(logits="much"), "logits"),
        (lambda e: e.pop("classes"), "classes"),
        (lambda e: e["classes"].update({"1": "a\x1b[1m"}), "classes"),
    ],
)
def test_a_malformed_test_vector_is_refused_in_one_line(change, word, edited):
    edit(edited, EXPECTED, change)
    with pytest.raises(BundleError) as caught:
        verify_bundle(edited)
    assert word in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_test_vector_of_30_gigabytes_is_refused(edited):
    path = edited / "test_vector/input.nii.gz"
    data = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<3h", data, 42, 2000, 2000, 2000)
    path.write_bytes(gzip.compress(data[:400]))
    write_manifest(edited, "untrained", "1.0.0")
    with pytest.raises(DatasetError, match="GiB"):
        verify_bundle(edited)


def test_the_command_exits_with_0_1_or_2(edited):
    passed = run(edited, "--device", "cpu")
    assert passed.exit_code == 0
    assert "Result:         passed" in passed.output
    exchange_outputs(edited)
    failed = run(edited, "--device", "cpu")
    assert failed.exit_code == 1
    assert "FAILED" in failed.output
    assert "problem: " in failed.output
    (edited / WEIGHTS).write_bytes(b"")
    assert isinstance(run(edited).exception, BundleError)


def test_json_has_the_result_alone_on_stdout(edited):
    content = json.loads(run(edited, "--device", "cpu", "--json").stdout)
    assert content["passed"] is True
    assert content["comparison"]["different_voxels"] == 0
    edit(edited, EXPECTED, lambda e: e.update(logits=[[0.0]] * 3))
    content = json.loads(run(edited, "--device", "cpu", "--json").stdout)
    assert (content["passed"], content["comparison"]["logit_difference"]) == (False, None)


def test_another_version_is_reported_but_does_not_fail(edited):
    edit(edited, METADATA, lambda m: m.update(pytorch_version="2.10.0"))
    result = run(edited, "--device", "cpu")
    assert result.exit_code == 0
    assert "torch: 2.10.0 at export" in result.output


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    result = run(tmp_path / "none")
    assert isinstance(result.exception, BundleError)
    assert "does not exist" in str(result.exception)
