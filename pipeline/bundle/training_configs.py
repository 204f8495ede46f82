"""Training, evaluation and tracking configurations of a bundle, built from MONAI's own parts.

They train a network of the same kind on new data; they are not the machinery of a study (`pipeline.training`), whose
paired randomness and search over learning rates MONAI's configurations cannot express. As in MONAI's model zoo,
training writes the checkpoint that evaluation and inference read: ``ckpt_path``, by default ``models/model.pt``.
All configurations expect the same folder as ``dataset_dir``, with ``imagesTr``, ``labelsTr`` and ``imagesTs``.

Metrics are computed for every case alike: overlap and distance are undefined where neither mask shows the class, and
where one of them does not, the overlap is 0 and the distance the diagonal of the image in mm. Spacing comes from the
image itself, so that distances are in mm (MONAI's own Ignite handlers give voxels).
"""

from collections.abc import Sequence
from typing import Any

from pipeline.bundle.configs import (
    CHECKPOINT,
    DEVICE,
    IMPORTS,
    MODEL_FILE,
    NETWORK,
    RUN,
    Config,
    at_least_one,
    inferer,
    loading,
    network,
)
from pipeline.bundle.losses import LOSSES, loss_config
from pipeline.bundle.specification import BundleSpec
from pipeline.data.plan import Plan

TRAINING_IMPORTS = [*IMPORTS, "$import logging", "$import sys", "$import time"]
TRAINING_IMAGES = "@dataset_dir + '/imagesTr'"
# Only read where nothing replaces it: MONAI Label sets the data of training and validation and has no such folder.
IMAGES = at_least_one(f"sorted(glob.glob({TRAINING_IMAGES} + '/*.nii*'))", TRAINING_IMAGES, "*.nii*")
FIRST_CHANNELS = at_least_one(f"sorted(glob.glob({TRAINING_IMAGES} + '/*_0000.nii*'))", TRAINING_IMAGES, "*_0000.nii*")
DATA = "$[{'image': path, 'label': os.path.join(@dataset_dir, 'labelsTr', os.path.basename(path))} for path in @images]"
CHANNEL_DATA = (
    "$[{'image': [path.replace('_0000.nii', '_%04d.nii' % i) for i in range(@num_channels)], 'label': "
    "os.path.join(@dataset_dir, 'labelsTr', os.path.basename(path).replace('_0000.nii', '.nii'))} for path in @images]"
)
TRAINING = "$[item for i, item in enumerate(@data) if i % @folds != @fold]"
VALIDATION = "$[item for i, item in enumerate(@data) if i % @folds == @fold]"
EVALUATION = "$os.path.abspath(@bundle_root) + '_eval'"
# MONAI's handlers log at level INFO. A logging.conf would do as well, but Python evaluates parts of such a file.
LOGGING = (
    "$logging.basicConfig(level=logging.INFO, stream=sys.stdout, "
    "format='%(asctime)s - %(name)s - %(levelname)s - %(message)s')"
)
CHECKPOINT_FOLDER = "$os.path.dirname(os.path.abspath(@ckpt_path))"
CHECKPOINT_NAME = "$os.path.basename(@ckpt_path)"
NOT_FIRST = (
    "$torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_rank() > 0"
)
OUTPUT = "$monai.handlers.from_engine(['pred', 'label'])"
LOSS = "$monai.handlers.from_engine(['loss'], first=True)"
META = "$lambda batch: [item['image'].meta for item in batch]"
_PRESENT = "({0}[:, 1:].flatten(2).sum(-1) > 0)"
_P, _L = _PRESENT.format("pred"), _PRESENT.format("label")
DICE = (
    f"$lambda pred, label: torch.where({_P} | {_L}, monai.metrics.compute_dice(pred.as_tensor(), label.as_tensor(), "
    "include_background=False, ignore_empty=False), torch.nan)"
)


def hausdorff(percentile: int | None) -> str:
    """Return the expression of the Hausdorff distance in mm for one case."""
    return (
        f"$lambda pred, label: torch.where({_P} & {_L}, monai.metrics.compute_hausdorff_distance(pred.as_tensor(), "
        f"label.as_tensor(), include_background=False, percentile={percentile}, spacing=label.pixdim.tolist()), "
        f"torch.where({_P} | {_L}, float(np.linalg.norm(np.multiply(label.shape[2:], label.pixdim.tolist()))), "
        "torch.nan))"
    )


METRICS = {"dice": DICE, "hausdorff_mm": hausdorff(None), "hausdorff95_mm": hausdorff(95)}


def _metrics(prefix: str, names: Sequence[str]) -> Config:
    return {
        f"{prefix}_{name}": {
            "_target_": "IgniteMetricHandler",
            "loss_fn": METRICS[name],
            "output_transform": OUTPUT,
        }
        for name in names
    }


