"""What is said of a confirmation: leads, ties, controls, and the page."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from rich.console import Console

from dsaccel.confirm.jobs import ConfirmProgress
from dsaccel.confirm.margin import against_global, over_images, planned
from dsaccel.confirm.result import confirmation_of, read_confirmation
from dsaccel.report.confirmation import progress_line, progress_panel
from dsaccel.report.confirmation_table import confirmation_table
from dsaccel.report.figures.confirmation import confirmation_figure
from dsaccel.report.study_page import write_report
from dsaccel.report.verdict import sentences
from dsaccel.statistics import paired, seeds_needed
from dsaccel.study.heads import write_right
from dsaccel.study.record import StudyRecord

TUNING = {
    **{"learning_rate": 0.01, "dropout": 0.1, "val_accuracy": 0.9},
    **{"num_trials": 4, "num_layerwise": 4, "tuned_on": "1-1-3"},
}
NOISE = (0.0, 0.002, -0.001, 0.001, -0.002)
# other digits than NOISE, and shifted for each network and mode, so that paired differences vary
OTHER = (0.001, 0.0, 0.001, -0.002, 0.0)


def record(means, best="1-1-3", noises=None, **changes):
    """Entries (name -> roles, mean or (local, global) means) over five seeds."""
    entries, results, readings = [], [], []
    for number, (name, (roles, local, global_)) in enumerate(means.items()):
        entries.append(
            {
                "name": name, "hierarchy": name.partition("@")[0], "roles": roles,
                "settings": {"network.width": 0.3} if "@" in name else {},
                "num_parameters": 1000 * (number + 1), "flops": 10, "num_local_losses": 7,
            }
        )  # fmt: skip
        for shifted, (mode, mean) in enumerate((("local", local), ("global", global_))):
            if mean is None:
                continue
            own = np.roll(OTHER if number else NOISE, 2 * max(0, number - 1) + shifted).tolist()
            noise = (noises or {}).get(name, own)
            for seed, shift in enumerate(noise):
                common = {"name": name, "mode": mode, "seed": seed}
                results.append(common | {"val_accuracy": mean + shift})
                readings.append(common | {"accuracy": mean + shift - 0.02})
    made = {
        "entries": entries,
        "results": results,
        "decisions": [{"best": best}],
        "unread": [],
        "reference": "2-2-2",
        "tuning": TUNING,
        "num_images": {"val": 500, "test": 1000},
    }
    return made | changes, readings


MEANS = {
    "1-1-3": (["finalist"], 0.900, 0.940),
    "1-2-3": (["finalist"], 0.8995, 0.94),
    "2-2-2": (["reference"], 0.880, 0.940),
    "1-1-2": (["fewer parameters"], 0.890, None),
    "2-2-2@0.3": (["widened to parameters", "widened to FLOPs"], 0.885, None),
}


def confirmation(means=MEANS, **changes):
    return confirmation_of(*record(means, **changes))


def said(made) -> str:
    return "\n".join(sentences(made, 0.005))


def test_a_lead_beyond_noise_is_a_lead_and_one_within_it_a_tie():
    text = said(confirmation())
    assert "Decided on validation: 1-1-3, 90.00 ± 0.16 % over 5 fresh seeds" in text
    assert "Test, read once after that decision: 88.00 ± 0.16 %" in text
    assert "Finalist 1-2-3 ties with the best finalist (-0.05 points" in text
    assert "1-1-3 leads the reference 2-2-2 (+2.00 points, 95 % interval +1.7" in text
    assert "on test a lead (+2.00 points" in text
    assert "Layer-wise, 1-1-3 trails global back-propagation on the same network (-4.00" in text


def test_every_control_is_told_with_its_role():
    text = said(confirmation())
    assert (
        "The best with at most the reference's parameters, 1-1-2 (4.00 k parameters), leads the "
        "reference (+1.00 points"
    ) in text
    for what in ("parameters", "FLOPs"):
        assert (
            f"The reference widened to the winner's {what}, 2-2-2@0.3 (5.00 k parameters), trails "
            "the best finalist (-1.50 points"
        ) in text


def test_figures_are_those_of_the_paired_statistics():
    made = confirmation()
    row = {(r.entry.name, r.mode): r for r in made.results()}["1-2-3", "local"]
    expected = paired(made.series("val", "1-2-3", "local"), made.series("val", "1-1-3", "local"))
    assert row.comparisons["val", "best"].paired == expected
    assert expected is not None
    assert expected.low is not None
    assert f"95 % interval {100 * expected.low:+.2f} to" in said(made)
    stds = [
        difference.std or 0.0
        for name in ("1-2-3", "2-2-2", "1-1-2", "2-2-2@0.3")
        if (
            difference := paired(
                made.series("val", name, "local"), made.series("val", "1-1-3", "local")
            )
        )
    ]
    needed = seeds_needed(max(stds), 0.005, alpha=0.05 / len(stds))
    assert f"To find 0.5 points takes {needed} seeds" in said(made)


def test_a_difference_that_many_comparisons_explain_is_a_tie():
    """p is below 5 % alone, and above after Holm among five."""
    noise = (0.0, 0.0, 0.0, 0.0, 0.0)
    trailing = (-0.004, -0.001, -0.003, -0.0005, -0.0015)
    level = {f"1-{i}-9": (["finalist"], 0.9, None) for i in range(1, 5)}
    means = {"1-1-3": (["finalist"], 0.9, None), **level, "1-2-3": (["finalist"], 0.9, None)}
    noises = dict.fromkeys(level, (0.001, -0.001, 0.002, -0.002, 0.0))
    made = confirmation(means, noises=noises | {"1-1-3": noise, "1-2-3": trailing})
    rows = {r.entry.name: r for r in made.results()}
    comparison = rows["1-2-3"].comparisons["val", "best"]
    assert comparison.paired.p_value is not None
    assert comparison.p_holm == pytest.approx(5 * comparison.paired.p_value)
    assert comparison.p_holm is not None
    assert comparison.paired.p_value < 0.05 < comparison.p_holm
    assert comparison.is_tie
    assert "Finalist 1-2-3 ties with" in said(made)
    alone = {"1-1-3": means["1-1-3"], "1-2-3": means["1-2-3"]}
    assert "Finalist 1-2-3 trails" in said(
        confirmation(alone, noises={"1-1-3": noise, "1-2-3": trailing})
    )


def test_one_seed_has_no_interval_and_says_so():
    one = dict.fromkeys(MEANS, (0.0,))
    text = said(confirmation(noises=one))
    assert "90.00 % over 1 fresh seed " in text
    assert "1-1-3 cannot be told from the reference 2-2-2 (+2.00 points)" in text
    assert "every lead is a tie until there are more" in text


def test_a_difference_that_is_the_same_at_every_seed_is_no_lead_and_is_said_to_be_unjudged():
    made = confirmation(noises=dict.fromkeys(MEANS, NOISE))
    assert all(c.is_tie and not c.is_judged for r in made.results() for c in r.comparisons.values())
    text = said(made)
    assert (
        "1-1-3 cannot be told from the reference 2-2-2 (+2.00 points at each of 5 seeds); on test "
        "not to be told (+2.00 points at each of 5 seeds)."
    ) in text
    assert "A difference that is the same at every seed cannot be judged and is no lead" in text
    for wrong in (" leads ", " trails ", " ties ", "p = "):
        assert wrong not in text
    # the table and the picture: no interval, and a mark in its place
    console = Console(width=250)
    with console.capture() as capture:
        console.print(confirmation_table(made))
    assert "-2.00 ?" in capture.get()
    assert " tie" not in capture.get()
    drawn: list[Any] = list(confirmation_figure(made).data)
    assert all(reach is None for trace in drawn for reach in trace.error_x["array"])
    # where all differences vary there is nothing of it
    assert "cannot be judged" not in said(confirmation())


def test_what_cannot_be_judged_counts_in_holms_correction_all_the_same():
    noises = {"1-1-3": NOISE, "2-2-2": NOISE, "1-1-2": NOISE, "2-2-2@0.3": NOISE}
    made = confirmation(noises=noises)  # of four layer-wise differences from the best one varies
    compared = {r.entry.name: r.comparisons for r in made.results() if r.mode == "local"}
    comparison = compared["1-2-3"]["val", "best"]
    assert comparison.paired.p_value is not None
    assert comparison.p_holm == pytest.approx(min(1, 4 * comparison.paired.p_value))
    assert compared["2-2-2"]["val", "best"].p_holm is None


def test_differences_that_do_not_vary_tell_nothing_of_what_could_be_detected():
    same = dict.fromkeys(MEANS, NOISE)
    text = said(confirmation(noises=same))
    assert "No difference from the best varies with the seed" in text
    assert "there is no interval" not in text
    alone = {"1-1-3": MEANS["1-1-3"]}
    assert "No difference from the best varies with the seed" in said(confirmation(alone))


def test_images_that_the_search_chose_by_are_not_called_fresh():
    text = said(confirmation())
    assert "each seed has its own split of 500 validation images" in text
    assert "biased" not in text
    text = said(confirmation(val_is_given=True))
    assert "all seeds share the 500 validation images that the search chose by" in text
    assert "own split" not in text
    biased = "Validation is biased in favour of the finalists, chosen on these images: "
    assert biased + "the test split alone is fresh." in text
    made, _ = record(MEANS, val_is_given=True)
    assert biased + "no figure is of fresh images." in said(confirmation_of(made, []))


def test_how_both_sides_were_tuned_is_told():
    assert "was tuned on 1-1-3 with the search's seed, 4 settings tried" in said(confirmation())
    untuned = TUNING | {"num_trials": 1, "num_layerwise": 1}
    text = said(confirmation(tuning=untuned))
    assert "was not tuned (learning rate 0.01, dropout 0.1); the layer-wise side had 1" in text


def test_the_reference_may_win_and_nothing_may_be_decided():
    assert "The best finalist is the reference 2-2-2 itself" in said(confirmation(best="2-2-2"))
    assert "Nothing is decided yet" in said(confirmation(decisions=[]))
    made, _ = record(MEANS)
    assert "No test split was read" in said(confirmation_of(made, []))


def test_the_best_finalist_has_the_highest_mean_and_ties_go_to_the_first():
    means = {n: (roles, 0.9, None) for n, (roles, _, _) in MEANS.items()}
    assert confirmation(means, noises=dict.fromkeys(MEANS, NOISE)).best_finalist() == "1-1-3"
    means["1-2-3"] = (["finalist"], 0.91, None)
    means["2-2-2"] = (["reference"], 0.99, None)  # not a finalist
    assert confirmation(means).best_finalist() == "1-2-3"


def test_variance_components_come_from_entries_at_the_studys_settings():
    parts = confirmation().components()
    assert parts is not None
    # prefix 1: 1-1-3, 1-2-3, 1-1-2; prefix 2: 2-2-2, and not its widened copy
    assert (parts.num_prefixes, parts.num_hierarchies, parts.num_seeds) == (2, 4, 5)
    # of networks that differ in settings, too, counts alone would tell nothing
    assert confirmation({f"{name} loss=pred": MEANS[name] for name in MEANS}).components() is None


def test_the_table_has_a_row_for_each_network_and_mode():
    console = Console(width=250)
    with console.capture() as capture:
        console.print(confirmation_table(confirmation()))
    text = capture.get()
    assert text.count("layer-wise") == 5
    assert text.count("global") == 1 + 3  # a heading and rows
    assert "2-2-2@0.3" in text
    assert " tie" in text


def test_the_picture_has_the_differences_and_half_their_intervals():
    figure = confirmation_figure(confirmation())
    drawn: list[Any] = list(figure.data)
    traces = {trace.name: trace for trace in drawn}
    trace = traces["layer-wise, validation"]
    at = list(trace.y).index("2-2-2")
    assert trace.x[at] == pytest.approx(-2.0)
    comparison = {r.entry.name: r for r in confirmation().results() if r.mode == "local"}[
        "2-2-2"
    ].comparisons["val", "best"]
    assert comparison.paired.high is not None
    assert trace.error_x["array"][at] == pytest.approx(
        100 * (comparison.paired.high - comparison.paired.mean)
    )
    assert set(traces) == {
        *("layer-wise, validation", "layer-wise, test", "global, validation", "global, test")
    }
    assert not confirmation_figure(None).data
    assert not confirmation_figure(confirmation(decisions=[])).data


def test_a_page_shows_a_confirmation_escaped_and_none_where_there_is_none(tmp_path):
    study = optuna.create_study(direction="maximize", study_name="page")
    write_report(StudyRecord.read(study), tmp_path / "none.html")
    assert "Confirmation</h2>" not in (tmp_path / "none.html").read_text()
    made, readings = record(MEANS)
    made["entries"][1]["name"] = "<b>evil"
    study.set_user_attr("confirmation", made)
    study.set_user_attr("test_readings", readings)
    write_report(StudyRecord.read(study), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "Confirmation</h2>" in page
    assert "<b>evil" not in page
    assert "leads the reference 2-2-2" in page
    assert read_confirmation(StudyRecord.read(study)) is not None


def test_a_terminal_shows_what_a_confirmation_is_doing():
    progress = ConfirmProgress("global", 7, 12, 5, 6, ("1-1-1",))
    console = Console(width=80, file=io.StringIO(), markup=False)
    console.print(progress_panel(progress))
    assert isinstance(console.file, io.StringIO)
    shown = " ".join(console.file.getvalue().split())
    assert shown == "confirm: global 7 of 12 step 5 of 6 networks 1-1-1"
    assert progress_line(progress) == "confirm global 7/12  step 5/6  1-1-1"
    later = replace(progress, time_left_s=90.0)
    assert progress_line(later) == "confirm global 7/12  step 5/6  1-1-1  left 1 min 30 s"
    console.print(progress_panel(later))
    assert "time left        about 1 min 30 s" in console.file.getvalue()


WITHIN = [
    {"head": "stem", "num_parameters": 100, "flops": 3},
    {"head": "s1.1 conv 2", "num_parameters": 300, "flops": 6},
    {"head": "s2.1 conv 2", "num_parameters": 600, "flops": 9},
]


def of_depth(leads: list[float]):
    """A confirmation in which the winner's exit leads its second head by so much at each seed."""
    made, readings = record(MEANS)
    made["entries"][0]["beginnings"] = WITHIN
    for result in made["results"]:
        if (result["name"], result["mode"]) == ("1-1-3", "local"):
            exit = result["val_accuracy"]
            # the last head is as deep as the exit and the best of all: it is no earlier one
            result["heads"] = [exit - 0.1, exit - leads[result["seed"]], 0.99, exit][:4]
            result["heads"][2] = exit - 0.05
    return confirmation_of(made, readings)


