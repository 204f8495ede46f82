from pipeline.records.metrics import REGISTRY, Family, metric_of, names_of


def test_every_metric_has_a_family_of_its_own_computation():
    assert all(metric.family is not Family.FOREIGN for metric in REGISTRY.values())
    assert names_of() == tuple(REGISTRY)
    assert names_of(Family.SURFACE_AREA, Family.HAUSDORFF) == ("hausdorff_mm", "hausdorff95_mm", "assd_mm", "nsd")


def test_reports_name_every_metric_of_the_panel_and_no_other():
    assert metric_of("lesion_false_positives").heading == "False lesions"
    assert metric_of("lesion_fp").heading == "lesion_fp"  # once listed by reports, never computed
    assert metric_of("hausdorff95_mm").heading == "95 % Hausdorff (mm)"
    assert all(metric_of(name).heading != name for name in REGISTRY)


def test_differences_are_in_the_unit_of_their_metric():
    assert (metric_of("dice").displayed_unit, metric_of("dice").factor) == ("points", 100.0)
    assert (metric_of("volume_error_ml").displayed_unit, metric_of("volume_error_ml").factor) == ("mL", 1.0)
    assert (metric_of("nll").displayed_unit, metric_of("nll").factor) == ("nats", 1.0)
    assert (metric_of("lesion_false_positives").displayed_unit, metric_of("lesion_false_positives").factor) == ("", 1.0)


def test_metrics_of_other_tools_are_distances_by_their_name_and_else_are_never_ranked():
    assert metric_of("masd_mm").is_distance
    assert not metric_of("masd_mm").higher_is_better
    assert not metric_of("my_score").rankable
