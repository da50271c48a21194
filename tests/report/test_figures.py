"""The figures that the report computes, by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from vlreward.report.cards import Chosen
from vlreward.report.compare import compare, pooled
from vlreward.report.figures import BINS, alone, by_step, curve_names, figures
from vlreward.report.folder import RunRecord, read_run
from vlreward.report.view import constants, duration, held_out_table, view


def record(**rest: Any) -> RunRecord:
    empty: dict[str, Any] = {"info": {}, "config_text": "", "config": {}, "metrics": [], "rollouts": [], "scores": [], "evaluations": {}}
    return RunRecord(**({"path": Path("runs/x"), "summary": {}} | empty | rest))


def row(sample: str, total: float | None, a: float | None, errors: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"id": sample, "total": total, "scores": {"a": a, "b": 0.5}, "errors": list(errors)}


def test_low_scores_inapplicable_rows_and_broken_judges_are_counted_apart():
    rows = [row("1", 0.5, 0.0), row("2", 1.5, 1.0), row("3", 0.5, None), row("4", None, None, ("a: torn: file", "b: x"))]
    found = figures(record(evaluations={"before": rows}))["terms"]["a"]["phases"]["before"]
    assert (found["rows"], found["not_applicable"], found["broken"]) == (4, 1, 1)
    assert found["mean"] == 0.5
    assert found["errors"] == [{"error": "torn: file", "count": 1}]


def test_the_breakdown_is_of_the_first_and_the_last_evaluation_whatever_came_between(tmp_path):
    phases = ("after", "before", "epoch_12", "epoch_4")
    (tmp_path / "run.json").write_text("{}")
    for phase in phases:
        (tmp_path / f"evaluation_{phase}.jsonl").write_text(json.dumps(row("1", 1.0, 1.0)) + "\n")
    assert list(figures(read_run(tmp_path))["terms"]["a"]["phases"]) == ["before", "after"]
    (tmp_path / "evaluation_after.jsonl").unlink()
    assert list(figures(read_run(tmp_path))["terms"]["a"]["phases"]) == ["before", "epoch_12"], "of a run that is not finished yet"


def test_the_total_has_the_errors_of_all_terms():
    rows = [row("1", None, None, ("a: x",)), row("2", None, None, ("a: x",)), row("3", None, 1.0, ("b: y",))]
    found = figures(record(evaluations={"before": rows}))["terms"]["total"]["phases"]["before"]
    assert found["broken"] == 3
    assert found["not_applicable"] == 0
    assert found["errors"] == [{"error": "a: x", "count": 2}, {"error": "b: y", "count": 1}]


def test_rollouts_of_one_sample_are_averaged_before_the_interval():
    rows = [row("1", 0.0, 0.0), row("1", 1.0, 1.0), row("2", 1.0, 1.0)]
    found = figures(record(evaluations={"after": rows}))["terms"]["a"]["phases"]["after"]
    assert found["samples"] == 2
    assert found["mean"] == pytest.approx(0.75)


def test_a_histogram_counts_every_score_once_and_both_ends():
    rows = [row(str(i), value, value) for i, value in enumerate([0.0, 0.049, 0.05, 0.999, 1.0])]
    term = figures(record(evaluations={"before": rows}))["terms"]["a"]
    counts = term["phases"]["before"]["counts"]
    assert term["edges"][0] == 0
    assert term["edges"][-1] == 1
    assert len(counts) == BINS
    assert (counts[0], counts[1], counts[-1], sum(counts)) == (2, 1, 2, 5)


def test_scores_beyond_0_to_1_span_their_own_range():
    rows = [row("1", -2.0, -2.0), row("2", 6.0, 6.0)]
    term = figures(record(evaluations={"before": rows}))["terms"]["a"]
    assert (term["edges"][0], term["edges"][-1]) == (-2, 6)
    assert (term["phases"]["before"]["counts"][0], term["phases"]["before"]["counts"][-1]) == (1, 1)


def test_scored_rows_are_split_by_match_and_their_errors_by_term():
    rows = [
        {"id": "1", "score": 1.0, "scores": {"a": 1.0, "b": 0.0}, "matched": True},
        {"id": "2", "score": None, "scores": {"a": None, "b": None}, "matched": False, "error": "a: torn; not read; b: no; a"},
        {"id": "3", "score": 0.2, "scores": {"a": 0.2, "b": 0.0}},
        {"id": "f.jsonl:4", "error": "caption is empty"},
    ]
    found = figures(record(scores=rows))
    assert list(found["terms"]["a"]["phases"]) == ["matched", "mismatched", "unpaired"]
    assert found["terms"]["a"]["phases"]["mismatched"]["errors"] == [{"error": "torn; not read", "count": 1}]
    assert found["terms"]["b"]["phases"]["mismatched"]["errors"] == [{"error": "no; a", "count": 1}]
    assert found["bad_rows"] == 1


def test_curves_keep_their_ends_and_a_mean_of_the_last_tenth():
    metrics: list[dict[str, float]] = [{"step": i, "reward/total": float(i), "time/update": 2.0, "time/reward": 1.0} for i in range(20)]
    metrics[7]["reward/total"] = float("nan")
    found = figures(record(metrics=metrics))
    assert found["curves"]["reward/total"] == {"first": 0, "last": 19, "closing_mean": 18.5, "steps": 19}
    assert found["seconds_per_step"] == {"update": 2.0, "reward": 1.0}


def test_rewards_come_first_times_last_and_bounds_belong_to_their_figure():
    metrics: list[dict[str, float]] = [
        {"step": 0, "time/update": 1, "kl": 1, "loss/policy": 1, "reward/a": 1, "reward/total": 1, "reward/total_low": 0}
    ]
    metrics[0] |= {"reward/total_high": 2, "too_low": 1, "gone": float("nan")}
    assert curve_names(metrics) == ["reward/total", "reward/a", "loss/policy", "kl", "too_low", "time/update"]


def test_the_total_is_left_out_only_where_it_repeats_the_single_term():
    same = {"before": 0.1, "after": 0.2}
    assert alone({"total": same, "a": same})
    assert not alone({"total": same, "a": {"before": 0.1, "after": 0.3}})
    assert not alone({"total": same, "a": same, "b": same})
    rows = [{"id": "1", "total": 0.5, "scores": {"a": 0.25}, "errors": []}]
    assert list(figures(record(evaluations={"before": rows}))["terms"]) == ["total", "a"], "a weight of 2 is a total of its own"


def test_runs_are_pooled_with_an_interval_over_runs():
    held = [{"a": {"before": 0.1, "after": after, "gain": after - 0.1}} for after in (0.4, 0.5, 0.6)]
    found = pooled([record(summary={"held_out": one}) for one in held])["a"]
    assert found["gain"] == pytest.approx(0.4)
    assert found["gain_high"] - found["gain"] == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)
    assert found["gain"] - found["gain_low"] == pytest.approx(found["gain_high"] - found["gain"])
    assert found["before_low"] == pytest.approx(0.1)


def test_of_several_runs_only_what_never_changed_in_any_is_a_line():
    rows = [
        [{"step": i, "skipped": 0.0, "norm": norm, "calls": calls, "reward/a": 0.5} for i in (1, 2)] for norm, calls in ((1.0, 3), (2.0, 3))
    ]
    found = compare("align", [record(metrics=one) for one in rows], {})
    assert found.constant == [("skipped", "0"), ("calls", "3")]
    assert [plot.title for plot in found.curves] == ["reward/a", "norm"]


def test_shares_are_drawn_from_0_to_1_even_where_an_interval_reaches_beyond():
    row = {"before": 0.5, "before_low": 0.4, "before_high": 0.6, "after": 0.99, "after_low": 0.96, "after_high": 1.02, "count": 9}
    table = held_out_table({"a": row}, "", "", "")
    assert table is not None
    assert [label for _, label in table.axis] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert [(span.at, span.low, span.high) for span in table.lines[0].spans] == [(50, 40, 60), (99, 96, 100)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (2.4, "2.4 s"), (41, "41 s"), (59.6, "60 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations_read_like_a_clock(seconds, text):
    assert duration(seconds) == text


def test_figures_of_each_denoising_step_are_told_apart_from_others():
    names = ["grad_norm", "grad_norm/step_10", "grad_norm/step_2", "loss/step", "clip_fraction/step_2", "x/step_a"]
    assert by_step(names) == {"grad_norm": ["grad_norm/step_2", "grad_norm/step_10"], "clip_fraction": ["clip_fraction/step_2"]}


def test_what_never_changes_is_a_line_and_no_curve():
    metrics = [
        {"step": i, "reward/a": 0.5, "clip/step_1": 0.0, "clip/step_4": 0.0, "skipped": 0.0, "norm": i / 2, "once": 1.0} for i in (1, 2)
    ]
    metrics[0].pop("once")
    one = record(metrics=metrics)
    assert constants(one) == {"skipped": 0.0, "clip by denoising step": 0.0}
    shown = view(one, figures(one), Chosen(best=[], worst=[], broken=[], pairs=[], num_pairs=0, roles=[]), "run")
    assert [plot.title for plot in shown.curves] == ["reward/a", "norm", "once"], "a reward that stands still is worth a look"
    assert shown.constant == [("skipped", "0"), ("clip by denoising step", "0")]


def test_denoising_steps_share_a_chart_and_a_judge_that_only_watches_is_named_so():
    metrics = [{"step": i, "reward/a": 0.5, "reward/b": 0.5, "norm/step_1": 1.0, "norm/step_4": 2.0} for i in (1, 2)]
    one = record(metrics=metrics, config={"rewards": [{"kind": "a", "weight": 1}, {"kind": "x", "name": "b", "weight": 0.0}]})
    shown = view(one, figures(one), Chosen(best=[], worst=[], broken=[], pairs=[], num_pairs=0, roles=[]), "run")
    assert [plot.title for plot in shown.curves] == ["reward/a", "reward/b (weight 0: only watches)", "norm by denoising step"]
    assert [line.name for line in shown.curves[-1].lines] == ["step 1", "step 4"]
