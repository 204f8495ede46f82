"""Measure common claims about cross entropy and Dice; docs/explanation/cross-entropy-or-dice.md reports the output.

    python benchmarks/loss_claims.py gradients [--figure FILE.svg]
    python benchmarks/loss_claims.py study STUDY [--figure FILE.svg]

`gradients` needs no data. It computes by autograd the largest gradients with respect to probability and logit, and the
share of the gradient on foreground, from 10 % to 0.01 % foreground. `study` reads the records of a study: gradient
norms with their spikes and jumps, roughness of the training curves, correlation of training loss and validation Dice,
and ranks by metric.
"""

import argparse
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path

import numpy as np
from markupsafe import Markup

from pipeline.comparison.evidence import read_evidence
from pipeline.records.events import TrainEvent
from pipeline.records.folder import StudyFolder
from pipeline.records.metrics import metric_of
from pipeline.records.run import RunTrace
from pipeline.report.curves import points_of
from pipeline.report.diagnostics import curve_numbers, diagnose
from pipeline.report.styles import LossStyle
from pipeline.report.svg import WIDTH, Scale, element, fragment, text, x_axis, y_axis
from pipeline.system.files import write_text

FRACTIONS = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
EDGE = 48
STYLE = """
text { font: 11px system-ui, "DejaVu Sans", Arial, sans-serif; fill: #1b222b; }
.tick, .axis { fill: #56616d; } .title { font-size: 13px; font-weight: 600; } .grid { stroke: #e9edf0; }
.thick, .thin { fill: none; stroke-width: 2.2; } .thin { stroke-width: 1.3; stroke-opacity: .6; }
"""


def largest_gradients() -> None:
    """Print the largest gradient over p of one voxel's Dice coefficient, by probability and by logit."""
    import torch

    from pipeline.losses import LossSpec, build_loss

    p = np.concatenate([np.logspace(-7, 0, 1401)[:-1], [1 - 1e-7]])
    exact = {"smooth_nr": 0.0, "smooth_dr": 0.0, "softmax": False, "to_onehot_y": False, "reduction": "sum"}
    print("Largest |gradient| over p in 1e-7..1 of one voxel, by autograd")
    print(f"{'loss':14}{'t':>8}{'by p':>12}{'at p':>10}{'by logit':>12}{'at p':>10}")
    for name in ("dice", "dice_squared"):
        loss = build_loss(LossSpec(name, exact), [1, 1])
        for t in (1.0, 0.1, 0.01, 0.001, 0.0001):
            foreground = torch.tensor(p, requires_grad=True)
            both = torch.stack([1 - foreground, foreground], 1)[..., None, None, None]
            truth = torch.tensor([1 - t, t], dtype=torch.float64).expand(len(p), 2)[..., None, None, None]
            (gradient,) = torch.autograd.grad(loss(both, truth), foreground)
            by_p = gradient.abs().numpy()
            by_logit = by_p * p * (1 - p)
            a, b = int(by_p.argmax()), int(by_logit.argmax())
            print(f"{name:14}{t:8g}{by_p[a]:12.4g}{p[a]:10.2g}{by_logit[b]:12.4g}{p[b]:10.2g}")
    print("cross entropy: |p - t| by logit, at most 1")


