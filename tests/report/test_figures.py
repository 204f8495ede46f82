import base64
import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from made_up_pairs import pair_result
from PIL import Image

from pipeline.comparison.pairing import Paired
from pipeline.records.verdict import Verdict
from pipeline.report.curves import Curve, mean_curve
from pipeline.report.figures import MAXIMUM_POINTS, distribution_plot, interval_plot, paired_plot, seen_from_recommended
from pipeline.report.formatting import duration, number, p_value, signed, typeset
from pipeline.report.overlays import ImageStore
from pipeline.report.pair_tables import deciding_cases
from pipeline.report.slices import SlicePicture, outline_path, png_address
from pipeline.report.styles import LossStyle
from pipeline.report.svg import Scale, element, text, tick_label


def paired(a, b, metric="dice"):
    values = np.array([a, b], dtype=float)
    names = tuple(f"c{i}" for i in range(values.shape[1]))
    folds = np.zeros(len(names), dtype=np.int64)
    return Paired(metric, ("a", "b"), names, names, folds, values, values[:, None], np.ones(len(names)))


def test_an_outline_follows_the_edges_of_the_pixels():
    assert outline_path(np.array([[1]], dtype=np.int16)) == "M0 0H1M0 1H1M0 0V1M1 0V1"


def test_the_border_between_two_classes_is_part_of_the_outline():
    assert "M1 0V1" in outline_path(np.array([[1, 2]], dtype=np.int16))
    assert "M1 0V1" not in outline_path(np.array([[1, 1]], dtype=np.int16))


def test_an_empty_mask_has_no_outline():
    assert outline_path(np.zeros((3, 4), dtype=np.int16)) == ""


def test_a_png_holds_the_pixels_that_it_was_given():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    kind, data = png_address(pixels).split(",")
    assert kind == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.mode == "L"
    assert (np.asarray(image) == pixels).all()


def test_an_image_that_is_shown_twice_is_embedded_once():
    store = ImageStore()
    pixels = np.zeros((4, 4), dtype=np.uint8)
    for values in (pixels, pixels.copy(), pixels + 1):
        store.draw(SlicePicture(values, "", "", (1.0, 1.0)), "#fff")
    assert str(store.definitions).count(png_address(pixels)) == 1
    assert str(store.definitions).count("<image") == 2


def test_texts_and_attributes_are_escaped():
    assert str(text(0, 0, "<b>&")) == '<text x="0" y="0" text-anchor="start">&lt;b&gt;&amp;</text>'
    assert str(element("g", data_name='"><script>')) == '<g data-name="&#34;&gt;&lt;script&gt;"></g>'


@pytest.mark.parametrize(
    "scale",
    [
        Scale(0, 1, 0, 100),
        Scale(-3.7, 41.2, 0, 100),
        Scale(1e-4, 3e2, 0, 100, True),
        Scale(0.1007, 1.153, 0, 100, True),
        Scale(0.11, 0.19, 0, 100, True),
    ],
)
def test_ticks_lie_inside_their_scale(scale):
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 8
    assert all(scale.low - 1e-9 <= tick <= scale.high * (1 + 1e-9) for tick in ticks)
    assert all(-1e-6 <= scale(tick) <= 100 + 1e-6 for tick in ticks)


def test_a_scale_of_one_value_has_room():
    scale = Scale.around([0.0, 0.0], 0, 10)
    assert scale(0.0) == pytest.approx(5)


def test_tick_labels_are_short():
    assert [tick_label(value) for value in (0.0, 0.30000000000000004, -2.5)] == ["0", "0.3", "−2.5"]


def verdict_of(pairs, recommended, controls=None):
    return Verdict(verdict="winner", recommended=recommended, primary="dice", pairs=pairs, controls=controls or {})


def test_pairs_are_turned_to_the_recommended_loss():
    pair = pair_result("x", "best", "dice", -0.02, -0.05, 0.01)
    other_metric = pair.model_copy(update={"metric": "nsd"})
    (turned,) = seen_from_recommended(verdict_of((pair, other_metric), "best"), "dice")
    assert (turned.a, turned.b) == ("best", "x")
    assert (turned.ci_low, turned.difference, turned.ci_high) == (-0.01, 0.02, 0.05)


def test_a_control_is_shown_against_its_own_loss_alone():
    pairs = tuple(pair_result(a, b) for a, b in (("x", "y"), ("x", "x-aa"), ("y", "x-aa")))
    shown = seen_from_recommended(verdict_of(pairs, "x", {"x-aa": "x"}), "dice")
    assert [(pair.a, pair.b) for pair in shown] == [("x", "y"), ("x", "x-aa")]


def texts_and_bands(plot):
    """Baselines of texts within the rows, and the strips of margin and noise (top, bottom)."""
    root = ElementTree.fromstring(str(plot))
    texts = [float(t.get("y")) for t in root.iter() if t.get("class") in ("name", "value")]
    bands = [(float(b.get("y")), float(b.get("y")) + float(b.get("height"))) for b in root.iter() if b.get("height")]
    return texts, bands