def _discrete(keys_argmax: bool = True) -> Config:
    return {
        "_target_": "AsDiscreted",
        "keys": ["pred", "label"],
        "argmax": [keys_argmax, False],
        "to_onehot": "@num_classes",
    }


def _network(plan: Plan, spec: BundleSpec) -> Config:
    """Return the network; a single one with its channels and classes taken from the top of the configuration.

    An ensemble is trained as one network, so that its checkpoint fits all configurations of the bundle.
    """
    found = network(plan, len(spec.channels), len(spec.classes) + 1, spec.members)
    if spec.members == 1:
        first, last = ("into", "out_of") if "into" in found else ("network_def", "network_def")
        found[first] = found[first] | {"in_channels": "@num_channels"}
        found[last] = found[last] | {"out_channels": "@num_classes"}
    return found


def _common(plan: Plan, spec: BundleSpec) -> Config:
    several = spec.several_files
    return {
        "imports": TRAINING_IMPORTS,
        "bundle_root": ".",
        "dataset_dir": ".",
        "output_dir": EVALUATION,
        "ckpt_path": MODEL_FILE,
        "device": DEVICE,
        "seed": 0,
        "fold": 0,
        "folds": 5,
        "num_channels": len(spec.channels),
        "num_classes": len(spec.classes) + 1,
        "spacing_mm": list(plan.spacing_mm),
        "patch": list(plan.patch),
        "window": "@patch" if spec.patch == plan.patch else list(spec.patch),
        "images": FIRST_CHANNELS if several else IMAGES,
        "data": CHANNEL_DATA if several else DATA,
        "validation_data": VALIDATION,
        "is_not_rank0": NOT_FIRST,
        **_network(plan, spec),
        "network": NETWORK,
    }


def _sliding(spec: BundleSpec) -> Config:
    return inferer(spec) | {"roi_size": "@window"}


def _dataloader(dataset: str, batch_size: object, shuffle: bool) -> Config:
    return {
        "_target_": "DataLoader",
        "dataset": dataset,
        "batch_size": batch_size,
        "shuffle": shuffle,
        "num_workers": "@num_workers",
    }


def _cached(data: str, transform: str) -> Config:
    return {
        "_target_": "CacheDataset",
        "data": data,
        "transform": transform,
        "cache_rate": "@cache_rate",
        "num_workers": 1,
        "progress": False,
    }


def _spaced(steps: list[Config]) -> list[Config]:
    """Return transforms with the spacing taken from the top of the configuration."""
    return [step | {"pixdim": "@spacing_mm"} if step["_target_"] == "Spacingd" else step for step in steps]


