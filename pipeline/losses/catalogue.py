"""What there is to know of each loss without building it: formula, gradient, source, advice.

Notation: p is the predicted probability of a class at a voxel, t its truth (0 or 1), z the logit, w a class weight,
sums run over voxels. "∂z" is the gradient with respect to the logit of one voxel, "∂p" with respect to its probability.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LossEntry:
    """One row of ``segloss losses``."""

    name: str
    formula: str
    gradient: str
    reference: str
    advice: str


_ENTRIES = (
    LossEntry(
        "ce",
        "-mean log p(true class)",
        "∂z = p - t: bounded, never larger than 1 a voxel",
        "Ronneberger et al. 2015, arXiv:1505.04597",
        "The simplest; smooth curves and calibrated probabilities. May drown small structures in background.",
    ),
    LossEntry(
        "weighted_ce",
        "-Σ w(true class) log p(true class) / Σ w",
        "∂z = w (p - t) / Σ w: as cross entropy, scaled by class",
        "Ronneberger et al. 2015, arXiv:1505.04597; weights: Cui et al. 2019, arXiv:1901.05555",
        "Imbalance without the noise of overlap losses; extreme weights over-segment or collapse, so they are capped.",
    ),
    LossEntry(
        "dice",
        "1 - 2 Σpt / (Σp + Σt)",
        "∂p = -2 (t Σ(p+t) - Σpt) / (Σp + Σt)²: below 2, and as 1/n for a structure of n voxels",
        "Drozdzal et al. 2016, arXiv:1608.04117",
        "Optimises overlap itself and copes with imbalance; noisy curves, over-confident probabilities.",
    ),
    LossEntry(
        "dice_squared",
        "1 - 2 Σpt / (Σp² + Σt²)",
        "∂p = -2 (t Σ(p²+t²) - 2p Σpt) / (Σp² + Σt²)²: as dice, flatter near p = t",
        "Milletari et al. 2016 (V-Net), arXiv:1606.04797",
        "V-Net's form; slower start where p is small, since its gradient falls with t(t² - p²).",
    ),
    LossEntry(
        "dice_ce",
        "dice + ce",
        "sum of both: cross entropy's p - t keeps it tame where Dice is flat or wild",
        "Isensee et al. 2021 (nnU-Net), 10.1038/s41592-020-01008-z",
        "The usual default of strong baselines.",
    ),
    LossEntry(
        "dice_weighted_ce",
        "dice + weighted_ce",
        "sum of both",
        "Ma et al. 2021 (Loss odyssey), 10.1016/j.media.2021.102035",
        "As dice_ce, where a class is rare enough for weights to matter.",
    ),
    LossEntry(
        "jaccard",
        "1 - Σpt / (Σp + Σt - Σpt)",
        "as dice, steeper for small overlap",
        "Rahman and Wang 2016, 10.1007/978-3-319-50835-1_22",
        "Ranks like dice; punishes poor overlap more.",
    ),
    LossEntry(
        "generalized_dice",
        "1 - 2 Σ_c w_c Σpt / Σ_c w_c Σ(p+t), w_c = 1/(Σt)²",
        "as dice, shared over classes; dominated by the rarest",
        "Sudre et al. 2017, arXiv:1707.03237",
        "Many classes of very different size; includes the background, else it is 0 on patches without foreground.",
    ),
    LossEntry(
        "focal",
        "-mean (1 - p)^γ log p(true class), γ = 2",
        "cross entropy's, damped by (1 - p)^γ where the voxel is easy",
        "Lin et al. 2017, arXiv:1708.02002",
        "Many easy background voxels; learns slowly on short budgets.",
    ),
    LossEntry(
        "dice_focal",
        "dice + focal",
        "sum of both",
        "Zhu et al. 2019 (AnatomyNet), 10.1002/mp.13300",
        "Small structures among large ones.",
    ),
    LossEntry(
        "tversky",
        "1 - Σpt / (Σpt + α Σp(1-t) + β Σ(1-p)t), α = 0.3, β = 0.7",
        "as dice, false negatives weigh β/α times as much",
        "Salehi et al. 2017, arXiv:1706.05721",
        "When missing a lesion is worse than a false alarm.",
    ),
    LossEntry(
        "focal_tversky",
        "(1 - tversky)^(1/γ), γ = 4/3",
        "tversky's, raised for classes already well segmented",
        "Abraham and Khan 2019, arXiv:1810.07842",
        "Small lesions; a further parameter to choose.",
    ),
    LossEntry(
        "topk_ce",
        "mean of the 10 % largest cross entropies",
        "∂z = p - t on the hardest voxels, 0 elsewhere",
        "Wu et al. 2016, arXiv:1605.06885",
        "Cross entropy that ignores easy background; sensitive to wrong labels.",
    ),
    LossEntry(
        "dice_topk",
        "dice + topk_ce",
        "sum of both",
        "Ma et al. 2021 (Loss odyssey), 10.1016/j.media.2021.102035",
        "Among the steadiest of the public comparison of 20 losses.",
    ),
    LossEntry(
        "log_cosh_dice",
        "log cosh(dice)",
        "dice's, times tanh(dice): fades as overlap nears 1",
        "Jadon 2020, arXiv:2006.14822",
        "A calmer end of training than plain Dice.",
    ),
    LossEntry(
        "lovasz",
        "convex extension of 1 - Jaccard over sorted errors",
        "bounded; largest on the worst errors of each class",
        "Berman et al. 2018, arXiv:1705.08790",
        "Direct optimisation of IoU; often used to fine-tune.",
    ),
    LossEntry(
        "hausdorff_dt",
        "mean (p - t)² (d_p² + d_t²), d distance to the boundary in voxels",
        "grows with the distance of an error from the boundary",
        "Karimi and Salcudean 2019, arXiv:1904.10030",
        "Far-off false positives; slow, and unstable alone from a random start.",
    ),
    LossEntry(
        "dice_hausdorff",
        "dice + 0.1 log(1 + hausdorff_dt)",
        "sum of both",
        "Karimi and Salcudean 2019, arXiv:1904.10030",
        "Surface distance matters as much as overlap; slower a step.",
    ),
    LossEntry(
        "boundary",
        "(1 - a) dice + a mean(p · signed distance), a from 0.01 to 0.5",
        "signed distance to the true boundary: tame and far-sighted",
        "Kervadec et al. 2019, arXiv:1812.07032",
        "Strong imbalance; slower a step.",
    ),
    LossEntry(
        "unified_focal",
        "½ asymmetric focal + ½ asymmetric focal Tversky",
        "focal on background only, focal Tversky on foreground",
        "Yeung et al. 2022, 10.1016/j.compmedimag.2021.102026",
        "Strong imbalance; several parameters.",
    ),
    LossEntry(
        "mcc",
        "1 - Matthews correlation of p and t",
        "includes true negatives; bounded away from trivial masks",
        "Abhishek and Hamarneh 2021, arXiv:2010.13454",
        "When specificity matters as well as overlap.",
    ),
)

CATALOGUE: dict[str, LossEntry] = {entry.name: entry for entry in _ENTRIES}


def formula_of(name: str) -> str:
    """Return the formula of a loss of the catalogue, empty for a custom one."""
    return CATALOGUE[name].formula if name in CATALOGUE else ""
