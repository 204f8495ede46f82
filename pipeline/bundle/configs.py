"""The inference configuration of a bundle, built from MONAI's own parts so that it runs without this package.

Preprocessing repeats `pipeline.training.preparation` step for step. Label values become class indices on the way in
and label values again on the way out. ``restoring`` returns probabilities on the input's grid and ``deciding`` the
mask. ``postprocessing`` lists the steps of both and the writer in one flat chain: MONAI Deploy inspects the first step
and removes the writer, so a chain of chains does not work there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pipeline.bundle.specification import BundleSpec
from pipeline.data.plan import Plan
from pipeline.network.architecture import stem_features

Config = dict[str, Any]

IMPORTS = ["$import glob", "$import os"]
DEVICE = "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')"
NETWORK = "$@network_def.to(@device)"
MODEL_FILE = "$@bundle_root + '/models/model.pt'"
CHECKPOINT = "@ckpt_path"
# Beside the bundle, not in it: a file that the manifest does not list makes a bundle unusable for `segloss predict`.
PREDICTIONS = "$os.path.abspath(@bundle_root) + '_predictions'"
IMAGES_DIR = "$@dataset_dir + '/imagesTs' if os.path.isdir(@dataset_dir + '/imagesTs') else @dataset_dir"


def at_least_one(files: str, folder: str, pattern: str) -> str:
    """Return an expression for `files` that fails where there are none; it names the folder, an expression too."""
    problem = f"'no file matches {pattern} in ' + {folder} + '; set --dataset_dir'"
    return f"${files} or (_ for _ in ()).throw(FileNotFoundError({problem}))"


INFER_FILES = "$sorted(glob.glob(@images_dir + '/*.nii*'))"
INFER_FIRST_CHANNELS = "$sorted(glob.glob(@images_dir + '/*_0000.nii*'))"
SOME_FILES = at_least_one("@files", "@images_dir", "*.nii*")
SOME_FIRST_CHANNELS = at_least_one("@files", "@images_dir", "*_0000.nii*")
INFER_DATA = "$[{'image': path} for path in @files]"
INFER_CHANNEL_DATA = (
    "$[{'image': [path.replace('_0000.nii', '_%04d.nii' % i) for i in range(@channels)]} for path in @files]"
)
RUN = "$@evaluator.run()"
MEMBERS = "$torch.nn.Sequential(*@members)"
STEMMED = "$torch.nn.Sequential(@into, @unet, @out_of)"


def network(plan: Plan, channels: int, classes: int, members: int = 1) -> Config:
    """Return ``network_def`` and what it refers to: MONAI's DynUNet as `pipeline.network.architecture` builds it.

    With a stem it stands as ``unet`` between the convolutions ``into`` and ``out_of`` the stem's patches.

    An ensemble is one network of MONAI's and torch's parts that gives the mean of its members' logits: each member's
    logits are concatenated to its input, the next member is led back to the image by a fixed 1 x 1 convolution, and a
    last convolution takes the mean. So it exports, traces and verifies like a single network.
    """
    levels, features = len(plan.channels), stem_features(plan)
    unet: Config = {
        "_target_": "DynUNet",
        "spatial_dims": 3,
        "in_channels": channels if features is None else features[0],
        "out_channels": classes if features is None else features[1],
        "kernel_size": [3] * levels,
        "strides": [1, *(list(stride) for stride in plan.strides)],
        "upsample_kernel_size": [list(stride) for stride in plan.strides],
        "filters": list(plan.channels),
        "norm_name": ["INSTANCE", {"affine": True}],
        "act_name": ["leakyrelu", {"inplace": True, "negative_slope": 0.01}],
    }
    parts: Config = {"network_def": unet}
    if features is not None:
        patches = {"kernel_size": list(plan.stem), "stride": list(plan.stem)}
        into = {"_target_": "torch.nn.Conv3d", "in_channels": channels, "out_channels": features[0]}
        out_of = {"_target_": "torch.nn.ConvTranspose3d", "in_channels": features[1], "out_channels": classes}
        parts = {"into": into | patches, "unet": unet, "out_of": out_of | patches}
    if members == 1:
        return parts if features is None else parts | {"network_def": STEMMED}
    found: Config = {
        f"member_{index}": [_pointwise(channels + index * classes, channels), *parts.values()]
        for index in range(members)
    }
    skips = [
        {
            "_target_": "monai.networks.layers.SkipConnection",
            "submodule": f"$torch.nn.Sequential(*@member_{index})",
            "dim": 1,
            "mode": "cat",
        }
        for index in range(members)
    ]
    found["members"] = [*skips, _pointwise(channels + members * classes, classes)]
    return found | {"network_def": MEMBERS}


def _pointwise(inputs: int, outputs: int) -> Config:
    return {
        "_target_": "torch.nn.Conv3d",
        "in_channels": inputs,
        "out_channels": outputs,
        "kernel_size": 1,
        "bias": False,
    }


def ensemble_weights(members: Sequence[Mapping[str, torch.Tensor]], channels: int, classes: int) -> dict[str, Any]:
    """Return the weights of an ensemble of `network`, made of those of its members."""
    weights: dict[str, Any] = {}
    for index, member in enumerate(members):
        select = torch.zeros(channels, channels + index * classes, 1, 1, 1)
        select[torch.arange(channels), torch.arange(channels)] = 1
        weights[f"{index}.submodule.0.weight"] = select
        weights |= {f"{index}.submodule.{_after_pointwise(name)}": tensor for name, tensor in member.items()}
    mean = torch.zeros(classes, channels + len(members) * classes, 1, 1, 1)
    for index in range(len(members)):
        mean[torch.arange(classes), channels + index * classes + torch.arange(classes)] = 1 / len(members)
    weights[f"{len(members)}.weight"] = mean
    return weights


def _after_pointwise(name: str) -> str:
    """Return a weight's name with its network, one module or a sequence of them, behind the pointwise convolution."""
    first, _, rest = name.partition(".")
    return f"{int(first) + 1}.{rest}" if first.isdigit() else f"1.{name}"


