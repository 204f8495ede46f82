"""A training needs nnU-Net, MONAI, pydantic and PyYAML only, as docs/how-to/nnunet.md says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import importlib.abc, json, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is not installed in this environment", name=name)

BLOCKED = set(json.loads(sys.argv[1]))
sys.meta_path.insert(0, Blocker())
"""

OF_SEGLOSS = (
    "filelock", "fire", "highdicom", "ignite", "jinja2", "jsonschema", "mlflow", "openjpeg", "psutil",
    "pydicom", "gdcm", "jpeg_ls", "pylibjpeg", "ray", "rich", "safetensors", "typer",
)  # fmt: skip
"""Dependencies of segloss that neither nnU-Net nor the losses need."""

OF_NNUNET = (
    "nnunetv2", "batchgenerators", "batchgeneratorsv2", "cc3d", "dynamic_network_architectures", "matplotlib",
    "nibabel", "pandas", "skimage",
)  # fmt: skip

LOSSES = """
import torch
from pipeline.losses import CATALOGUE, LossSpec
from pipeline.trainers.nnunet.loss_adapter import TargetFormat, adapted_loss
logits, target = torch.randn(1, 2, 8, 8, 8), torch.randint(0, 2, (1, 1, 8, 8, 8))
values = [float(adapted_loss(LossSpec(name), TargetFormat(((9, 1),)))(logits, target)) for name in CATALOGUE]
assert all(value == value for value in values)
"""

FOREIGN = """
parts = ("bundle", "cli", "comparison", "inference", "report", "study", "tracking", "training", "metrics")
print(sorted(name for name in sys.modules if name.startswith(tuple(f"pipeline.{part}" for part in parts))))
"""


def printed_by(program: str, blocked: tuple[str, ...]) -> str:
    command = [sys.executable, "-c", PROGRAM + program, json.dumps(blocked)]
    folder = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_all_losses_are_computed_without_other_packages() -> None:
    blocked = (*OF_SEGLOSS, *OF_NNUNET)
    assert printed_by(LOSSES + FOREIGN, blocked) == "[]"


def test_the_trainer_is_imported_without_other_packages() -> None:
    pytest.importorskip("nnunetv2", reason="nnU-Net is not installed")
    program = "from pipeline.trainers.nnunet.loss_trainer import LossTrainer\n" + LOSSES + FOREIGN
    assert printed_by(program, OF_SEGLOSS) == "[]"


def test_trainers_are_written_without_torch(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from pipeline.losses import parse_losses
from pipeline.trainers.nnunet.trainer_files import write_trainers
print(len(write_trainers(parse_losses("ce,dice"), [0], Path({str(tmp_path)!r}))))
"""
    assert printed_by(program, ("torch", "monai", "nnunetv2", "pandas")) == "2"
