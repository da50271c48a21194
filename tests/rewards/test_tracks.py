import itertools
import json
import math
import random

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou

from vlreward.rewards.overlap import overlap
from vlreward.rewards.tracks import MAX_TRACKS, Hota, TubeIoU, hota, laid_out, read_tracks, wanted_tracks
from vlreward.tiny.tasks import make
from vlreward.types import Rollout

STILL = [[[0, 0, 10, 10], [50, 50, 70, 70]]] * 4


def written(tubes, names=("a", "b", "c", "d", "e")) -> str:
    rows = [
        {"frame": frame, "id": names[thing], "bbox_2d": list(box)}
        for frame, row in enumerate(tubes)
        for thing, box in enumerate(row)
        if box is not None
    ]
    return json.dumps(rows)


def score(reward, rollout, text: str, tubes) -> float:
    output = reward.score([rollout(f"<answer>{text}</answer>", tubes=tubes)])
    assert output.errors == [None], output.errors
    return output.scores.item()


@pytest.mark.parametrize("reward", [TubeIoU(), Hota()])
def test_the_exact_tracks_score_one_in_any_order_and_under_any_names(rollout, reward):
    tubes = [[[0, 0, 10, 10], None], [[1, 0, 11, 10], [50, 50, 70, 70]], [None, [52, 50, 72, 70]]]
    entries = json.loads(written(tubes, names=(7, "x")))
    assert score(reward, rollout, json.dumps(entries), tubes) == 1.0
    random.Random(0).shuffle(entries)
    assert score(reward, rollout, json.dumps(entries), tubes) == 1.0


@pytest.mark.parametrize("reward", [TubeIoU(), Hota()])
@pytest.mark.parametrize("text", ["", "nothing", "[]", '{"frame": 0, "bbox_2d": [1, 2]}', "[0, 0, 10, 10]", "frame 99: [0, 0, 10, 10]"])
def test_an_answer_without_a_box_in_a_frame_of_the_clip_scores_zero(rollout, reward, text):
    assert score(reward, rollout, text, STILL) == 0.0


def test_lines_of_text_are_read_too():
    assert read_tracks("frame 0: [1, 2, 3, 4]\n1: [5, 6, 7, 8]") == [(0, "", [1, 2, 3, 4]), (1, "", [5, 6, 7, 8])]
    assert read_tracks("frame 3, id 2: [1, 2, 3, 4]") == [(3, "2", [1, 2, 3, 4])]
    assert read_tracks('{"frame": 1.5, "label": "cat", "bbox_2d": [1, 2, 3, 4]}') == [(None, "cat", [1, 2, 3, 4])]


def test_a_worked_tube(rollout):
    tubes = [[[0, 0, 10, 10]]] * 4
    half = [{"frame": frame, "bbox_2d": [0, 0, 10, 5]} for frame in (0, 1)]
    assert score(TubeIoU(), rollout, json.dumps(half), tubes) == pytest.approx(2 * 0.5 / 4)
    assert score(TubeIoU(form="hit", floor=0.3), rollout, json.dumps(half), tubes) == 0.0
    late = [[None]] * 2 + [[[0, 0, 10, 10]]] * 2
    assert score(TubeIoU(), rollout, written(tubes), late) == 0.5, "frames in which the thing is not seen count"


def test_spam_does_not_help_a_tube(rollout):
    one = [[row[0]] for row in STILL]
    right = json.loads(written(one))
    assert score(TubeIoU(), rollout, written(STILL), one) == 0.5
    assert score(TubeIoU(), rollout, json.dumps(right + right), one) == 0.0, "a frame with two boxes of a tube is void"
    beyond = [{"frame": 9, "id": "a", "bbox_2d": [0, 0, 10, 10]}] * 4
    assert score(TubeIoU(), rollout, json.dumps(right + beyond), one) == 0.5
    flood = [{"frame": 0, "id": i, "bbox_2d": [0, 0, 10, 10]} for i in range(MAX_TRACKS * 2)]
    assert score(TubeIoU(), rollout, json.dumps(right + flood), one) == pytest.approx(1 / (2 * MAX_TRACKS + 1))
    far = [entry | {"bbox_2d": [50, 50, 60, 60]} for entry in flood]
    assert score(Hota(), rollout, json.dumps(right[:1] + far), one[:1]) == pytest.approx(math.sqrt(1 / (2 * MAX_TRACKS + 1)))