def foreground_shares(figure: Path | None) -> None:
    """Print and draw the share of the gradient with respect to the logits on foreground voxels."""
    import torch

    from pipeline.losses import build_loss, parse_losses

    specs = parse_losses(
        "ce,weighted_ce,weighted_ce{policy=square_root},weighted_ce{policy=inverse,cap=100000},dice,dice_squared,dice_ce,focal"
    )
    names = [spec.label for spec in specs]
    count = EDGE**3
    found = {stage: np.zeros((len(FRACTIONS), len(specs))) for stage in ("early", "late")}
    for row, fraction in enumerate(FRACTIONS):
        generator = torch.Generator().manual_seed(0)
        inside = max(1, round(fraction * count))
        target = torch.zeros(count)
        target[torch.randperm(count, generator=generator)[:inside]] = 1
        truth = torch.stack([1 - target, target])
        noise = torch.randn(2, count, generator=generator)
        for stage, logits in (("early", 0.5 * noise), ("late", 4 * truth + 1.5 * noise)):
            for column, spec in enumerate(specs):
                z = logits.reshape(1, 2, EDGE, EDGE, EDGE).clone().requires_grad_()
                loss = build_loss(spec, (count - inside, inside))(z, target.reshape(1, 1, EDGE, EDGE, EDGE))
                (gradient,) = torch.autograd.grad(loss, z)
                size = gradient.abs().sum(1).flatten()
                found[stage][row, column] = float(size[target > 0].sum() / size.sum())
    for stage, shares in found.items():
        print(f"\nShare of the gradient on foreground, {stage} in a training ({EDGE}^3 voxels, two classes)")
        print(f"{'foreground':>12}" + "".join(f"{name[-22:]:>24}" for name in names))
        for row, fraction in enumerate(FRACTIONS):
            print(f"{fraction:12.2%}" + "".join(f"{share:24.2%}" for share in shares[row]))
    if figure is not None:
        write_text(figure, _shares_figure(found, names))


def _shares_figure(found: dict[str, np.ndarray], names: list[str]) -> str:
    panels = []
    for place, (stage, shares) in enumerate(found.items()):
        across = Scale.around([100 * f for f in FRACTIONS], 54, WIDTH - 16, logarithmic=True)
        up = Scale.around([100 * float(v) for v in shares.ravel()], 232, 10, logarithmic=True)
        parts = [x_axis(across, 10, 232, "foreground, % of all voxels"), y_axis(up, 46, WIDTH - 12)]
        parts.append(text(46, -8, f"% of the gradient on foreground, {stage}", class_="title"))
        for index in range(len(names)):
            path = [(100 * f, 100 * float(v)) for f, v in zip(FRACTIONS, shares[:, index], strict=True)]
            parts.append(_line(path, across, up, LossStyle(index), "thick"))
        panels.append(element("g", *parts, transform=f"translate({place * WIDTH} 24)"))
    return _svg(panels, names, 330)


def _line(path: list[tuple[float, float]], across: Scale, up: Scale, style: LossStyle, kind: str) -> Markup:
    points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in path)
    return element("polyline", points=points, stroke=style.color, stroke_dasharray=style.dash, class_=kind)


def _svg(panels: list[Markup], names: list[str], height: int) -> str:
    """Return panels side by side with a legend, as the text of an SVG file."""
    legend, x, y = [], 46.0, float(height - 26)
    for index, name in enumerate(names):
        style = LossStyle(index)
        legend.append(
            element(
                "line", x1=x, x2=x + 16, y1=y, y2=y, stroke=style.color, stroke_width=3.0, stroke_dasharray=style.dash
            )
        )
        legend.append(text(x + 21, y + 4, name))
        x += 44 + 6.4 * len(name)
        if x > 2 * WIDTH - 150 and index + 1 < len(names):
            x, y = 46.0, y + 18
    whole = element(
        "svg",
        element("style", Markup(STYLE)),
        element("rect", width=2.0 * WIDTH, height=float(height), fill="#fff"),
        *panels,
        *legend,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {2 * WIDTH} {height}",
        width=2.0 * WIDTH,
        height=float(height),
    )
    return str(whole) + "\n"