def loading(plan: Plan, keys: Sequence[str], label_values: Sequence[int] = ()) -> list[Config]:
    """Return the transforms from NIfTI files to the plan's grid and intensities; a label becomes class indices."""
    several = len(keys) > 1
    images = keys[0] if not several else list(keys)
    steps: list[Config] = [
        {"_target_": "LoadImaged", "keys": images, "reader": "NibabelReader", "image_only": True},
        {"_target_": "EnsureChannelFirstd", "keys": images},
        {"_target_": "EnsureTyped", "keys": images, "dtype": "float32"},
        {
            "_target_": "Orientationd",
            "keys": images,
            "axcodes": "RAS",
            "labels": [["L", "R"], ["P", "A"], ["I", "S"]],
        },
        {
            "_target_": "Spacingd",
            "keys": images,
            "pixdim": list(plan.spacing_mm),
            "mode": ["bilinear", "nearest"] if several else "bilinear",
            "padding_mode": "border",
        },
    ]
    if several and list(label_values) != list(range(len(label_values))):
        steps.append(_mapped("label", list(label_values), list(range(len(label_values)))))
    return steps + normalisation(plan)


def normalisation(plan: Plan) -> list[Config]:
    """Return what `pipeline.training.preparation.normalise` does, as dictionary transforms of ``image``."""
    kinds = set(plan.normalisation)
    if "ct" not in kinds and len(kinds) == 1:
        return [
            {
                "_target_": "NormalizeIntensityd",
                "keys": "image",
                "nonzero": "zscore_nonzero" in kinds,
                "channel_wise": True,
            }
        ]
    if len(plan.normalisation) == 1:
        return _normalised("image", plan, 0)
    keys = [f"image_{index}" for index in range(len(plan.normalisation))]
    steps: list[Config] = [
        {"_target_": "SplitDimd", "keys": "image", "output_postfixes": [str(i) for i in range(len(keys))], "dim": 0}
    ]
    for index, key in enumerate(keys):
        steps += _normalised(key, plan, index)
    return [
        *steps,
        {"_target_": "ConcatItemsd", "keys": keys, "name": "image", "dim": 0},
        {"_target_": "DeleteItemsd", "keys": keys},
    ]