def test_exchanged_identities_cost_association_but_no_detection(rollout):
    entries = json.loads(written(STILL))
    for entry in entries:
        entry["id"] = entry["id"] if entry["frame"] < 2 else {"a": "b", "b": "a"}[entry["id"]]
    output = Hota().score([rollout(f"<answer>{json.dumps(entries)}</answer>", tubes=STILL)])
    assert output.scores.item() == pytest.approx(math.sqrt(1 / 3)), "each box's tracks share 2 of 6"
    assert output.notes[0] == "HOTA 0.58: detection 1.00, association 0.33"


def test_a_new_name_in_every_frame_costs_association(rollout):
    one = [[row[0]] for row in STILL]
    entries = [entry | {"id": i} for i, entry in enumerate(json.loads(written(one)))]
    assert score(Hota(), rollout, json.dumps(entries), one) == pytest.approx(math.sqrt(1 / 4))


def by_definition(answered, wanted) -> float:
    """HOTA from the text of the paper, with sets and loops; tracks are {id: {frame: box}}."""
    frames = sorted({frame for tracks in (answered, wanted) for track in tracks.values() for frame in track})

    def iou(a, b) -> float:
        return float(overlap(np.array(a), np.array(b)))

    agreement = dict.fromkeys(itertools.product(wanted, answered), 0.0)
    present = {}
    for frame in frames:
        here = [[name for name, track in tracks.items() if frame in track] for tracks in (wanted, answered)]
        similar = {(w, a): iou(wanted[w][frame], answered[a][frame]) for w in here[0] for a in here[1]}
        present[frame] = (*here, similar)
        for (w, a), value in similar.items():
            either = sum(similar[w, other] for other in here[1]) + sum(similar[other, a] for other in here[0]) - value
            agreement[w, a] += value / either if either > 0 else 0
    aligned = {(w, a): value / (len(wanted[w]) + len(answered[a]) - value) for (w, a), value in agreement.items()}
    scores = []
    for step in range(1, 20):
        alpha, matches = step * 0.05, []
        for frame in frames:
            ws, as_, similar = present[frame]
            table = np.array([[aligned[w, a] * similar[w, a] for a in as_] for w in ws]).reshape(len(ws), len(as_))
            for i, j in zip(*linear_sum_assignment(-table), strict=True):
                if similar[ws[i], as_[j]] >= alpha - 1e-9:
                    matches.append((ws[i], as_[j]))
        false = sum(map(len, answered.values())) - len(matches)
        missed = sum(map(len, wanted.values())) - len(matches)
        detection = len(matches) / (len(matches) + false + missed)
        association = 0.0
        for w, a in matches:
            together = matches.count((w, a))
            association += together / (len(wanted[w]) + len(answered[a]) - together)
        scores.append(math.sqrt(detection * association / max(len(matches), 1)))
    return sum(scores) / len(scores)


def random_tracks(rng: random.Random, things: int, frames: int, jitter: float) -> list[list]:
    rows = []
    starts = [(rng.uniform(0, 60), rng.uniform(0, 60)) for _ in range(things)]
    for frame in range(frames):
        row = []
        for x, y in starts:
            x, y = x + frame + rng.uniform(-jitter, jitter), y + rng.uniform(-jitter, jitter)
            row.append(None if rng.random() < 0.2 else [max(x, 0), max(y, 0), max(x, 0) + 20, max(y, 0) + 20])
        rows.append(row)
    return rows


