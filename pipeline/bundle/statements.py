"""Statements of an exporter about a bundle, and the parts that its files are written from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from pipeline.bundle.largest_component import LargestComponentEffect
from pipeline.bundle.license import License, apache
from pipeline.bundle.metadata import UNSTATED
from pipeline.bundle.segment_codes import ClassCode
from pipeline.bundle.specification import SeriesRule
from pipeline.bundle.weights import FinalTraining


@dataclass(frozen=True, slots=True)
class Statements:
    """Statements of the exporter that the record of the study does not contain.

    Attributes
    ----------
    author, license
        Author and copyright holder, and license of the bundle.
    codes
        DICOM codes by class name; they replace those that follow from the names.
    rules
        Series rules, in the syntax of `pipeline.inference.dicom.rules`; None for the default rule, which accepts
        series of the size and spacing of the training data.
    """

    author: str = UNSTATED
    license: License = field(default_factory=apache)
    codes: Mapping[str, ClassCode] = field(default_factory=dict)
    rules: tuple[SeriesRule, ...] | None = None


@dataclass(frozen=True, slots=True)
class BundleParts:
    """Parts of a bundle that do not follow from its specification.

    Attributes
    ----------
    weights
        Weights of the network by name.
    training
        Settings of the final training; None for an ensemble of folds.
    effects
        Effect of keeping the largest component, for each class.
    version
        Version of the bundle.
    statements
        Statements of the exporter.
    """

    weights: Mapping[str, torch.Tensor]
    training: FinalTraining | None
    effects: tuple[LargestComponentEffect, ...]
    version: str
    statements: Statements