def training(plan: Plan, spec: BundleSpec, loss: str, arguments: Config) -> Config:
    """Return ``configs/train.json``; the trained network replaces the weights at ``ckpt_path``."""
    values = [0, *spec.classes]
    random: list[Config] = [
        {"_target_": "SpatialPadd", "keys": ["image", "label"], "spatial_size": "@patch"},
        {
            "_target_": "RandCropByLabelClassesd",
            "keys": ["image", "label"],
            "label_key": "label",
            "spatial_size": "@patch",
            "num_classes": "@num_classes",
            "num_samples": "@patches_per_case",
            "warn": False,
        },
        {
            "_target_": "RandAffined",
            "keys": ["image", "label"],
            "prob": 0.5,
            "rotate_range": [0.26, 0.26, 0.26],
            "scale_range": [0.15, 0.15, 0.15],
            "mode": ["bilinear", "nearest"],
            "padding_mode": "zeros",
        },
        {"_target_": "RandGaussianNoised", "keys": "image", "prob": 0.2, "std": 0.1},
        {"_target_": "RandGaussianSmoothd", "keys": "image", "prob": 0.2},
        {"_target_": "RandScaleIntensityd", "keys": "image", "prob": 0.5, "factors": 0.25},
        {"_target_": "RandShiftIntensityd", "keys": "image", "prob": 0.5, "offsets": 0.2},
    ]
    train: Config = {
        "deterministic": _spaced(loading(plan, ["image", "label"], values)),
        "random": random,
        "preprocessing": {"_target_": "Compose", "transforms": "$@train::deterministic + @train::random"},
        "dataset": _cached("@training_data", "@train::preprocessing"),
        "dataloader": _dataloader("@train::dataset", "@batch_size", True),
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {"_target_": "Compose", "transforms": [_discrete()]},
        "key_metric": _metrics("train", ["dice"]),
        "additional_metrics": {"train_mean_loss": {"_target_": "ignite.metrics.Average", "output_transform": LOSS}},
        "handlers": [
            {"_target_": "LrScheduleHandler", "lr_scheduler": "@lr_scheduler", "print_lr": False},
            {"_target_": "ValidationHandler", "validator": "@validate::evaluator", "interval": "@val_interval"},
            {
                "_target_": "StatsHandler",
                "_disabled_": "@is_not_rank0",
                "tag_name": "train_loss",
                "output_transform": LOSS,
                "iteration_log": False,
            },
            {
                "_target_": "CheckpointSaver",
                "_disabled_": "@is_not_rank0",
                "save_dir": CHECKPOINT_FOLDER,
                "save_dict": {"model": "@network"},
                "save_final": True,
                "final_filename": CHECKPOINT_NAME,
            },
        ],
        "trainer": {
            "_target_": "SupervisedTrainer",
            "max_epochs": 100,
            "device": "@device",
            "train_data_loader": "@train::dataloader",
            "network": "@network",
            "optimizer": "@optimizer",
            "loss_function": "@loss",
            "inferer": "@train::inferer",
            "postprocessing": "@train::postprocessing",
            "key_train_metric": "@train::key_metric",
            "additional_metrics": "@train::additional_metrics",
            "train_handlers": "@train::handlers",
            "amp": "$torch.cuda.is_available()",
        },
    }
    validate: Config = {
        "preprocessing": {"_target_": "Compose", "transforms": "@train::deterministic"},
        "dataset": _cached("@validation_data", "@validate::preprocessing"),
        "dataloader": _dataloader("@validate::dataset", 1, False),
        "inferer": _sliding(spec),
        "postprocessing": {"_target_": "Compose", "transforms": [_discrete()]},
        "key_metric": _metrics("val", ["dice"]),
        "additional_metrics": _metrics("val", ["hausdorff_mm", "hausdorff95_mm"]),
        "handlers": [
            {"_target_": "StatsHandler", "_disabled_": "@is_not_rank0", "iteration_log": False},
            _metrics_saver("val"),
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@validate::dataloader",
            "network": "@network",
            "inferer": "@validate::inferer",
            "postprocessing": "@validate::postprocessing",
            "key_val_metric": "@validate::key_metric",
            "additional_metrics": "@validate::additional_metrics",
            "val_handlers": "@validate::handlers",
            "amp": "$torch.cuda.is_available()",
        },
    }
    return _common(plan, spec) | {
        "learning_rate": 0.001,
        "val_interval": 5,
        "batch_size": 1,
        "patches_per_case": spec.batch,
        "cache_rate": 1.0,
        "num_workers": 0,
        "training_data": TRAINING,
        "loss_name": loss,
        **({"class_weights": [1.0] * len(values)} if "weighted" in loss else {}),
        "loss": loss_config(loss, arguments),
        "optimizer": {
            "_target_": "torch.optim.AdamW",
            "params": "$@network.parameters()",
            "lr": "@learning_rate",
            "weight_decay": 0.01,
        },
        "lr_scheduler": {
            "_target_": "torch.optim.lr_scheduler.CosineAnnealingLR",
            "optimizer": "@optimizer",
            "T_max": "@train::trainer::max_epochs",
        },
        "train": train,
        "validate": validate,
        "initialize": [LOGGING, "$monai.utils.set_determinism(seed=@seed)"],
        "run": ["$@train::trainer.run()"],
    }


def _metrics_saver(prefix: str) -> Config:
    # For all processes: it gathers the names of cases from each and writes on the first alone.
    names = [f"{prefix}_{name}" for name in METRICS]
    return {
        "_target_": "MetricsSaver",
        "save_dir": "@output_dir",
        "metrics": names,
        "metric_details": names,
        "batch_transform": META,
        "summary_ops": "*",
    }


def evaluation(plan: Plan, spec: BundleSpec) -> Config:
    """Return ``configs/evaluate.json``: the network at ``ckpt_path`` on labelled cases, on their own grids."""
    common = _common(plan, spec)
    values = [0, *spec.classes]
    label: list[Config] = [
        {"_target_": "LoadImaged", "keys": "label", "reader": "NibabelReader", "image_only": True},
        {"_target_": "EnsureChannelFirstd", "keys": "label"},
    ]
    if values != list(range(len(values))):
        label.append(
            {
                "_target_": "MapLabelValued",
                "keys": "label",
                "orig_labels": values,
                "target_labels": list(range(len(values))),
            }
        )
    restore: list[Config] = [
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": False,
            "to_tensor": True,
        },
        _discrete(),
    ]
    return common | {
        "num_workers": 0,
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [*_spaced(loading(plan, ["image"])), *label],
        },
        "dataset": {"_target_": "Dataset", "data": "@validation_data", "transform": "@preprocessing"},
        "dataloader": _dataloader("@dataset", 1, False),
        "inferer": _sliding(spec),
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "Activationsd", "keys": "pred", "softmax": True}, *restore],
        },
        "key_metric": _metrics("val", ["dice"]),
        "additional_metrics": _metrics("val", ["hausdorff_mm", "hausdorff95_mm"]),
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": CHECKPOINT,
                "load_dict": {"model": "@network"},
                "map_location": "@device",
            },
            {"_target_": "StatsHandler", "_disabled_": "@is_not_rank0", "iteration_log": False},
            _metrics_saver("val"),
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "key_val_metric": "@key_metric",
            "additional_metrics": "@additional_metrics",
            "val_handlers": "@handlers",
            "amp": False,
        },
        "initialize": [LOGGING],
        "run": [RUN],
    }