def test_depth_helps_only_where_the_exit_is_above_the_best_earlier_head():
    made = of_depth([0.02, 0.021, 0.019, 0.02, 0.022])
    depth = made.depth("1-1-3")
    assert depth is not None
    assert depth.helps
    assert depth.beginning.head == "s1.1 conv 2"
    assert depth.paired == paired(
        made.series("val", "1-1-3", "local"),
        {seed: read[1] for seed, read in made.heads["1-1-3", "local"].items()},
    )
    assert "Depth helps 1-1-3: its exit is +2.04 points from its best earlier head, s1.1" in said(
        made
    )


@pytest.mark.parametrize(
    "leads", [[0.02, -0.02, 0.01, -0.01, 0.001], [-0.02, -0.021, -0.019, -0.02, -0.02]]
)
def test_where_depth_is_not_shown_to_help_the_network_below_is_what_counts(leads):
    text = said(of_depth(leads))
    assert "That depth helps 1-1-3 is not shown: its exit is" in text
    assert (
        "What counts is the network up to that head: 300 parameters and 6 FLOPs, not 1.00 k and 10 "
        "(with weights of all heads: dsaccel export STUDY --hierarchy '1-1-3' --up-to "
        "'s1.1 conv 2' --torch FILE)."
    ) in text


def test_of_an_earlier_version_nothing_is_said_of_depth():
    assert confirmation().depth("1-1-3") is None
    assert "epth" not in said(confirmation())