def curves_of_a_study(root: Path, figure: Path | None) -> None:
    """Print statistics of the curves of each loss, and the ranks of the losses by metric."""
    evidence = read_evidence(StudyFolder(root))
    runs = {loss: [run for run in evidence.finished if run.key.loss == loss] for loss in evidence.losses}
    print(
        f"{len(evidence.finished)} of {len(evidence.runs)} runs; median over the runs of a loss (smallest to largest)"
    )
    columns = ("gradient_norm", "spike", "jump", "foreground_share", "agreement", "roughness", "correlation")
    print(f"{'loss':24}{'runs':>5}  {'rates':14}" + "".join(f"{name:>24}" for name in columns))
    for loss, own in runs.items():
        if own:
            said = [asdict(curve_numbers(run)) | {"agreement": _agreement(run), "jump": _jump(run)} for run in own]
            rates = ",".join(f"{rate:g}" for rate in diagnose(own).learning_rates)
            cells = [_spread([item[name] for item in said if item[name] is not None]) for name in columns]
            print(f"{loss:24}{len(own):5}  {rates:14}" + "".join(f"{cell:>24}" for cell in cells))
    print("\nMeans over the cases that all losses share, best first")
    for metric, paired in evidence.paired.items():
        order = np.argsort(-paired.means if paired.higher_is_better else paired.means)
        listed = ", ".join(f"{paired.losses[i]} {paired.means[i]:.4g}" for i in order)
        print(f"{metric_of(metric).heading:28}{len(paired.cases):4} cases  {listed}")
    print("\nDifferences with their 95 % intervals")
    for pair in evidence.verdict.pairs:
        if pair.metric in ("dice", "hausdorff95_mm", "ece"):
            said = f"{pair.difference:+.4f} ({pair.ci_low:+.4f} to {pair.ci_high:+.4f})"
            print(f"{metric_of(pair.metric).heading:28}{pair.a} minus {pair.b}: {said}")
    if figure is not None:
        write_text(figure, _curves_figure(runs))


def _agreement(run: RunTrace) -> float | None:
    """Return the median cosine of the gradients of successive batches."""
    found = [event.gradient_agreement for event in run.of_kind(TrainEvent) if event.gradient_agreement is not None]
    return float(np.median(found)) if found else None


def _jump(run: RunTrace) -> float | None:
    """Return the largest of ten gradient norms divided by their mean: 95th percentile of the second half."""
    events = run.of_kind(TrainEvent)
    later = [(event.gradient_norm_max, event.gradient_norm) for event in events[len(events) // 2 :]]
    found = [largest / mean for largest, mean in later if largest is not None and mean]
    return float(np.quantile(found, 0.95)) if found else None


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{np.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def _curves_figure(runs: dict[str, list]) -> str:
    """Return the figure of gradient norms, and of the training loss scaled to fall from 1 to 0, over steps."""
    panels = []
    for place, (title, name) in enumerate(
        (
            ("Largest gradient norm of ten steps", "gradient_norm_max"),
            ("Training loss, scaled to its fall", "loss"),
        )
    ):
        paths = []
        for index, own in enumerate(runs.values()):
            for run in own:
                path = list(points_of(run.events, TrainEvent, attrgetter(name)))
                if name == "loss" and path:
                    first, last = path[0][1], path[-1][1]
                    path = [(x, (y - last) / (first - last)) for x, y in path] if first != last else []
                paths.append((index, path))
        values = [y for _, path in paths for _, y in path]
        across = Scale(0, max(x for _, path in paths for x, _ in path), 46, WIDTH - 12)
        up = Scale.around(values, 232, 10, logarithmic=name != "loss")
        parts = [x_axis(across, 10, 232, "steps"), y_axis(up, 46, WIDTH - 12), text(46, -8, title, class_="title")]
        parts += [_line(path, across, up, LossStyle(index), "thin") for index, path in paths if path]
        panels.append(element("g", fragment(parts), transform=f"translate({place * WIDTH} 24)"))
    return _svg(panels, list(runs), 326)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    of_gradients, of_study = kinds.add_parser("gradients"), kinds.add_parser("study")
    of_study.add_argument("study", type=Path)
    for kind in (of_gradients, of_study):
        kind.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    if arguments.kind == "gradients":
        largest_gradients()
        foreground_shares(arguments.figure)
    else:
        curves_of_a_study(arguments.study, arguments.figure)


if __name__ == "__main__":
    main()
