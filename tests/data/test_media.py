import io

import numpy as np
import pytest
import torch
from PIL import Image

from vlreward.data import media
from vlreward.data.media import Clip, Picture
from vlreward.errors import DataError


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def colours():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8))


def test_every_way_in_gives_the_same_pixels(colours, tmp_path):
    colours.save(tmp_path / "a.png")
    tensor = torch.from_numpy(np.array(colours)).permute(2, 0, 1) / 255
    pictures = [
        Picture(source) for source in (colours, tmp_path / "a.png", str(tmp_path / "a.png"), png(colours), np.asarray(colours), tensor)
    ]
    for picture in pictures:
        assert picture.size == (7, 5)
        assert torch.equal(picture.tensor, tensor)
        assert np.array_equal(np.asarray(picture.pil), np.asarray(colours))


def test_transparency_is_laid_on_white_and_grey_and_palette_become_rgb():
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert Picture(clear).pil.getpixel((0, 0)) == (255, 255, 255)
    assert Picture(Image.new("L", (2, 2), 7)).pil.getpixel((0, 0)) == (7, 7, 7)
    assert Picture(Image.new("RGB", (2, 2), "red").convert("P")).pil.getpixel((0, 0)) == (255, 0, 0)
    deep = Image.fromarray(np.array([[0, 65535]], dtype=np.uint16))
    assert Picture(deep).pil.getpixel((1, 0)) == (255, 255, 255)


def test_a_turned_photograph_is_put_upright():
    image = Image.new("RGB", (4, 2))
    exif = image.getexif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    image.save(stream, "JPEG", exif=exif)
    turned = Picture(stream.getvalue())
    assert turned.size == (2, 4) == turned.pil.size


def test_a_size_is_read_from_the_header_alone(tmp_path):
    image = Image.effect_noise((300, 200), 50)
    image.save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:3000])
    half = Picture(tmp_path / "half.jpg")
    assert half.size == (300, 200)
    with pytest.raises(DataError, match=r"half\.jpg: not a readable picture"):
        _ = half.pil


@pytest.mark.parametrize("data", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n broken"])
def test_broken_bytes_are_the_datas_fault(data):
    with pytest.raises(DataError, match="not a readable picture"):
        _ = Picture(data).tensor


def test_a_cut_off_file_and_a_missing_one_are_named(tmp_path, colours):
    big = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    (tmp_path / "cut.png").write_bytes(png(big)[:2000])
    with pytest.raises(DataError, match=r"cut\.png: not a readable picture"):
        _ = Picture(tmp_path / "cut.png").pil
    with pytest.raises(DataError, match="there is no such picture"):
        _ = Picture(tmp_path / "none.png").pil


def test_a_picture_beyond_the_limit_is_refused_before_it_is_decoded(monkeypatch, colours):
    monkeypatch.setattr(media, "MAX_PIXELS", 34)
    with pytest.raises(DataError, match="7 x 5 pixels, more than the 34 allowed"):
        _ = Picture(png(colours)).pil


def test_gradient_flows_through_a_picture_made_of_a_tensor():
    made = torch.rand(3, 4, 4, requires_grad=True)
    Picture(made).tensor.sum().backward()
    assert made.grad is not None
    assert (made.grad == 1).all()


def test_a_clip_gives_its_frames():
    frames = torch.rand(3, 3, 4, 6)
    clip = Clip(frames)
    assert clip.size == (6, 4)
    assert torch.equal(clip.pictures[1].tensor, frames[1])
    assert torch.equal(Clip(clip.pictures).tensor, frames)


def test_a_video_file_is_read_at_evenly_spaced_frames(tmp_path):
    cv2 = pytest.importorskip("cv2")
    path = str(tmp_path / "v.mp4")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"mp4v"), 8, (32, 32))
    for level in range(0, 200, 10):
        writer.write(np.full((32, 32, 3), level, np.uint8))
    writer.release()
    means = Clip(path, frames=5).tensor.mean((1, 2, 3)) * 255
    assert len(means) == 5
    assert torch.allclose(means, torch.tensor([0.0, 50.0, 100.0, 140.0, 190.0]), atol=12)


def test_a_broken_video_is_the_datas_fault(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"v\.mp4: not a readable clip"):
        _ = Clip(tmp_path / "v.mp4").tensor
    with pytest.raises(DataError, match="there is no such clip"):
        _ = Clip(tmp_path / "w.mp4").tensor
