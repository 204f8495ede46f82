"""A tiny study with two classes (values 1 and 3), two spacings and a flipped axis, and the bundles made of it."""

import json
import shutil
import sys
import venv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

CASES = 4


def write_case(root: Path, name: str, seed: int, spacing=(1.0, 1.2, 1.5), flip=False) -> None:
    random = np.random.default_rng(seed)
    shape = (16, 14, 12)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    label = np.zeros(shape, np.uint8)
    label[np.linalg.norm(grid - (6, 7, 6), axis=-1) < 4] = 1
    label[np.linalg.norm(grid - (12, 7, 6), axis=-1) < 2.5] = 3
    image = (100 + 80.0 * (label == 1) + 160.0 * (label == 3) + 10 * random.standard_normal(shape)).astype(np.float32)
    affine = np.diag([-spacing[0] if flip else spacing[0], *spacing[1:], 1.0])
    affine[:3, 3] = (4, -7, 3)
    for folder, data in (("imagesTr", image), ("labelsTr", label)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(data, affine), root / folder / f"{name}.nii.gz")


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "balls"
    names = [f"case_{i}" for i in range(CASES)]
    for i, name in enumerate(names):
        write_case(root, name, i, spacing=(1.0, 1.2, 1.5) if i else (1.4, 1.0, 1.5), flip=i == 1)
    pairs = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]
    description = {
        "name": "balls",
        "licence": "CC0",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "ball", "3": "small ball"},
        "numTraining": CASES,
        "training": pairs,
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def tiny_request(dataset, out, **changes):
    """Train enough to leave no stray components: to remove them, MONAI alone would need scikit-image."""
    from pipeline.study.request import StudyRequest

    return StudyRequest(
        dataset=dataset, out=out, losses="dice_ce,weighted_ce", folds=2, budget="20steps", jobs=1,
        precision="float32", learning_rates=(0.02,), track=False, **changes,
    )  # fmt: skip


def run_and_report(request):
    from pipeline.report.build import build_report
    from pipeline.study.run import run_study

    study = run_study(request)
    build_report(study)
    return study


@pytest.fixture(scope="session")
def tiny_study(tiny_dataset, tmp_path_factory):
    return run_and_report(tiny_request(tiny_dataset, tmp_path_factory.mktemp("study") / "study"))


@pytest.fixture(scope="session")
def bundle(tiny_study, tmp_path_factory):
    """The recommended loss after a final training."""
    from pipeline.bundle.export import export_bundle
    from pipeline.bundle.source import read_source

    out = tmp_path_factory.mktemp("bundle") / "final"
    export_bundle(read_source(tiny_study, "auto"), out, name="balls")
    return out


@pytest.fixture(scope="session")
def ensemble(tiny_study, tmp_path_factory):
    """Both folds of dice_ce as one network."""
    from pipeline.bundle.export import export_bundle
    from pipeline.bundle.source import read_source

    out = tmp_path_factory.mktemp("bundle") / "folds"
    export_bundle(read_source(tiny_study, "dice_ce"), out, origin="folds")
    return out


PACKAGES = (
    "monai", "ignite", "pytorch_ignite", "nibabel", "torch", "functorch", "torchgen", "numpy", "numpy.libs", "fire",
    "termcolor", "jsonschema", "jsonschema_specifications", "referencing", "rpds", "rpds_py", "attr", "attrs",
    "typing_extensions", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "filelock", "fsspec", "packaging",
    "importlib_resources", "setuptools", "nvidia", "triton",
)  # fmt: skip


@pytest.fixture(scope="session")
def python_without_pipeline(tmp_path_factory):
    """A real virtual environment with MONAI, Ignite, nibabel, torch, fire and jsonschema, and nothing of ours."""
    root = tmp_path_factory.mktemp("venv") / "monai_only"
    venv.EnvBuilder(with_pip=False, symlinks=True).create(root)
    target = root / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    source = Path(np.__file__).parents[1]
    for entry in source.iterdir():
        name = entry.name.lower()
        stem = name.removesuffix(".py").split("-")[0] if name.endswith((".dist-info", ".py")) else name
        if stem in PACKAGES:
            (target / entry.name).symlink_to(entry)
    return root / "bin" / "python"


@pytest.fixture
def copied(bundle, tmp_path):
    """A copy of the final bundle to change."""
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))
