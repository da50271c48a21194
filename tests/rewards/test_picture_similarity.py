import numpy as np
import pytest
from PIL import Image, ImageDraw
from skimage.metrics import structural_similarity

from vlreward.data.media import Picture
from vlreward.errors import DataError
from vlreward.rewards.picture_similarity import above, perceptual, scaled, structural


def bars(*heights, size=(320, 240), color="navy", paper="white") -> Picture:
    image = Image.new("RGB", size, paper)
    for i, height in enumerate(heights):
        x = (i + 0.5) * size[0] / (len(heights) + 0.5)
        ImageDraw.Draw(image).rectangle((x, size[1] * (1 - height), x + size[0] / 8, size[1] - 10), fill=color)
    return Picture(image)


RIGHT = bars(0.5, 0.8, 0.3)


def test_the_same_picture_is_one_and_an_empty_page_zero():
    assert structural(RIGHT, RIGHT) == pytest.approx(1.0)
    assert structural(RIGHT, Picture(Image.new("RGB", (320, 240), "white"))) == 0
    assert structural(RIGHT, Picture(Image.new("RGB", (9, 9), "gray"))) == 0
    assert perceptual(RIGHT, RIGHT, "assets/tiny-clip", "cpu") == pytest.approx(1.0)
    assert perceptual(RIGHT, Picture(Image.new("RGB", (320, 240), "white")), "assets/tiny-clip", "cpu") == 0


def test_faint_ink_counts_as_ink():
    faint = bars(0.5, 0.8, color="#d0d0d0")
    assert structural(faint, faint) == pytest.approx(1.0)
    assert structural(faint, bars(0.8, 0.5, color="#d0d0d0")) < 0.7


def test_wrong_bars_are_told_from_right_ones_where_plain_ssim_hardly_does():
    wrong = bars(0.9, 0.2, 0.6)
    plain = structural_similarity(scaled(RIGHT), scaled(wrong), channel_axis=2, data_range=255)
    assert plain > 0.75
    assert structural(RIGHT, wrong) < 0.55
    assert structural(RIGHT, bars(0.5, 0.79, 0.3)) > 0.85
    assert structural(RIGHT, bars(0.5, 0.8, 0.3, color="orange")) < 0.9


def test_another_size_of_the_same_picture_is_nearly_as_good():
    assert structural(RIGHT, bars(0.5, 0.8, 0.3, size=(640, 480))) > 0.85
    assert structural(bars(0.5, 0.8, 0.3, size=(1600, 1200)), RIGHT) > 0.8


def test_an_empty_wanted_picture_is_broken_data():
    with pytest.raises(DataError, match="empty"):
        structural(Picture(Image.new("RGB", (99, 99), "navy")), RIGHT)


def test_any_pair_of_pictures_stays_in_bounds():
    rng = np.random.default_rng(0)
    for _ in range(30):
        first, second = (Picture(rng.integers(0, 256, (*rng.integers(1, 60, 2), 3), dtype=np.uint8)) for _ in range(2))
        assert 0 <= structural(first, second) <= 1
    assert (above(2.0, 0.5), above(-1.0, 0.5), above(0.75, 0.5), above(1.0, 1.0)) == (1.0, 0.0, 0.5, 0.0)