def _normalised(key: str, plan: Plan, index: int) -> list[Config]:
    kind = plan.normalisation[index]
    if kind != "ct":
        return [{"_target_": "NormalizeIntensityd", "keys": key, "nonzero": kind == "zscore_nonzero"}]
    low, high = plan.intensity_range[index]
    scale: Config = {"_target_": "ScaleIntensityRanged", "keys": key, "a_min": low, "a_max": high}
    return [
        scale | {"b_min": low, "b_max": high, "clip": True},
        {
            "_target_": "NormalizeIntensityd",
            "keys": key,
            "subtrahend": plan.intensity_mean[index],
            "divisor": max(plan.intensity_std[index], 1e-6),
        },
    ]


def _mapped(key: str, before: list[int], after: list[int]) -> Config:
    return {"_target_": "MapLabelValued", "keys": key, "orig_labels": before, "target_labels": after}


def inferer(spec: BundleSpec) -> Config:
    """Return the sliding window of `pipeline.network.prediction`."""
    return {
        "_target_": "SlidingWindowInferer",
        "roi_size": list(spec.patch),
        "sw_batch_size": spec.batch,
        "overlap": spec.overlap,
        "mode": "gaussian",
        "padding_mode": "constant",
    }


def restoring() -> Config:
    """Return the steps from logits on the prepared grid to probabilities on the input's grid."""
    steps: list[Config] = [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": False,
            "to_tensor": True,
        },
    ]
    return {"_target_": "Compose", "transforms": steps}


def deciding(spec: BundleSpec, keep_largest: Sequence[int] = ()) -> Config:
    """Return the steps from probabilities to label values.

    Only the largest component of each class in `keep_largest` (class indices) is kept.
    """
    steps: list[Config] = [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True}]
    if keep_largest:
        steps.append(
            {
                "_target_": "KeepLargestConnectedComponentd",
                "keys": "pred",
                "applied_labels": list(keep_largest),
                "is_onehot": False,
                "independent": True,
            }
        )
    values = [0, *spec.classes]
    if values != list(range(len(values))):
        steps.append(_mapped("pred", list(range(len(values))), values))
    return {"_target_": "Compose", "transforms": steps}


def saving(spec: BundleSpec) -> Config:
    """Return the step that writes the mask of ``NAME.nii.gz`` as ``NAME_seg.nii.gz``."""
    return {
        "_target_": "SaveImaged",
        "keys": "pred",
        "output_dir": "@output_dir",
        "output_postfix": "seg",
        "output_dtype": "uint8" if max(spec.classes) < 256 else "uint16",
        "resample": False,
        "separate_folder": False,
        "data_root_dir": "@images_dir",
        "print_log": False,
    }


def postprocessing(restoring: Config, deciding: Config) -> Config:
    """Return the flat chain of all steps of both parts and the writer, each by reference."""
    parts = {"restoring": restoring, "deciding": deciding}
    steps = [
        f"@{name}::transforms::{index}" for name, part in parts.items() for index in range(len(part["transforms"]))
    ]
    return {"_target_": "Compose", "transforms": [*steps, "@saving"]}


def inference(plan: Plan, spec: BundleSpec, keep_largest: Sequence[int] = ()) -> Config:
    """Return ``configs/inference.json``."""
    channels, classes = len(spec.channels), len(spec.classes) + 1
    restored, decided = restoring(), deciding(spec, keep_largest)
    return {
        "imports": list(IMPORTS),
        "bundle_root": ".",
        "dataset_dir": ".",
        "images_dir": IMAGES_DIR,
        "output_dir": PREDICTIONS,
        "ckpt_path": MODEL_FILE,
        "device": DEVICE,
        **({"channels": channels} if spec.several_files else {}),
        "files": INFER_FIRST_CHANNELS if spec.several_files else INFER_FILES,
        **network(plan, channels, classes, spec.members),
        "network": NETWORK,
        "preprocessing": {"_target_": "Compose", "transforms": loading(plan, ["image"])},
        "dataset": {
            "_target_": "Dataset",
            "data": INFER_CHANNEL_DATA if spec.several_files else INFER_DATA,
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
        },
        "inferer": inferer(spec),
        "restoring": restored,
        "deciding": decided,
        "saving": saving(spec),
        "postprocessing": postprocessing(restored, decided),
        "key_metric": None,
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": CHECKPOINT,
                "load_dict": {"model": "@network"},
                "map_location": "@device",
            }
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "key_val_metric": "@key_metric",
            "val_handlers": "@handlers",
            "amp": False,
        },
        "run": [SOME_FIRST_CHANNELS if spec.several_files else SOME_FILES, RUN],
    }
