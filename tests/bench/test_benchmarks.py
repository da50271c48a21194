"""Every benchmark in its published layout: what a critic that knows the truth, that guesses and that always says the same gets."""

import json

import pytest
from benchmarks import BUILDERS, Truth, build

from vlreward.bench.base import Benchmark
from vlreward.bench.run import Bench, bench
from vlreward.config import parse
from vlreward.registry import parts
from vlreward.run import Run

EXPECTED = {
    "vl_reward_bench": {"accuracy": (1, 1 / 2, 0), "macro accuracy": (1, 1 / 2, 0)},
    "multimodal_reward_bench": {"accuracy": (1, 1 / 2, 0)},
    "mm_rlhf": {"accuracy": (1, 1 / 2, 0), "accuracy+": (1, 1 / 4, 0)},
    "reward_bench_2": {"best of 4": (1, 1 / 4, 1 / 4), "score": (1.01 / 3 + 2 / 3, ..., 1 / 6), "ties": (1.01, ..., 0)},
    "vil_bench": {"best of n": (0.9, 0.9 / 4, 0.9 / 4), "best of n, where one is right": (1, 1 / 4, 1 / 4)},
    "visual_process_bench": {"macro f1": (1, 1 / 2, ...), "f1 of wrong": (1, ..., 0), "step pairs": (1, 1 / 2, 0)},
    "videogen": {"without ties": (1, 1 / 2, 0), "with ties": (1, 1 / 3, 1 / 3), "TA without ties": (1, 1 / 2, 0)},
    "genai_bench_tiger": {"four classes": (1, 1 / 4, 1 / 4), "without ties": (1, 1 / 2, 0)},
    "genai_bench_cmu": {"pearson": (1, 0, None), "kendall b": (1, 0, None), "spearman": (1, 0, None)},
    "vc_reward_bench": {"severity": (1, 0, None), "table severity": (1, ..., None), "kendall b": (1, 0, None)},
    "edit_reward_bench_score": {"overall": (1, 1 / 2, 0), "consistency": (1, 1 / 2, 0)},
    "edit_reward_bench_tiger": {
        "sets of 2": (1, 1 / 2, 0),
        "sets of 3": (1, 1 / 6, 0),
        "sets of 4": (1, 1 / 24, 0),
        "pairs": (1, 1 / 2, 0),
    },
    "mj_bench": {"without ties": (1, 1 / 2, 0), "with ties": (1, 1 / 2, 0)},
    "mj_bench_bias": {
        "acc": (1, 0.19, 1),
        "nds": (1, 1 - 3**-0.5, 1),
        "ges": (1, 2 / 3, 1),
        "race acc": (1, 0.19, 1),
    },
    "mj_bench_video": {"without ties": (1, 1 / 2, 0), "macro f1": (1, 1 / 2, 0), "Alignment without ties": (1, 1 / 2, 0)},
    "hpdv2": {"inversion score": (1, 1 / 2, 1 / 2), "pair accuracy": (1, 1 / 2, 0)},
    "hpdv3": {"accuracy": (1, 1 / 2, 0)},
    "pick_a_pic": {"points": (1, 0.6, 0.6), "without ties": (1, 1 / 2, 0)},
    "image_reward_db": {"accuracy": (1, 1 / 2, 0), "by prompt": (1, 1 / 2, 0)},
    "winoground": {"group": (1, 1 / 6, 0), "text": (1, 1 / 4, 0), "image": (1, 1 / 4, 0)},
    "eqben": {"group": (1, 1 / 6, 0)},
    "sugar_crepe": {"macro accuracy": (1, 1 / 2, 0)},
    "foil": {"accuracy": (1, 1 / 2, 0)},
    "flickr8k_expert": {"kendall c": (1, 0, None)},
    "flickr8k_cf": {"kendall b": (1, 0, None)},
    "composite": {"kendall c": (1, 0, None)},
    "pascal_50s": {"macro accuracy": (1, 1 / 2, 0)},
    "comparisons": {"accuracy": (1, 1 / 2, 0), "macro accuracy": (1, 1 / 2, 0)},
}
"""kind -> figure -> what truth, a guess and a constant get: ... is not worked out here, None is no figure"""
LOOSE = {"with ties", "four classes", "points", "kendall c"}
"""Figures that depend on how many of the drawn labels are ties"""
SLOW = {"genai_bench_cmu", "videogen", "pascal_50s"}
GUESSED = 0.13
"""How far a guess on a few hundred items may lie from what it gets on average"""


def benchmark_of(kind, folder, **more) -> Benchmark:
    place = {"of": {"path": str(folder / "pairs.jsonl")}} if kind == "comparisons" else {"path": str(folder)}
    return parse(Benchmark, {"kind": kind, **place, **more})


def run(tmp_path, benchmark, **critics):
    config = Bench(run=Run(name="b", folder=tmp_path), critics=critics, benchmark=benchmark, batch=256)
    return json.loads((bench(config, resume=False, fresh=True).path / "summary.json").read_text())


def test_every_benchmark_is_tested():
    assert set(EXPECTED) == set(BUILDERS) == set(parts("benchmarks"))


@pytest.mark.parametrize("kind", list(EXPECTED))
def test_truth_a_guess_and_a_constant_score_what_theory_says(kind, tmp_path):
    benchmark = benchmark_of(kind, build(kind, tmp_path / "data", count=120 if kind in SLOW else 160))
    summary = run(tmp_path, benchmark, truth=Truth())
    found = summary["bench"][kind]["critics"]
    assert summary["bad"] == 0 and summary["broken"] == 0, found["truth"]["errors"]
    assert benchmark.headline in found["truth"]["figures"]
    for figure, expected in EXPECTED[kind].items():
        for critic, value in zip(("truth", "random", "constant"), expected, strict=True):
            got = found[critic]["figures"][figure]["value"]
            slack = GUESSED if critic == "random" or (figure in LOOSE and critic != "truth") else 0.05 if figure == "kendall c" else 1e-9
            assert value is ... or got == (value if value is None else pytest.approx(value, abs=slack)), (critic, figure)
