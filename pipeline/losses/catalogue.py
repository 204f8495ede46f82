"""The reference of all losses: formula, gradient, source and advice, readable without building a loss.

Notation: p is the predicted probability of a class at a voxel, t its truth (0 or 1), z the logit and w a class weight;
sums run over voxels. "∂z" is the gradient with respect to the logit of one voxel, "∂p" with respect to its probability.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LossEntry:
    """One row of ``whichloss losses``.

    Attributes
    ----------
    name
        Name in ``--losses``.
    formula
        The loss, in the notation of this module.
    gradient
        The gradient with respect to logit or probability, and its behavior.
    reference
        Authors, year and arXiv number or DOI.
    advice
        When to use the loss, and its drawbacks.
    """

    name: str
    formula: str
    gradient: str
    reference: str
    advice: str


_ENTRIES = (
    LossEntry(
        "ce",
        "-mean log p(true class)",
        "∂z = p - t: bounded by 1 per voxel",
        "Ronneberger et al. 2015, arXiv:1505.04597",
        "The simplest loss, with smooth curves and calibrated probabilities. Small structures may drown in background.",
    ),
    LossEntry(
        "weighted_ce",
        "-Σ w(true class) log p(true class) / Σ w",
        "∂z = w (p - t) / Σ w: cross entropy's, scaled per class",
        "Ronneberger et al. 2015, arXiv:1505.04597; weights: Cui et al. 2019, arXiv:1901.05555",
        "For imbalanced classes, without the noise of overlap losses. Extreme weights over-segment or make training "
        "collapse, so weights are capped.",
    ),
    LossEntry(
        "dice",
        "1 - 2 Σpt / (Σp + Σt)",
        "∂p = -2 (t Σ(p+t) - Σpt) / (Σp + Σt)²: at most 2 in size; falls as 1/n for a structure of n voxels",
        "Drozdzal et al. 2016, arXiv:1608.04117",
        "Optimizes overlap itself and copes with imbalance. Its curves are noisy and its probabilities over-confident.",
    ),
    LossEntry(
        "dice_squared",
        "1 - 2 Σpt / (Σp² + Σt²)",
        "∂p = -2 (t Σ(p²+t²) - 2p Σpt) / (Σp² + Σt²)²: like dice, but flat near p = t",
        "Milletari et al. 2016 (V-Net), arXiv:1606.04797",
        "V-Net's form of Dice. It changes little near p = t, since its gradient is proportional to t (t² - p²).",
    ),
    LossEntry(
        "dice_ce",
        "dice + ce",
        "sum of both: cross entropy contributes p - t where the gradient of Dice is small",
        "Isensee et al. 2021 (nnU-Net), 10.1038/s41592-020-01008-z",
        "The default of strong baselines such as nnU-Net.",
    ),
    LossEntry(
        "dice_weighted_ce",
        "dice + weighted_ce",
        "sum of both",
        "Ma et al. 2021 (Loss odyssey), 10.1016/j.media.2021.102035",
        "Like dice_ce, for classes that are rare enough for weights to matter.",
    ),
    LossEntry(
        "jaccard",
        "1 - Σpt / (Σp + Σt - Σpt)",
        "like dice, but steeper for small overlap",
        "Rahman and Wang 2016, 10.1007/978-3-319-50835-1_22",
        "Has the same optimum as dice; penalizes poor overlap more.",
    ),
    LossEntry(
        "generalized_dice",
        "1 - 2 Σ_c w_c Σpt / Σ_c w_c Σ(p+t), w_c = 1/(Σt)²",
        "like dice, but shared by all classes; the rarest class dominates",
        "Sudre et al. 2017, arXiv:1707.03237",
        "For many classes of very different size. It includes the background; otherwise it would be 0 on "
        "patches without foreground.",
    ),
    LossEntry(
        "focal",
        "-mean (1 - p)^γ log p(true class), γ = 2",
        "cross entropy's, damped at easy voxels by about (1 - p)^γ",
        "Lin et al. 2017, arXiv:1708.02002",
        "For many easy background voxels. It learns slowly on short budgets.",
    ),
    LossEntry(
        "dice_focal",
        "dice + focal",
        "sum of both",
        "Zhu et al. 2019 (AnatomyNet), 10.1002/mp.13300",
        "For small structures among large ones.",
    ),
    LossEntry(
        "tversky",
        "1 - Σpt / (Σpt + α Σp(1-t) + β Σ(1-p)t), α = 0.3, β = 0.7",
        "like dice, but false negatives weigh β/α times as much as false positives",
        "Salehi et al. 2017, arXiv:1706.05721",
        "For tasks in which a missed lesion is worse than a false alarm.",
    ),
    LossEntry(
        "focal_tversky",
        "(1 - tversky)^(1/γ), γ = 4/3",
        "tversky's, increased for classes that are segmented well",
        "Abraham and Khan 2019, arXiv:1810.07842",
        "For small lesions. It adds a parameter to choose.",
    ),
    LossEntry(
        "topk_ce",
        "mean of the 10 % largest cross entropies",
        "∂z = p - t on the hardest voxels, 0 elsewhere",
        "Wu et al. 2016, arXiv:1605.06885",
        "Cross entropy that ignores easy background. It is sensitive to wrong labels.",
    ),
    LossEntry(
        "dice_topk",
        "dice + topk_ce",
        "sum of both",
        "Ma et al. 2021 (Loss odyssey), 10.1016/j.media.2021.102035",
        "Among the most robust losses in the public comparison of 20 losses by Ma et al.",
    ),
    LossEntry(
        "log_cosh_dice",
        "log cosh(dice)",
        "dice's, times tanh(dice): vanishes as the overlap approaches 1",
        "Jadon 2020, arXiv:2006.14822",
        "For smaller steps at the end of a training than with dice.",
    ),
    LossEntry(
        "lovasz",
        "convex extension of 1 - Jaccard over sorted errors",
        "bounded; largest on the worst errors of each class",
        "Berman et al. 2018, arXiv:1705.08790",
        "Optimizes the Jaccard index (IoU) directly; often used for fine-tuning.",
    ),
    LossEntry(
        "hausdorff_dt",
        "mean (p - t)² (d_p² + d_t²), d distance to the boundary in voxels",
        "grows with the distance of an error from the boundary",
        "Karimi and Salcudean 2019, arXiv:1904.10030",
        "For false positives far from the structure. It is slow, and unstable when trained alone from random weights.",
    ),
    LossEntry(
        "dice_hausdorff",
        "dice + 0.1 log(1 + hausdorff_dt)",
        "sum of both",
        "Karimi and Salcudean 2019, arXiv:1904.10030",
        "For tasks in which surface distance matters as much as overlap. Each step is slower.",
    ),
    LossEntry(
        "boundary",
        "(1 - a) dice + a mean(p · signed distance), a from 0.01 to 0.5",
        "signed distance to the true boundary: bounded, and not zero far from it",
        "Kervadec et al. 2019, arXiv:1812.07032",
        "For strong imbalance. Each step is slower.",
    ),
    LossEntry(
        "unified_focal",
        "½ asymmetric focal + ½ asymmetric focal Tversky",
        "focal damping on background only, focal Tversky enhancement on foreground",
        "Yeung et al. 2022, 10.1016/j.compmedimag.2021.102026",
        "For strong imbalance. It has several parameters.",
    ),
    LossEntry(
        "mcc",
        "1 - Matthews correlation of p and t",
        "includes true negatives; bounded away from trivial masks",
        "Abhishek and Hamarneh 2021, arXiv:2010.13454",
        "For tasks in which specificity matters as well as overlap.",
    ),
)

CATALOGUE: dict[str, LossEntry] = {entry.name: entry for entry in _ENTRIES}
"""All losses by name, in the order of ``whichloss losses``."""

USES_POSITIONS = frozenset({"hausdorff_dt", "dice_hausdorff", "boundary"})
"""Losses that depend on where voxels lie, not only on their logits and labels. They need labels for whole patches."""

USES_CLASS_VOXELS = frozenset({"weighted_ce", "dice_weighted_ce"})
"""Losses that compute weights from the voxels of each class, unless weights are given."""


def formula_of(name: str) -> str:
    """Return the formula of a loss of the catalogue, or an empty text for a custom class.

    Examples
    --------
    >>> from pipeline.losses.catalogue import formula_of
    >>> formula_of("dice_ce"), formula_of("my.module:MyLoss")
    ('dice + ce', '')
    """
    return CATALOGUE[name].formula if name in CATALOGUE else ""
