"""A bundle with random weights, written without a study: as `whichloss export` writes it, in a second."""

import torch

from pipeline.bundle.configurations import configurations
from pipeline.bundle.manifest import write_manifest
from pipeline.bundle.metadata import Description, metadata
from pipeline.bundle.model import load_model
from pipeline.bundle.model_settings import make_settings
from pipeline.bundle.named_network import exportable_network
from pipeline.bundle.segment_codes import default_segments
from pipeline.bundle.specification import BundleSpec, TrainingRanges
from pipeline.bundle.testvector import write_expected, write_input
from pipeline.data.plan import Plan
from pipeline.network.architecture import PLAN_NETWORK, build_network
from pipeline.network.patch_fitting import fit_patch
from pipeline.system.files import write_json, write_text

CLASSES = {1: "anterior", 3: "posterior"}
PLAN = Plan(
    spacing_mm=(1.0, 1.0, 1.5), patch=(16, 16, 16), batch=2, normalisation=("zscore",), intensity_range=((0.0, 1.0),),
    intensity_mean=(0.0,), intensity_std=(1.0,), channels=(4, 8, 8), strides=((2, 2, 2),) * 2, tolerance_mm=1.0,
    metrics=("dice",), reasons={},
)  # fmt: skip
RULES = ({"name": "MR", "conditions": {"Modality": "MR"}},)


def write_untrained(root, loss="dice_ce", keep_largest=(), class_weights=(), network=PLAN_NETWORK):
    plan = fit_patch(PLAN, network, 1, len(CLASSES) + 1)
    named = exportable_network(network, plan, 1, len(CLASSES) + 1)
    recipe = make_settings(plan, loss, {}, keep_largest=keep_largest, class_weights=class_weights, network=named)
    spec = BundleSpec(
        name="untrained", channels=("T1",), classes=CLASSES, several_files=False, spacing_mm=PLAN.spacing_mm,
        patch=plan.inference_window, overlap=0.25, batch=PLAN.batch, precision="float32", members=1,
        fingerprint=TrainingRanges(cases=4, spacing_mm=((1, 1),) * 3, shape=((16, 16),) * 3, intensity=((0.0, 200.0),)),
        segments=default_segments(CLASSES), series_rules=RULES,
        recipe=recipe,
    )  # fmt: skip
    description = Description("untrained", "1.0.0", task="test", description="untrained", data_source="none")
    content = metadata(spec, recipe, description) | {"segloss": spec.model_dump(mode="json")}
    for name, config in (configurations(spec, recipe) | {"metadata": content}).items():
        write_json(root / "configs" / f"{name}.json", config)
    weights = build_network(plan, 1, len(CLASSES) + 1, 0, 0, network).state_dict()
    # Scaled so that the classes differ by as much as those of a trained network.
    weights = {
        name: (3 * tensor if name.startswith("output_block") else tensor).clone() for name, tensor in weights.items()
    }
    (root / "models").mkdir()
    torch.save(weights, root / "models" / "model.pt")
    write_text(root / "docs" / "README.md", "# untrained 1.0.0\n\nNo card.\n")
    inputs = write_input(root, spec)
    write_manifest(root, spec.name, "1.0.0")
    write_expected(root, load_model(root), inputs)
    write_manifest(root, spec.name, "1.0.0")
    return root
