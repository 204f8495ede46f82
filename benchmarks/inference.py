"""Throughput of a whole-volume prediction against MONAI's own sliding windows in float32, side by side.

Both sides get the same prepared image, network, patch, overlap and Gaussian blending, and end with the class of each
voxel. One is `SlidingWindowInferer` with its default of one window at a time and argmax; the other is what `whichloss
predict --precision bfloat16` does. Pairs alternate, so that other load on the machine meets both, and the median of
their ratios is reported, by the clock and by the processor's
time, which other load touches less.

The network is trained for a short while on the very images, so that there is something to agree on.

    python benchmarks/inference.py ../shared/data/ms_lesions --pairs 3 --steps 40
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss

from pipeline.data.datalists import read_dataset
from pipeline.data.planning import make_plan
from pipeline.data.scan import scan_dataset
from pipeline.network.architecture import build_network
from pipeline.network.precision import autocast
from pipeline.network.prediction import WINDOW_OVERLAP
from pipeline.network.sliding_window import sliding_scores
from pipeline.training.preparation import load_case

CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    dataset = read_dataset(arguments.dataset)
    scan = scan_dataset(dataset, workers=1)
    plan = make_plan(scan.dataset, scan.fingerprint)
    case = scan.dataset.cases[0]
    image, lesions, _ = load_case(case, plan, with_label=True)
    assert lesions is not None
    label = np.where(np.rint(lesions) > 0, 2, (image != image[:, :1, :1, :1]).any(0)).astype(np.int64)
    print(
        f"{case.id}: {image.shape}, patch {plan.patch}, overlap {WINDOW_OVERLAP}, {torch.get_num_threads()} threads",
        flush=True,
    )

    network = train(build_network(plan, len(image), 3, 0, 0), image, label, plan.patch, arguments.steps)
    volume = torch.from_numpy(image)
    pairs = []
    for number in range(arguments.pairs):
        pairs.append(pair(network, volume, plan.patch, swap=number % 2 == 1))
        print(f"pair {number + 1}: {pairs[-1]}", flush=True)
    ratios = {
        kind: [round(one[f"monai_{kind}"] / one[f"segloss_{kind}"], 2) for one in pairs] for kind in ("wall_s", "cpu_s")
    }
    result = {
        "median_ratio_of_wall_time": statistics.median(ratios["wall_s"]),
        "median_ratio_of_cpu_time": statistics.median(ratios["cpu_s"]),
        "ratios": ratios,
        "pairs": pairs,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result))
    if arguments.json:
        agreement = [one[name] for one in pairs for name in ("dice_head", "dice_lesions")]
        worst = float(np.min(agreement))  # NaN where neither finds a lesion, and then nothing is shown of lesions
        seconds = {name: statistics.median(one[f"{name}_wall_s"] for one in pairs) for name in ("segloss", "monai")}
        ratio = result["median_ratio_of_wall_time"]
        row = {
            "what": f"one {' x '.join(map(str, image.shape[1:]))} volume, seconds (Dice between both ≥ {worst:.4f})",
            "segloss": f"{seconds['segloss']:.1f}",
            "other": f"{seconds['monai']:.1f}",
            "ratio": f"{ratio:.2f}",
            "bar": "2 times, Dice 0.999",
            "met": ratio >= 2 and worst >= 0.999,
        }
        arguments.json.write_text(json.dumps({"rows": [row], "measured": result}), encoding="utf-8")


def train(
    network: torch.nn.Module, image: np.ndarray, label: np.ndarray, patch: tuple[int, int, int], steps: int
) -> torch.nn.Module:
    """Return the network after a few steps: head (1) and lesions (2), half of the patches around a lesion."""
    random = np.random.default_rng(0)
    places = np.argwhere(label == 2)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    for step in range(steps):
        centre = random.choice(places) if step % 2 else random.integers(0, label.shape)
        start = [int(np.clip(c - p // 2, 0, s - p)) for c, p, s in zip(centre, patch, label.shape, strict=True)]
        window = tuple(slice(low, low + edge) for low, edge in zip(start, patch, strict=True))
        inputs = torch.from_numpy(image[(slice(None), *window)].copy())[None]
        with autocast("bfloat16", CPU):
            scores = network(inputs)
        loss = loss_of(scores.float(), torch.from_numpy(label[window].copy())[None, None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def pair(
    network: torch.nn.Module, volume: torch.Tensor, patch: tuple[int, int, int], *, swap: bool
) -> dict[str, float]:
    """Return seconds of MONAI and of ours, by the clock and of the processor, and the Dice between both results."""
    measured: dict[str, float] = {}
    found: dict[str, torch.Tensor] = {}
    for name in ("segloss", "monai") if swap else ("monai", "segloss"):
        predict = by_monai if name == "monai" else by_segloss
        wall, processor = time.perf_counter(), time.process_time()
        found[name] = predict(network, volume, patch)
        measured[f"{name}_wall_s"] = round(time.perf_counter() - wall, 2)
        measured[f"{name}_cpu_s"] = round(time.process_time() - processor, 2)
    one, other = found["monai"], found["segloss"]
    for value, name in ((1, "head"), (2, "lesions")):
        both = ((one == value) & (other == value)).sum()
        measured[f"dice_{name}"] = round(float(2 * both / ((one == value).sum() + (other == value).sum())), 6)
    return measured


@torch.inference_mode()
def by_monai(network: torch.nn.Module, volume: torch.Tensor, patch: tuple[int, int, int]) -> torch.Tensor:
    inferer = SlidingWindowInferer(patch, overlap=WINDOW_OVERLAP, mode="gaussian")
    return inferer(volume[None], network)[0].argmax(0)


@torch.inference_mode()
def by_segloss(network: torch.nn.Module, volume: torch.Tensor, patch: tuple[int, int, int]) -> torch.Tensor:
    def predict(windows: torch.Tensor) -> torch.Tensor:
        with autocast("bfloat16", CPU):
            return network(windows)

    return sliding_scores(volume, predict, patch, WINDOW_OVERLAP, batch=1).argmax(0)


if __name__ == "__main__":
    main()