MARGIN = {"points": 1.0, "pilot": [], "std": 0.002, "seeds": 5}


@pytest.mark.parametrize(
    ("local", "points", "is_shown"), [(0.936, 1.0, True), (0.936, 0.5, False), (0.9, 1.0, False)]
)
def test_not_inferior_is_said_of_the_lower_limit_alone(local, points, is_shown):
    means = MEANS | {"1-1-3": (["finalist"], local, 0.940)}
    made = confirmation(means, margin=MARGIN | {"points": points})
    difference = against_global(made, "test")
    assert difference is not None
    assert difference.low is not None
    assert (100 * difference.low > -points) is is_shown
    limit = f"(lower 95 % limit {100 * difference.low:+.2f} points at 5 seeds that were no pilot"
    verdict = f"not inferior by a margin of {points:g} points"
    text = said(made)
    assert f"{verdict} {limit}" in text if is_shown else f"{verdict} is not shown {limit}" in text
    assert ("does not say that it is inferior" in text) is not is_shown


def test_the_winner_is_compared_with_back_propagations_own_best():
    means = MEANS | {"1-2-2": (["best by back-propagation"], None, 0.96)}
    text = said(confirmation(means))
    assert "Back-propagation on 1-2-2, its own best of the search, leads layer-wise 1-1-3" in text
    assert "its own best" not in said(confirmation())