@pytest.mark.parametrize("count", [1, 3, 8, 9, 19])
def test_names_and_numbers_do_not_touch_margin_and_noise(count):
    pairs = [
        pair_result("dice", f"loss_{i}", "dice", 0.01, -0.02, 0.04, margin=0.005, noise_floor=0.01)
        for i in range(count)
    ]
    styles = {name: LossStyle(0) for pair in pairs for name in pair.names}
    texts, bands = texts_and_bands(interval_plot(pairs, "dice", styles))
    assert (len(texts), len(bands)) == (2 * count, 2 * count)
    letters = 9.5  # above the baseline, of 12 units
    assert not [(y, band) for y in texts for band in bands if y > band[0] - 1 and y - letters < band[1] + 1]


def test_only_a_difference_that_holds_after_correction_has_the_color_of_a_loss():
    """An interval without 0 may still belong to a pair that the correction for all pairs leaves open."""
    styles = {"a": LossStyle(0), "b": LossStyle(1)}
    drawn = {}
    for better in ("a", None):
        pair = pair_result("a", "b", "dice", 0.02, 0.005, 0.035, margin=0.005, better=better)
        drawn[better] = str(interval_plot([pair], "dice", styles))
    assert styles["a"].color in drawn["a"]
    assert styles["a"].color not in drawn[None]


def test_a_small_difference_is_shown_with_its_sign_and_a_digit():
    assert [signed(value) for value in (-0.004, 0.0, -0.0, 0.00001, 1.999)] == [
        "−0.004",
        "0.00",
        "0.00",
        "0.00",
        "+2.00",
    ]


def test_minus_signs_stand_before_numbers_alone():
    assert typeset("a-1 minus dice-aa: -0.72 to +0.93 (fold-2)") == "a-1 minus dice-aa: −0.72 to +0.93 (fold-2)"


def test_the_cases_that_decide_have_the_largest_differences():
    found = deciding_cases(paired([0.9, 0.5, 0.8, 0.8], [0.8, 0.9, 0.79, 0.8]), "a", "b", count=1)
    assert found.cases == ("c1",)
    assert "a is better in 2 of 4 cases" in found.sentence
    assert "they decide its sign" in found.sentence


def test_smaller_distances_count_as_better_cases():
    found = deciding_cases(paired([1.0, 2.0], [3.0, 2.5], "hausdorff95_mm"), "a", "b")
    assert "a is better in 2 of 2 cases" in found.sentence


def test_collapsed_runs_are_not_part_of_a_mean_curve():
    runs = [Curve("a", "", ((10.0, value), (20.0, value)), value > 5) for value in (1.0, 3.0, 100.0)]
    assert mean_curve(runs) == [(10.0, 2.0), (20.0, 2.0)]


def test_a_mean_curve_ends_where_most_runs_end():
    runs = [Curve("a", "", ((10.0, 1.0),), False), Curve("a", "", ((10.0, 1.0), (20.0, 9.0)), False)]
    assert mean_curve(runs) == [(10.0, 1.0)]


def test_the_eighth_loss_differs_by_its_dashes():
    styles = [LossStyle(index) for index in range(21)]
    assert len({(style.color, style.dash) for style in styles}) == 21


def test_numbers_are_shown_as_people_write_them():
    assert (number(0.87654, "dice"), number(3.14159, "hausdorff_mm"), number(None)) == ("0.877", "3.14", "–")
    assert (signed(-1.234), p_value(0.00001), p_value(0.0421)) == ("−1.23", "< 0.001", "0.042")
    assert (duration(59), duration(245), duration(7320)) == ("59 s", "4 min 05 s", "2 h 02 min")


def test_plots_of_very_many_cases_hold_a_bounded_number_of_points_with_the_extremes_among_them():
    random = np.random.default_rng(0)
    many = paired(random.normal(0.8, 0.05, 9000), random.normal(0.8, 0.05, 9000))
    styles = {"a": LossStyle(0), "b": LossStyle(1)}
    difference = many.values[0] - many.values[1]
    plot = str(paired_plot(many, "a", "b", [], styles))
    assert plot.count("<circle") == MAXIMUM_POINTS
    assert f"{MAXIMUM_POINTS:,} of 9,000 cases, evenly by the difference" in plot
    for extreme in (difference.argmin(), difference.argmax()):
        assert f"c{extreme}: a" in plot
    boxes = str(distribution_plot(many, styles))
    assert boxes.count("<circle") == MAXIMUM_POINTS
    for row in many.values:
        assert f"c{row.argmin()}: " in boxes
    few = paired(many.values[0][:50], many.values[1][:50])
    assert str(paired_plot(few, "a", "b", [], styles)).count("<circle") == 50
    assert "evenly" not in str(paired_plot(few, "a", "b", [], styles))
