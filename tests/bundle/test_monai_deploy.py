"""The steps of MONAI Deploy's inference operator with a bundle, on an image in memory.

The operator itself needs Holoscan and CUDA. It parses ``preprocessing``, ``inferer`` and ``postprocessing``, removes
the transforms that load and save, and passes dictionaries only to chains whose first transform is a ``MapTransform``.
"""

import json
import zipfile

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export
from monai.data import MetaTensor
from monai.transforms import MapTransform

from pipeline.bundle.model import load_model
from pipeline.bundle.testvector import predict

CONFIGS = ("inference", "metadata")


def parsed(inference, metadata):
    parser = ConfigParser(inference)
    parser.read_meta(metadata)
    parser.parse()
    return parser


def without_files(compose):
    compose.transforms = tuple(
        step for step in compose.transforms if not type(step).__name__.startswith(("LoadImage", "SaveImage"))
    )
    return compose


def mask_as_in_the_operator(parser, network, path):
    """Return the mask (X, Y, Z) of an image that another operator holds in memory."""
    prepare, finish = (without_files(parser.get_parsed_content(name)) for name in ("preprocessing", "postprocessing"))
    assert isinstance(finish.transforms[0], MapTransform), "the operator would treat the chain as one for arrays"
    image = nib.load(path)
    voxels = torch.from_numpy(np.asarray(image.dataobj))
    affine = torch.from_numpy(image.affine)
    meta = {"original_affine": affine, "affine": affine, "original_channel_dim": "no_channel"}
    meta["spatial_shape"] = np.asarray(image.shape)
    data = prepare({"image": MetaTensor(voxels, meta=meta)})
    with torch.no_grad():
        scores = parser.get_parsed_content("inferer")(inputs=data["image"][None], network=network)
    mask = finish({"pred": scores[0], **data})["pred"]
    return np.asarray(mask)[0].astype(np.uint8)


@pytest.mark.parametrize("kind", ["bundle", "ensemble"])
def test_a_bundle_folder_gives_the_masks_of_whichloss(kind, request, tiny_dataset):
    root = request.getfixturevalue(kind)
    inference, metadata = (
        json.loads((root / f"configs/{name}.json").read_text()) for name in ("inference", "metadata")
    )
    parser = parsed(inference, metadata)
    network = parser.get_parsed_content("network")
    network.load_state_dict(torch.load(root / "models/model.pt", weights_only=True), strict=True)
    for path in sorted((tiny_dataset / "imagesTr").glob("*.nii.gz")):
        expected, _ = predict(load_model(root), [path])
        assert np.array_equal(mask_as_in_the_operator(parser, network.eval(), path), expected)


def test_a_torchscript_archive_gives_the_masks_of_whichloss(bundle, tiny_dataset, tmp_path):
    file = tmp_path / "model.ts"
    ckpt_export(
        net_id="network_def", filepath=str(file), ckpt_file=str(bundle / "models/model.pt"),
        meta_file=str(bundle / "configs/metadata.json"), config_file=str(bundle / "configs/inference.json"),
    )  # fmt: skip
    with zipfile.ZipFile(file) as archive:
        inference, metadata = (
            json.loads(archive.read(f"model/extra/{name}.json")) for name in ("inference", "metadata")
        )
    parser = parsed(inference, metadata)
    path = tiny_dataset / "imagesTr/case_1.nii.gz"
    expected, _ = predict(load_model(bundle), [path])
    assert np.array_equal(mask_as_in_the_operator(parser, torch.jit.load(file).eval(), path), expected)