def multi_gpu() -> Config:
    """Return ``configs/multi_gpu_train.json``, merged over ``train.json`` under torchrun; gloo without GPUs."""

    def sampler(part: str, train: bool) -> Config:
        return {
            "_target_": "DistributedSampler",
            "dataset": f"@{part}::dataset",
            "even_divisible": train,
            "shuffle": train,
        }

    return {
        "imports": [*TRAINING_IMPORTS, "$import ignite"],
        "device": "$torch.device('cuda', int(os.environ['LOCAL_RANK'])) if torch.cuda.is_available() "
        "else torch.device('cpu')",
        "network": {
            "_target_": "torch.nn.parallel.DistributedDataParallel",
            "module": NETWORK,
            "device_ids": "$[@device] if torch.cuda.is_available() else None",
        },
        "train::sampler": sampler("train", True),
        "train::dataloader::sampler": "@train::sampler",
        "train::dataloader::shuffle": False,
        "validate::sampler": sampler("validate", False),
        "validate::dataloader::sampler": "@validate::sampler",
        "initialize": [
            LOGGING,
            "$torch.distributed.is_initialized() or torch.distributed.init_process_group("
            "backend='nccl' if torch.cuda.is_available() else 'gloo')",
            # The first question to Ignite is one that all processes must ask together, lest they wait for ever.
            "$ignite.distributed.get_world_size()",
            "$torch.cuda.is_available() and torch.cuda.set_device(@device)",
            "$monai.utils.set_determinism(seed=@seed + torch.distributed.get_rank())",
        ],
        "finalize": ["$torch.distributed.is_initialized() and torch.distributed.destroy_process_group()"],
    }


def tracking() -> Config:
    """Return ``configs/tracking_mlflow.json``: runs named by loss, seed and fold, closed at their end."""
    shared: Config = {
        "_target_": "MLFlowHandler",
        "_disabled_": "@is_not_rank0",
        "tracking_uri": "@tracking_uri",
        "experiment_name": "@experiment_name",
        "run_name": "@run_name",
        "iteration_log": False,
    }
    return {
        "handlers_id": {
            "trainer": {"id": "train#trainer", "handlers": "train#handlers"},
            "validator": {"id": "validate#evaluator", "handlers": "validate#handlers"},
            "evaluator": {"id": "evaluator", "handlers": "handlers"},
        },
        "configs": {
            "tracking_uri": "$monai.utils.path_to_sqlite_uri(@output_dir + '/mlruns.db')",
            "experiment_name": "segmentation_3d",
            "loss_name": "evaluation",
            "learning_rate": 0.0,
            "run_name": "$'%s s%d f%d %s' % (@loss_name, @seed, @fold, time.strftime('%Y-%m-%d %H:%M:%S'))",
            "run_settings": {
                "loss": "@loss_name",
                "learning_rate": "@learning_rate",
                "seed": "@seed",
                "fold": "@fold",
            },
            "save_execute_config": False,
            "trainer": shared
            | {
                "iteration_log": True,
                "tag_name": "train_loss",
                "output_transform": LOSS,
                "experiment_param": "@run_settings",
                "close_on_complete": True,
            },
            "validator": dict(shared),
            "evaluator": shared | {"experiment_param": "@run_settings", "close_on_complete": True},
        },
    }


def loss_override(loss: str) -> Config:
    """Return ``configs/loss_<name>.json``, merged over ``train.json``."""
    weights = {"class_weights": "$[1.0] * @num_classes"} if "weighted" in loss else {}
    return {"loss_name": loss, **weights, "loss": loss_config(loss, {})}


def own_loss(loss: str, arguments: dict[str, Any]) -> tuple[str, Config]:
    """Return the loss that ``train.json`` trains with: that of the study, or Dice + CE where MONAI lacks it."""
    return (loss, arguments) if loss in LOSSES else ("dice_ce", {})
