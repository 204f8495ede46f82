import pytest

from pipeline.errors import ConfigError
from pipeline.records.metrics import REGISTRY
from pipeline.records.tolerance import Tolerance, ToleranceRequest, default_margin_mm, default_tolerance_mm


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ((1.5, 1.5, 10.0), 1.5),  # slices 10 mm apart
        ((0.15, 0.15, 0.15), 0.15),  # a mouse brain
        ((5.0, 0.7, 0.8), 0.8),  # the coarser edge of a pixel, wherever the slices are
        ((1.0, 1.0, 1.0), 1.0),
    ],
)
def test_the_tolerance_is_the_edge_of_a_pixel(spacing, expected):
    assert default_tolerance_mm([spacing]) == expected


@pytest.mark.parametrize("scale", [0.01, 0.5, 3.0])
def test_tolerance_and_margin_scale_with_the_spacing(scale):
    spacing = (0.7, 0.7, 5.0)
    scaled = [[scale * edge for edge in spacing]]
    assert default_tolerance_mm(scaled) == pytest.approx(scale * default_tolerance_mm([spacing]))
    assert default_margin_mm(scaled) == pytest.approx(scale * default_margin_mm([spacing]))


def test_a_dataset_has_the_median_of_its_cases_without_the_digits_of_float32():
    assert default_tolerance_mm([(1.0, 1.0, 3.0), (0.15000000596, 0.15000000596, 9.0), (0.1, 0.1, 1.0)]) == 0.15
    with pytest.raises(ValueError, match="at least one"):
        default_tolerance_mm([])


def test_the_margin_at_one_millimeter_is_that_of_the_registry():
    assert default_margin_mm([(1.0, 1.0, 1.0)]) == REGISTRY["hausdorff95_mm"].margin


def test_a_class_has_its_own_tolerance_or_that_of_all():
    asked = ToleranceRequest.parse("lesion=1, big=organ=3")
    assert asked.by_class == {"lesion": 1.0, "big=organ": 3.0}
    assert asked.resolve([(1.5, 1.5, 10.0)]) == Tolerance(1.5, {"lesion": 1.0, "big=organ": 3.0})
    both = ToleranceRequest.parse("2,lesion=1").resolve([(1.0, 1.0, 1.0)])
    assert (both.of("lesion"), both.of("organ")) == (1.0, 2.0)
    assert ToleranceRequest.parse(None).resolve([(1.5, 1.5, 10.0)]) == Tolerance(1.5)


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "a=", "=1", "1,2", "a=1,a=2", "a=x", "a=1,"])
def test_what_is_not_a_tolerance_is_refused(text):
    with pytest.raises(ConfigError, match="give one distance in mm"):
        ToleranceRequest.parse(text)


def test_a_class_that_is_not_there_is_refused_by_name():
    with pytest.raises(
        ConfigError, match="--tolerance-mm lession=1: names a class that is not there; the classes are lesion"
    ):
        ToleranceRequest.parse("lession=1").check(["lesion"])