def test_where_each_image_is_known_the_limit_is_over_seeds_and_images(tmp_path):
    """Two networks that are equal at every seed up to one image, and differ on a tenth of them."""
    means = MEANS | {"1-1-3": (["finalist"], 0.940, 0.940)}
    made, readings = record(means, margin=MARGIN | {"points": 0.3})
    for look in readings:
        right_N = np.ones(1000, bool)
        wrong = slice(50, 100 + look["seed"] % 2) if look["mode"] == "local" else slice(50)
        right_N[wrong] = False
        look |= write_right(tmp_path, look, right_N)
        look["accuracy"] = right_N.mean()
    over = over_images(confirmation_of(made, readings, tmp_path))
    lead = against_global(confirmation_of(made, readings), "test")
    assert over is not None
    assert lead is not None
    assert lead.low is not None
    assert over.mean == pytest.approx(lead.mean)
    assert over.low < lead.low - 0.005
    assert "not inferior by a margin of 0.3 points (" in said(confirmation_of(made, readings))
    text = said(confirmation_of(made, readings, tmp_path))
    limit = f"lower 95 % limit {100 * over.low:+.2f} points at 5 seeds that were no pilot"
    assert f"is not shown ({limit}, over seeds and 1,000 images)" in text


def test_the_seeds_of_a_pilot_are_no_part_of_the_test_that_they_planned():
    means = MEANS | {"1-1-3": (["finalist"], 0.936, 0.940)}
    pilot = confirmation(means)
    plan = planned(pilot, 1.0)
    assert plan["pilot"] == [0, 1, 2, 3, 4]
    assert plan["seeds"] == seeds_needed(plan["std"], 0.01)
    after = confirmation(means, margin=plan | {"pilot": [0, 1]})
    difference = against_global(after, "val")
    assert difference is not None
    assert difference.n == 3
    assert "3 seeds that were no pilot, of 4 planned" in said(
        confirmation(means, margin=plan | {"pilot": [0, 1], "seeds": 4})
    )
    assert "nothing can be said of a margin" in said(confirmation(means, margin=plan))