def test_hota_agrees_with_its_definition():
    rng = random.Random(0)
    worst = 0.0
    for _ in range(60):
        frames, things = rng.randint(1, 6), rng.randint(1, 4)
        state = rng.getstate()
        wanted = random_tracks(rng, things, frames, 1)
        rng.setstate(state)
        answered = random_tracks(rng, things, frames, rng.choice((1, 4, 10)))
        if not all(any(row[thing] is not None for row in wanted) for thing in range(things)):
            continue
        names = [rng.sample("abcd", things) for _ in range(frames)] if rng.random() < 0.5 else [list("abcd")] * frames
        found = [(f, names[f][t], box) for f, row in enumerate(answered) for t, box in enumerate(row) if box is not None]
        if found:
            ours = hota(laid_out(found, frames, np.ones(4), np.full(4, np.inf)), wanted_tracks(wanted))[0]
            tracks = {}
            for frame, name, box in found:
                tracks.setdefault(name, {})[frame] = box
            truth = {t: {f: row[t] for f, row in enumerate(wanted) if row[t] is not None} for t in range(things)}
            worst = max(worst, abs(ours - by_definition(tracks, truth)))
    assert worst < 1e-12


@pytest.mark.parametrize("reward", [TubeIoU(frame="unit"), Hota(frame="unit")])
def test_the_tiny_worlds_clips_can_be_tracked(reward):
    sample = make("motions", 3)
    unit = [[[value / 96 for value in box] for box in row] for row in sample.target["tubes"]]
    text = f"<answer>{written(unit)}</answer>"
    assert reward.score([Rollout(sample=sample, text=text)]).scores.item() == pytest.approx(1.0)


@pytest.mark.parametrize("tubes", [[], [[]], [[None]], [[[0, 0, 1, 1]], []], [[[5, 0, 1, 1]]], 3, [3], [[[0, 0, 1, 1], None]]])
def test_a_wrong_target_breaks_its_row_only(rollout, tubes):
    good = rollout(f"<answer>{written(STILL)}</answer>", tubes=STILL)
    for reward in (TubeIoU(), Hota()):
        output = reward.score([rollout("<answer>frame 0: [0, 0, 1, 1]</answer>", tubes=tubes), good])
        assert output.errors[0].startswith("target.tubes")
        assert output.scores[1] == 1.0


@pytest.mark.parametrize("reward", [TubeIoU(), Hota(), TubeIoU(form="steps")])
def test_no_answer_leaves_the_bounds_or_breaks(rollout, hostile, reward):
    output = reward.score([rollout(text, tubes=STILL) for text in hostile])
    assert not any(output.errors)
    assert ((output.scores >= 0) & (output.scores <= 1)).all()


def test_tubes_agree_with_a_loop_over_frames_and_all_permutations(rollout):
    rng = random.Random(0)
    for _ in range(100):
        frames, sizes = rng.randint(1, 5), (rng.randint(1, 3), rng.randint(1, 3))
        answered, wanted = (
            [[random_box(rng) if rng.random() < 0.8 or not frame else None for _ in range(things)] for frame in range(frames)]
            for things in sizes
        )
        value = np.zeros((max(sizes), max(sizes)))
        for i, j in itertools.product(range(sizes[0]), range(sizes[1])):
            pairs = [(first[i], second[j]) for first, second in zip(answered, wanted) if first[i] or second[j]]
            shared = [box_iou(*(torch.tensor([box], dtype=torch.float64) for box in pair)).item() for pair in pairs if all(pair)]
            value[i, j] = sum(shared) / len(pairs)
        best = max(sum(value[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(max(sizes)))) / max(sizes)
        said = [{"frame": f, "id": i, "bbox_2d": box} for f, row in enumerate(answered) for i, box in enumerate(row) if box]
        output = TubeIoU().score([rollout(f"<answer>{json.dumps(said)}</answer>", tubes=wanted)])
        assert output.scores.item() == pytest.approx(best, abs=1e-12)


def random_box(rng: random.Random) -> list[int]:
    x, y = rng.randint(0, 9), rng.randint(0, 9)
    return [x, y, x + rng.randint(1, 9), y + rng.randint(1, 9)]
