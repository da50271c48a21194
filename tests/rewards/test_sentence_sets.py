import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from encoders import save_encoder
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import directed_hausdorff
from scipy.stats import energy_distance, wasserstein_distance

from vlreward.rewards.sentence_sets import MAX_SENTENCES, SentenceSets, mean_projection, set_similarity, sliced_wasserstein, split_sentences
from vlreward.types import Rollout, Sample

ALL = ("chamfer", "hausdorff", "energy", "sliced_wasserstein", "assignment")
REPORT = "The red circle is on the left. It is small. There are two blue squares below."


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(save_encoder(tmp_path_factory.mktemp("encoder")))


def score(folder, answer, distance, wanted=REPORT) -> float:
    row = Rollout(sample=Sample(id="s", prompt="p", target={"answer": wanted}), text=f"<answer>{answer}</answer>")
    output = SentenceSets(model=folder, distance=distance).score([row])
    assert output.errors == [None], output.errors
    return output.scores.item()


def points(count: int, dimensions: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


@pytest.mark.parametrize("distance", ALL)
def test_the_same_sentences_in_any_order_score_the_top(folder, distance):
    shuffled = " ".join(random.Random(0).sample(split_sentences(REPORT), 3))
    assert score(folder, REPORT, distance) == pytest.approx(1.0, abs=1e-3)
    assert score(folder, shuffled, distance) == pytest.approx(1.0, abs=1e-3)
    assert score(folder, shuffled, distance, ["A green triangle.", REPORT]) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("distance", ALL)
def test_nothing_is_worth_nothing_and_other_or_fewer_sentences_less_than_all(folder, distance):
    assert score(folder, "", distance) == score(folder, "... !", distance) == 0.0
    whole = score(folder, REPORT, distance)
    assert score(folder, "The red circle is on the left.", distance) < whole - 0.02
    assert score(folder, "Three green triangles. Right and above.", distance) < whole - 0.02
    assert score(folder, "It is small. " * (MAX_SENTENCES + 1), distance) == 0.0


def test_repeating_and_adding_sentences_costs_under_assignment(folder):
    assert score(folder, REPORT + " It is small." * 3, "assignment") < 0.6
    assert score(folder, REPORT + " It is small." * 3, "chamfer") == pytest.approx(1.0, abs=1e-3)
    assert score(folder, REPORT + " A green triangle is above.", "hausdorff") < 0.95


def test_distances_by_hand():
    east, north, west = (torch.tensor([point], dtype=torch.float64) for point in ([1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]))
    both = torch.cat([east, west])
    assert set_similarity(east, west, "assignment") == set_similarity(east, west, "chamfer") == set_similarity(east, west, "energy") == 0.0
    assert set_similarity(both, east, "chamfer") == pytest.approx(1 - (2 / 2 + 0) / 2 / 2)
    assert set_similarity(both, east, "hausdorff") == 0.0
    assert set_similarity(both, east, "assignment") == 0.5
    assert set_similarity(east, north, "hausdorff") == pytest.approx(1 - 2**0.5 / 2)
    assert set_similarity(both, both, "sliced_wasserstein") == 1.0


@pytest.mark.parametrize(("first", "second"), [(1, 1), (3, 5), (4, 2), (7, 7)])
def test_distances_agree_with_scipy(first, second):
    a, b = points(first, 6, 1), points(second, 6, 2)
    hausdorff = max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0])
    assert set_similarity(a, b, "hausdorff") == pytest.approx(1 - hausdorff / 2, abs=1e-9)
    flat_a, flat_b = a[:, :1], b[:, :1]
    value = energy_distance(flat_a.flatten(), flat_b.flatten())
    assert 2 * (1 - set_similarity(flat_a, flat_b, "energy")) == pytest.approx(value, abs=1e-7)
    directions = torch.randn(6, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    directions = directions / directions.norm(dim=0)
    theirs = np.mean([wasserstein_distance(a @ direction, b @ direction) for direction in directions.T])
    assert float(sliced_wasserstein(a, b, 64)) == pytest.approx(theirs, abs=1e-12)


def test_the_mean_projection_is_what_many_directions_give():
    directions = F.normalize(torch.randn(200_000, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert mean_projection(5) == pytest.approx(directions[:, 0].abs().mean().item(), rel=0.01)


def test_a_broken_target_costs_its_own_row(folder):
    rows = [
        Rollout(sample=Sample(id="s", prompt="p", target={"answer": wanted}), text=f"<answer>{REPORT}</answer>") for wanted in ("", REPORT)
    ]
    output = SentenceSets(model=folder).score(rows)
    assert output.broken.tolist() == [True, False]


def test_sentences_are_split_at_their_ends():
    assert split_sentences("- One. Two!\n* Three 3.5 m\n\n…") == ["One.", "Two!", "Three 3.5 m"]
    assert split_sentences("第一句。第二句！三") == ["第一句。", "第二句！", "三"]


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 999), st.sampled_from(ALL))
def test_similarities_are_symmetric_and_stay_in_bounds(first, second, seed, distance):
    a, b = points(first, 4, seed), points(second, 4, seed + 1)
    value = set_similarity(a, b, distance)
    assert 0 <= value <= 1
    assert value == pytest.approx(set_similarity(b, a, distance), abs=1e-9)
