from pipeline.records.metrics import REGISTRY, Family, metric_of, names_of
from pipeline.report.wording import factor, metric_name, unit


def test_every_metric_has_a_family_of_its_own_computation():
    assert all(metric.family is not Family.FOREIGN for metric in REGISTRY.values())
    assert names_of() == tuple(REGISTRY)
    assert names_of(Family.SURFACE_AREA, Family.HAUSDORFF) == ("hausdorff_mm", "hausdorff95_mm", "assd_mm", "nsd")


def test_reports_name_every_metric_of_the_panel_and_no_other():
    assert metric_name("lesion_false_positives") == "False lesions"
    assert metric_name("lesion_fp") == "lesion_fp"  # once listed by reports, never computed
    assert metric_name("hausdorff95_mm") == "95 % Hausdorff (mm)"
    assert all(metric_name(name) != name for name in REGISTRY)


def test_differences_are_in_the_unit_of_their_metric():
    assert (unit("dice"), factor("dice")) == ("points", 100.0)
    assert (unit("volume_error_ml"), factor("volume_error_ml")) == ("mL", 1.0)
    assert (unit("nll"), factor("nll")) == ("nats", 1.0)
    assert (unit("lesion_false_positives"), factor("lesion_false_positives")) == ("", 1.0)


def test_metrics_of_other_tools_are_distances_by_their_name_and_else_are_never_ranked():
    assert metric_of("masd_mm").is_distance
    assert not metric_of("masd_mm").higher_is_better
    assert not metric_of("my_score").rankable
