import pytest
import torch

from vlreward.data.media import Clip, Picture
from vlreward.rewards.source_kept import SourceKept
from vlreward.types import Rollout, Sample

PIXELS = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
SAMPLE = Sample(id="s", prompt="make it blue", visuals=(Picture(PIXELS),))


def score(made, sample=SAMPLE, **keys) -> float:
    return SourceKept(**keys).score([Rollout(sample=sample, made=made)]).scores.item()


def edited(rows: int) -> torch.Tensor:
    """The first rows are far from what they were."""
    pixels = PIXELS.clone()
    pixels[:, :rows] = (pixels[:, :rows] + 0.5) % 1
    return pixels


def test_what_was_left_counts_up_to_enough_and_no_further():
    assert [score(Picture(edited(rows)), enough=1.0) for rows in (0, 4, 16)] == pytest.approx([1, 3 / 4, 0], abs=1e-6)
    assert score(Picture(edited(8))) == pytest.approx(0.5 / 0.7)
    assert score(Picture(edited(4))) == score(Picture(PIXELS)) == 1.0, "leaving it as it is gains nothing over a small edit"


def test_small_differences_cost_little_and_sizes_are_brought_together():
    near = score(Picture((PIXELS + 0.02).clamp(0, 1)), enough=1.0)
    assert 0.9 < near < 1
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 4, 4), (32, 32), mode="bilinear")[0]
    halved = torch.nn.functional.avg_pool2d(smooth, 2)
    assert score(Picture(halved), Sample(id="s", prompt="", visuals=(Picture(smooth),))) > 0.9


def test_a_clip_is_judged_by_its_first_frame():
    assert score(Clip(torch.stack([PIXELS, edited(16)]))) == 1.0
    assert score(Clip(torch.stack([edited(16), PIXELS]))) == pytest.approx(0, abs=1e-6)


def test_it_does_not_apply_where_nothing_was_edited():
    rows = [Rollout(sample=SAMPLE), Rollout(sample=Sample(id="s", prompt=""), made=Picture(PIXELS))]
    output = SourceKept().score(rows)
    assert output.scores.isnan().all() and output.errors == [None, None]
