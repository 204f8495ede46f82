import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
from fake_study import write_fake_study
from PIL import Image

from pipeline.records.events import RestartEvent, TrainEvent, ValidationEvent, read_events
from pipeline.records.folder import RunKey
from pipeline.records.study import read_study
from pipeline.report.run_pictures import ranked_cases, write_curves, write_overlays

SVG = "{http://www.w3.org/2000/svg}"


def one_run(folder):
    study = write_fake_study(folder, losses=("dice",), noise=(0.9,), folds=2, seeds=1, cases=8, size=18)
    return read_study(study).cases, study.run(RunKey("dice", 0, 0))


def table(**dice):
    rows = [(case, "dice", value) for case, value in dice.items()]
    return pd.DataFrame(rows, columns=["case", "metric", "value"])


def test_worst_median_and_best_are_by_mean_dice():
    ranked = ranked_cases(table(a=0.9, b=0.1, c=0.5, d=None))
    assert [(item.rank, item.case, item.dice) for item in ranked] == [
        ("worst", "b", 0.1),
        ("best", "a", 0.9),
        ("median", "c", 0.5),
    ]


def test_a_single_case_is_shown_once():
    assert [item.rank for item in ranked_cases(table(a=0.9))] == ["worst"]
    assert ranked_cases(table(a=None)) == []


def test_overlays_hold_the_image_and_outlines_and_no_name_of_a_case(tmp_path):
    cases, run = one_run(tmp_path)
    write_overlays(run, cases, tmp_path / "overlays")
    assert sorted(path.name for path in (tmp_path / "overlays").iterdir()) == ["best.svg", "median.svg", "worst.svg"]
    for path in (tmp_path / "overlays").iterdir():
        picture = path.read_text(encoding="utf-8")
        root = ElementTree.fromstring(picture)
        assert len([item for item in root.iter(f"{SVG}path") if item.get("d")]) == 2
        (address,) = [item.get("href") for item in root.iter(f"{SVG}image")]
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))
        assert pixels.dtype == np.uint8
        assert pixels.max() - pixels.min() > 200
        assert f"{path.stem} case of this run: mean Dice 0." in picture
        assert "case_" not in picture


def test_cases_whose_files_are_gone_or_cut_off_are_left_out(tmp_path):
    cases, run = one_run(tmp_path)
    ranks = {item.rank: item.case for item in ranked_cases(pd.read_csv(run.cases))}
    prediction = run.predictions / f"{ranks['best']}.nii.gz"
    prediction.write_bytes(prediction.read_bytes()[:200])
    del cases[ranks["median"]]
    write_overlays(run, cases, tmp_path / "overlays")
    assert [path.name for path in (tmp_path / "overlays").iterdir()] == ["worst.svg"]


def lines(path):
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    names = [(item[0].text, item.get("points").split()) for item in root.iter(f"{SVG}polyline")]
    return root, names


def test_curves_show_the_training_loss_and_each_class_by_each_metric(tmp_path):
    _, run = one_run(tmp_path)
    write_curves("dice s0 <f0>", read_events(run.events), tmp_path / "curves.svg")
    root, names = lines(tmp_path / "curves.svg")
    assert [name for name, _ in names] == ["training loss", *["mean of classes", "Anterior", "Posterior"] * 3]
    texts = [item.text for item in root.iter(f"{SVG}text")]
    assert "dice s0 <f0>" in texts
    assert {"Training loss", "Dice", "95 % Hausdorff (mm)", "Hausdorff (mm)", "Anterior"} <= set(texts)
    assert not re.search(r"url\(|@import|http(?!://www.w3.org/2000/svg)", (tmp_path / "curves.svg").read_text())


def test_a_restarted_run_shows_its_last_training_only(tmp_path):
    events = [
        TrainEvent(step=10, loss=5.0),
        TrainEvent(step=20, loss=float("nan")),
        RestartEvent(step=20, why="not finite"),
        TrainEvent(step=10, loss=1.0),
        TrainEvent(step=20, loss=0.5),
        ValidationEvent(step=20, dice={"a": 0.5}),
    ]
    write_curves("run", events, tmp_path / "curves.svg")
    _, names = lines(tmp_path / "curves.svg")
    assert [(name, len(points)) for name, points in names] == [("training loss", 2), ("a", 1)]


def test_a_run_without_events_has_empty_panels(tmp_path):
    write_curves("run", [], tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").read_text(encoding="utf-8").count("not recorded") == 4
