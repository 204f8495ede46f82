"""What an exporter states about a bundle, and the parts that its files are written from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from pipeline.bundle.largest_component import Cleaning
from pipeline.bundle.license import License, apache
from pipeline.bundle.metadata import UNSTATED
from pipeline.bundle.segment_codes import ClassCode


@dataclass(frozen=True, slots=True)
class Details:
    """What the exporter states beside the record of the study.

    `codes` are DICOM codes by class name and replace those that names lead to; `rules` are series rules and replace
    the one for the training data's size and spacing.
    """

    author: str = UNSTATED
    license: License = field(default_factory=apache)
    codes: Mapping[str, ClassCode] = field(default_factory=dict)
    rules: tuple[Mapping[str, Any], ...] | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """Weights by name, settings of the final training (empty for an ensemble of folds), and what is said of both."""

    weights: Mapping[str, torch.Tensor]
    training: Mapping[str, Any]
    cleaning: tuple[Cleaning, ...]
    version: str
    details: Details
