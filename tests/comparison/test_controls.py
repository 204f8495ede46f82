import pandas as pd
import pytest
from simulated_studies import simulate

from pipeline.comparison import ComparisonSettings, compare


def test_a_control_is_never_recommended_even_where_it_is_ahead():
    verdict = compare(simulate({"ce": 0.0, "dice": 0.08, "dice-aa": 0.1}, seeds=2), ComparisonSettings(resamples=200))
    assert verdict.recommended == "dice"
    assert "dice-aa" not in verdict.candidates
    assert "dice-aa" not in verdict.pareto


def test_a_winner_needs_not_be_better_than_its_own_control():
    verdict = compare(simulate({"ce": 0.0, "dice": 0.1, "dice-aa": 0.1}, seeds=2), ComparisonSettings(resamples=200))
    assert (verdict.verdict, verdict.recommended) == ("winner", "dice")


def test_the_observed_gap_of_one_loss_with_itself_stands_beside_the_noise_floor():
    table = simulate({"dice-aa": 0.0, "dice": 0.01, "ce": 0.0}, seeds=2)
    verdict = compare(table, ComparisonSettings(resamples=200))
    (entry,) = verdict.aa
    means = table.groupby("loss")["value"].mean()
    assert (entry.control, entry.loss) == ("dice-aa", "dice")
    assert entry.difference == pytest.approx(means["dice-aa"] - means["dice"])
    assert entry.ci_low < entry.difference < entry.ci_high
    place = next(i for i, words in enumerate(verdict.words) if words.startswith("Two arms with the same loss"))
    assert verdict.words[place - 1].startswith("The mean Dice of one loss varies by")
    assert verdict.to_json()["aa"][0]["control"] == "dice-aa"


def test_arms_of_one_loss_that_differ_clearly_are_a_caveat():
    verdict = compare(simulate({"dice": 0.0, "dice-aa": 0.2, "ce": -0.1}, seeds=2), ComparisonSettings(resamples=200))
    assert any("are the same loss, yet differ clearly" in caveat for caveat in verdict.caveats)


def test_one_loss_and_its_control_have_a_gap_and_nothing_to_compare():
    verdict = compare(simulate({"dice": 0.0, "dice-aa": 0.0}), ComparisonSettings(resamples=200))
    assert (verdict.verdict, verdict.recommended) == ("inconclusive", "dice")
    assert verdict.words[0].startswith("Only one loss, dice,")
    assert len(verdict.aa) == 1


def test_a_control_whose_loss_is_set_aside_takes_no_part():
    table = simulate({"dice": 0.0, "dice-aa": 0.1, "ce": 0.0}).assign(state="ok")
    table.loc[table["loss"] == "dice", ["value", "state"]] = [None, "collapsed"]
    table = table[(table["loss"] != "dice") | (table["fold"] == 0)]
    verdict = compare(table, ComparisonSettings(resamples=200))
    assert verdict.recommended == "ce"
    assert set(verdict.set_aside) == {"dice", "dice-aa"}


def test_a_name_that_ends_in_aa_without_its_loss_is_a_loss_like_any_other():
    verdict = compare(simulate({"gram-aa": 0.1, "ce": 0.0}, seeds=2), ComparisonSettings(resamples=200))
    assert verdict.recommended == "gram-aa"
    assert verdict.aa == ()


def test_losses_that_a_race_dropped_are_out_with_the_reason_and_take_no_cases():
    table = simulate({"dice": 0.1, "ce": 0.0, "focal": -0.1}, seeds=2)
    part = table[(table["loss"] != "focal") | (table["fold"] < 2)]
    verdict = compare(part, ComparisonSettings(resamples=200), dropped={"focal": "behind dice"})
    assert verdict.cases == 60
    assert verdict.set_aside == {"focal": "dropped by the race, behind dice"}
    assert verdict.recommended == "dice"


def test_the_last_loss_of_a_race_is_its_winner():
    table = simulate({"dice": 0.1, "ce": 0.0})
    verdict = compare(pd.concat([table]), ComparisonSettings(resamples=200), dropped={"ce": "behind dice"})
    assert (verdict.verdict, verdict.recommended) == ("winner", "dice")
    assert "the race dropped all other losses (ce)" in verdict.words[0]
