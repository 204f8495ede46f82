"""The patch, the window and the batch that fit a network: their edges, and the memory of a training step."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.data.plan import Plan
from pipeline.data.planning import MINIMUM_BATCH, PATCH_VOXELS
from pipeline.errors import ConfigError
from pipeline.network.architecture import build_plan_network
from pipeline.network.cuda_graphs import capture_obstacle
from pipeline.network.named_network import build_named_network
from pipeline.network.network_arguments import Triple, has_fixed_size, levels_at_full_resolution, network_arguments
from pipeline.network.network_class import META, create_on_meta
from pipeline.network.network_spec import NetworkSpec
from pipeline.network.network_trial import Trial, try_module, try_network

MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
"""Edges of a patch are tried as multiples of these numbers of voxels, in this order."""

MAXIMUM_GROWTH = 2
"""A patch grows to at most this times its voxels, or to the largest patch of a plan."""


@dataclass(frozen=True, slots=True)
class _Request:
    """A network, and the channels and classes of its dataset."""

    spec: NetworkSpec
    in_channels: int
    classes: int

    def trial(self, plan: Plan, patch: Triple, batch: int) -> Trial:
        """Try a patch, which is also the input that the network is built for if it has a fixed one."""
        arguments = network_arguments(self.spec, replace(plan, patch=patch), self.in_channels, self.classes)
        return try_network(self.spec, arguments, (batch, self.in_channels, *patch), self.classes)


def fit_patch(plan: Plan, spec: NetworkSpec, in_channels: int, classes: int, memory_gib: float = 8.0) -> Plan:
    """Return the plan with a patch, a window and a batch that fit a network, and with the reasons for a change.

    The edges become the smallest multiples of 1, 2, 4 ... 64 voxels that the network accepts, which is tried. The batch
    and then the patch shrink until a training step takes at most `memory_gib`. That memory is computed: the tensors
    that autograd saves in float32, and the weights with their gradients, averages and states of the optimizer.

    The plan has no stem, since the network leads from voxel to voxel; its levels are those at full resolution.

    Parameters
    ----------
    plan
        Plan of the dataset; it is returned unchanged for its own network.
    spec
        The network.
    in_channels
        Channels of the image.
    classes
        Classes, including the background.
    memory_gib
        Memory of one run.

    Raises
    ------
    ConfigError
        If the network cannot be built, accepts no patch of about this size, returns no logits, needs too much memory,
        or does not match its pretrained weights.
    """
    if spec.is_default:
        return plan
    request = _Request(spec, in_channels, classes)
    levels = levels_at_full_resolution(plan)
    fitted = replace(plan, stem=(1, 1, 1), channels=levels.features, strides=levels.strides)
    multiple, fitted, trial = _fit_edges(fitted, request)
    accepted = fitted.patch
    fitted, trial = _fit_memory(fitted, request, trial, multiple, memory_gib)
    window, window_reason = _fit_window(fitted, request, multiple)
    reasons = dict(plan.reasons)
    reasons["network"] = _network_reason(plan, fitted, request, trial)
    if fitted.patch != plan.patch:
        because = f"{spec.name} needs multiples of {multiple} voxels"
        if fitted.patch != accepted:
            because += f", and a training step may take {memory_gib:g} GiB"
        reasons["patch"] = f"{_edges(fitted.patch)} instead of {_edges(plan.patch)}: {because}"
    if fitted.batch != plan.batch:
        reasons["batch"] = f"{fitted.batch} instead of {plan.batch} patches, within {memory_gib:g} GiB"
    if window_reason:
        reasons["window"] = window_reason
    if spec.weights is not None:
        _, drawn = build_named_network(spec, fitted, in_channels, classes, seed=0)
        reasons["weights"] = f"{spec.weights}, except for {', '.join(drawn)}" if drawn else f"all from {spec.weights}"
    return replace(fitted, window=window, reasons=reasons)


def _fit_edges(plan: Plan, request: _Request) -> tuple[int, Plan, Trial]:
    """Return the multiple, the plan and the trial of the first patch that the network accepts."""
    first: Trial | None = None
    for multiple, patch in _candidates(plan.patch):
        trial = request.trial(plan, patch, plan.batch)
        if not trial.problem:
            return multiple, replace(plan, patch=patch), trial
        first = first or trial
        if not trial.depends_on_patch:
            break
    assert first is not None
    subject = f"--network {request.spec.text}"
    if trial.depends_on_patch:
        raise ConfigError(
            subject,
            f"does not accept a patch of {_edges(plan.patch)} voxels or about that: {first.problem}",
            "give a network or arguments for smaller volumes",
        )
    raise ConfigError(subject, trial.problem, "give a network that maps an image to logits of its shape")


def _candidates(patch: Triple) -> Iterator[tuple[int, Triple]]:
    """Yield multiples and patches to try: as it is, then rounded to multiples, to the nearest before upward.

    Networks that halve an axis to a single voxel fail to normalize it, so twice the multiple is tried too.

    Examples
    --------
    >>> list(_candidates((40, 56, 48)))[:4]
    [(1, (40, 56, 48)), (16, (48, 64, 48)), (32, (32, 64, 64)), (32, (64, 64, 64))]
    """
    limit = max(PATCH_VOXELS, MAXIMUM_GROWTH * math.prod(patch))
    seen = set()
    for multiple in MULTIPLES:
        nearest = [max(multiple, multiple * math.floor(edge / multiple + 0.5)) for edge in patch]
        upward = [multiple * math.ceil(edge / multiple) for edge in patch]
        longest = list(nearest)
        axis = patch.index(max(patch))
        longest[axis] = max(nearest[axis], 2 * multiple)
        for edges in (nearest, upward, longest, [max(edge, 2 * multiple) for edge in nearest]):
            candidate = (edges[0], edges[1], edges[2])
            if candidate not in seen and (candidate == patch or math.prod(candidate) <= limit):
                seen.add(candidate)
                yield multiple, candidate


def _fit_memory(plan: Plan, request: _Request, trial: Trial, multiple: int, memory_gib: float) -> tuple[Plan, Trial]:
    """Return the plan with a batch and a patch whose training step takes at most `memory_gib`, and its trial."""
    limit = memory_gib * 2**30
    while trial.step_bytes > limit:
        share = limit / trial.step_bytes
        smaller = replace(plan, batch=max(MINIMUM_BATCH, math.floor(plan.batch * share)))
        if smaller.batch >= plan.batch:
            smaller = replace(plan, patch=_smaller(plan.patch, multiple))
        smaller_trial = request.trial(smaller, smaller.patch, smaller.batch)
        if smaller == plan or smaller_trial.problem:
            raise ConfigError(
                f"--network {request.spec.text}",
                f"needs {trial.step_bytes / 2**30:.1f} GiB for a training step of {plan.batch} patches of "
                f"{_edges(plan.patch)} voxels, and {memory_gib:g} GiB are available",
                "give arguments for a smaller network, or fewer --jobs",
            )
        plan, trial = smaller, smaller_trial
    return plan, trial


def _smaller(patch: Triple, multiple: int) -> Triple:
    """Return the patch with its longest axes shorter by one multiple, but at least by an eighth."""
    longest = max(patch)
    step = multiple * max(1, round(longest / 8 / multiple))
    a, b, c = (edge - step if edge == longest and edge > step else edge for edge in patch)
    return a, b, c


def _fit_window(plan: Plan, request: _Request, multiple: int) -> tuple[Triple | None, str]:
    """Return the window of a plan in multiples that the network accepts, or None for its patch, and the reason."""
    if plan.window is None:
        return None, ""
    if has_fixed_size(request.spec):
        return None, f"the patch, since {request.spec.name} has one size of input"
    for at, window in _candidates(plan.window):
        if at >= multiple or window == plan.window:
            trial = request.trial(plan, window, 1)
            if not trial.problem:
                changed = window != plan.window
                return window, f"{_edges(window)} instead of {_edges(plan.window)}, which fits" if changed else ""
    return None, f"the patch, since {request.spec.name} accepts no window of about {_edges(plan.window)}"


def _network_reason(plan: Plan, fitted: Plan, request: _Request, trial: Trial) -> str:
    own = build_plan_network(plan, request.in_channels, request.classes).to(META)
    usual = try_module(own, (plan.batch, request.in_channels, *plan.patch), request.classes)
    arguments = network_arguments(request.spec, fitted, request.in_channels, request.classes)
    obstacle = capture_obstacle(create_on_meta(request.spec, arguments))
    slower = f"; on a GPU it trains without CUDA graphs, since {obstacle}" if obstacle else ""
    return (
        f"{request.spec.text} as requested, at full resolution whatever the budget: {trial.weights / 1e6:.3g} million "
        f"weights; a training step needs about {trial.step_bytes / 2**30:.2g} GiB, "
        f"{trial.step_bytes / max(usual.step_bytes, 1):.1f} times that of the plan's own network{slower}"
    )


def _edges(patch: Triple) -> str:
    return " x ".join(map(str, patch))
