import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import ops

from vlreward.errors import ConfigError
from vlreward.rewards.boxes import BoxIoU
from vlreward.rewards.overlap import LOWEST, overlap, pairwise_iou

THEIRS = {"iou": ops.box_iou, "giou": ops.generalized_box_iou, "diou": ops.distance_box_iou, "ciou": ops.complete_box_iou}
coordinate = st.floats(0, 100).map(lambda v: round(v, 2))
box = st.tuples(coordinate, coordinate, st.floats(1, 50), st.floats(1, 50)).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])
boxes = st.lists(box, min_size=1, max_size=5)


@pytest.mark.parametrize("measure", LOWEST)
@given(boxes, boxes)
def test_overlaps_agree_with_torchvision(measure, first, second):
    ours = overlap(np.array(first)[:, None], np.array(second)[None], measure)
    theirs = THEIRS[measure](torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64)).numpy()
    assert np.abs(ours - theirs).max() < (1e-6 if measure in ("diou", "ciou") else 1e-12), "torchvision adds 1e-7 to two denominators"


@pytest.mark.parametrize(
    ("measure", "wanted"),
    [
        ("iou", 200 / 600),
        ("giou", 200 / 600),
        ("diou", 200 / 600 - 10**2 / (30**2 + 20**2)),
        ("ciou", 200 / 600 - 10**2 / (30**2 + 20**2)),
    ],
)
def test_a_worked_overlap(measure, wanted):
    assert overlap(np.array([20.0, 10, 40, 30]), np.array([10.0, 10, 30, 30]), measure) == pytest.approx(wanted)


@pytest.mark.parametrize("measure", LOWEST)
def test_boxes_without_extent_are_no_nan(measure):
    flat = np.array([[1, 1, 1, 1], [1, 1, 5, 1], [2, 0, 2, 9], [0, 0, 9, 9]], dtype=np.float64)
    values = overlap(flat[:, None], flat[None], measure)
    assert np.isfinite(values).all()
    assert (values >= LOWEST[measure]).all()
    assert (values <= 1).all()
    assert pairwise_iou(flat[:1], flat[:1]).tolist() == [[0.0]]
    if measure == "giou":
        theirs = ops.generalized_box_iou(torch.tensor(flat[:1]), torch.tensor(flat[:1]))
        assert theirs.isnan().all(), "torchvision has mended it: the docstring of overlap can say so"


@pytest.mark.parametrize("measure", LOWEST)
def test_no_overlap_falls_below_the_bound_that_maps_it(measure):
    thin, far = np.array([0, 0, 1e-6, 1e6]), np.array([1e9, 0, 1e9 + 1e6, 1e-6])
    assert LOWEST[measure] <= overlap(thin, far, measure) < LOWEST[measure] + 0.1


def test_the_forms_of_an_overlap():
    values = np.array([0.0, 0.3, 0.5, 0.75, 1.0])
    assert BoxIoU().worth(values).tolist() == values.tolist()
    assert BoxIoU(floor=0.5).worth(values).tolist() == [0, 0, 0.5, 0.75, 1]
    assert BoxIoU(form="hit", floor=0.5).worth(values).tolist() == [0, 0, 1, 1, 1]
    assert BoxIoU(form="soft", floor=0.5).worth(values).tolist() == [0, 0, 0, 0.5, 1]
    assert BoxIoU(form="steps").worth(values) == pytest.approx([0, 0, 0.1, 0.6, 1])


def test_forms_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="'hit' needs more"):
        BoxIoU(form="hit")
    with pytest.raises(ConfigError, match="leaves nothing above it"):
        BoxIoU(form="soft", floor=1.0)
