"""Which rollouts are shown, and where their boxes are drawn."""

import json
import math

from PIL import Image

from vlreward.report.build import write_report
from vlreward.report.cards import OUTSET, choose, matched, ranked, spread
from vlreward.report.figures import number
from vlreward.report.folder import read_run
from vlreward.report.pictures import LARGEST, Album, Embedded


def test_the_highest_total_leads_and_a_sample_is_shown_once():
    rows = [{"id": "a", "total": 1.0, "step": 1}, {"id": "a", "total": 1.0, "step": 5}, {"id": "b", "total": 0.2, "step": 9}]
    assert [(row["id"], row["step"]) for row in ranked(rows, 1)] == [("a", 5), ("b", 9)]
    assert [row["id"] for row in ranked(rows, -1)] == ["b", "a"]


def test_samples_are_matched_by_id_and_ordered_by_gain():
    rows = [{"id": i, "phase": "before", "total": total} for i, total in (("a", 0.5), ("b", 0.1), ("c", 0.9), ("only before", 0.2))]
    rows += [{"id": i, "phase": "after", "total": total} for i, total in (("c", 0.1), ("b", 0.9), ("a", None))]
    found = matched(rows)
    assert [before["id"] for before, _, _ in found] == ["b", "c", "a"]
    assert [number(gain) for *_, gain in found] == [0.8, -0.8, None]


def test_the_shown_pairs_run_from_the_greatest_gain_to_the_greatest_loss():
    assert spread(list(range(100)), 4) == [0, 33, 66, 99]
    assert spread([1, 2], 4) == [1, 2]


def test_training_rollouts_are_ranked_without_the_broken_ones(runs):
    chosen = choose(read_run(runs["vlm"]), Album())
    totals = [card.total for card in chosen.best]
    assert totals == sorted(totals, key=lambda total: -(total or 0))
    assert {card.phase for card in (*chosen.best, *chosen.worst)} == {"train"}
    assert all(card.total is not None for card in (*chosen.best, *chosen.worst))
    assert chosen.broken
    assert all(card.errors for card in chosen.broken)
    assert {(card.id, card.step) for card in chosen.best}.isdisjoint({(card.id, card.step) for card in chosen.worst})


def test_few_rollouts_are_shown_once_each(runs):
    record = read_run(runs["score"])
    chosen = choose(record, Album())
    shown = [card.id for card in (*chosen.best, *chosen.worst)]
    assert len(shown) == len(set(shown)) == 11
    assert [card.id for card in chosen.broken] == ["pair-1-wrong"]


def test_boxes_are_drawn_just_outside_of_their_place_and_nonsense_is_left_out(runs, tmp_path):
    record = read_run(runs["vlm"])
    row = next(row for row in record.rollouts if row["picture"] and not row["errors"])
    good = {"box": [10, 20, 30, 50], "role": "wanted", "label": "x"}
    bad = [{"box": box, "role": "wanted"} for box in (None, [1, 2, 3], [1, 2, 3, math.nan], "1234", [1, 2, 3, "4"])]
    rows = [{**row, "marks": [good, *bad, {**good, "role": "guessed"}, 7], "phase": "train", "total": 9.0}]
    folder = tmp_path / "x"
    (folder / "media").mkdir(parents=True)
    (folder / row["picture"]).write_bytes((runs["vlm"] / row["picture"]).read_bytes())
    (folder / "run.json").write_text("{}")
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    [card] = choose(read_run(folder), Album()).best
    assert isinstance(card.picture, Embedded)
    out = OUTSET / card.picture.scale
    [box] = card.boxes
    assert (box.x, box.y, box.width, box.height) == (10 - out, 20 - out, 20 + 2 * out, 30 + 2 * out)


def test_calls_of_tools_are_shown_with_what_came_back(runs, tmp_path):
    row = next(row for row in read_run(runs["vlm"]).rollouts if row["picture"] and not row["errors"])
    crop = {
        "name": "crop",
        "arguments": {"bbox_2d": [1, 2, 3, 4]},
        "reply": "Picture 2 <shows> it.",
        "visuals": [row["picture"]],
        "error": None,
    }
    answer = {"name": "answer", "arguments": {}, "reply": "", "visuals": []}
    folder = tmp_path / "x"
    (folder / "media").mkdir(parents=True)
    (folder / row["picture"]).write_bytes((runs["vlm"] / row["picture"]).read_bytes())
    (folder / "run.json").write_text("{}")
    (folder / "rollouts.jsonl").write_text(json.dumps({**row, "phase": "train", "total": 1.0, "actions": [crop, answer, 7]}) + "\n")
    [card] = choose(read_run(folder), Album()).best
    [call] = card.calls
    assert (call.asked, call.reply) == ("crop(bbox_2d: [1, 2, 3, 4])", "Picture 2 <shows> it.")
    assert call.pictures == [card.picture]
    assert "Picture 2 &lt;shows&gt; it." in write_report(folder).read_text()


def test_small_pictures_are_shown_in_whole_multiples_and_large_ones_are_shrunk(tmp_path):
    for side in (32, 48, 96, 2000):
        Image.new("RGB", (side, side), (side % 255, 0, 0)).save(tmp_path / f"{side}.png")
    album = Album()
    small, middle, tile, large = (album.add(tmp_path, f"{side}.png") for side in (32, 48, 96, 2000))
    assert isinstance(small, Embedded)
    assert (small.shown, small.pixelated) == (128, True)
    assert isinstance(middle, Embedded)
    assert (middle.shown, middle.pixelated) == (192, True)
    assert isinstance(tile, Embedded)
    assert (tile.shown, tile.pixelated) == (192, False)
    assert isinstance(large, Embedded)
    assert (large.width, large.shown) == (2000, 192)
    assert large.uri.startswith("data:image/webp")
    assert LARGEST < 2000


def test_a_full_page_says_which_picture_it_leaves_out(tmp_path, monkeypatch):
    monkeypatch.setattr("vlreward.report.pictures.PAGE_BYTES", 150)
    for name, color in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (32, 32), color).save(tmp_path / f"{name}.png")
    album = Album()
    assert isinstance(album.add(tmp_path, "a.png"), Embedded)
    assert "b.png is not embedded" in str(album.add(tmp_path, "b.png"))
    (tmp_path / "copy.png").write_bytes((tmp_path / "a.png").read_bytes())
    assert album.add(tmp_path, "copy.png") is album.add(tmp_path, "a.png"), "what is there already takes no room"


def test_a_clip_keeps_its_frames(tmp_path):
    frames = [Image.new("RGB", (16, 16), (40 * i, 0, 0)) for i in range(4)]
    frames[0].save(tmp_path / "clip.webp", save_all=True, append_images=frames[1:], duration=100, loop=0, lossless=True)
    found = Album().add(tmp_path, "clip.webp")
    assert isinstance(found, Embedded)
    import base64
    import io

    with Image.open(io.BytesIO(base64.b64decode(found.uri.split(",")[1]))) as clip:
        assert getattr(clip, "n_frames", 1) == 4
