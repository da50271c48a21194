import itertools

import numpy as np
import pytest

from vlreward.rewards.matching import Boxes, Pairs


def best(block: np.ndarray) -> float:
    """The highest sum over all one-to-one matchings, by trying them all."""
    block = block if block.shape[0] <= block.shape[1] else block.T
    return max(
        (sum(block[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(block.shape[1]), len(block))), default=0
    )


def test_the_matching_of_every_row_is_the_best_one():
    rng = np.random.default_rng(0)
    answered, wanted = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    pairs = Pairs.of(answered, wanted)
    values = np.where(rng.random(len(pairs.rows)) < 0.3, 0, rng.random(len(pairs.rows)))
    matched = pairs.match(values)
    for row in range(200):
        block = values[pairs.rows == row].reshape(answered[row], wanted[row])
        mine = matched[pairs.rows[matched] == row]
        assert values[mine].sum() == pytest.approx(best(block))
        for side in (pairs.answered, pairs.wanted):
            assert len(set(side[mine])) == len(mine), "a box is matched twice"
    assert (values[matched] > 0).all()


def test_pairs_name_the_boxes_of_their_own_row():
    pairs = Pairs.of(np.array([2, 0, 1]), np.array([1, 3, 2]))
    assert pairs.answered.tolist() == [0, 1, 2, 2]
    assert pairs.wanted.tolist() == [0, 0, 4, 5]
    assert pairs.rows.tolist() == [0, 0, 2, 2]


def test_boxes_can_be_kept_and_taken_by_row():
    boxes = Boxes(xyxy=np.arange(16.0).reshape(4, 4), counts=np.array([1, 0, 3]), labels=np.arange(4))
    taken = boxes.take(np.array([2, 1, 0, 2]))
    assert taken.counts.tolist() == [3, 0, 1, 3]
    assert taken.labels.tolist() == [1, 2, 3, 0, 1, 2, 3]
    assert taken.row(2).tolist() == [[0, 1, 2, 3]]
    kept = boxes.keep(np.array([True, False, True, False]))
    assert kept.counts.tolist() == [1, 0, 1]
    assert kept.labels.tolist() == [0, 2]


def test_nothing_is_matched_with_nothing():
    assert Pairs.of(np.array([0]), np.array([3])).match(np.zeros(0)).tolist() == []
