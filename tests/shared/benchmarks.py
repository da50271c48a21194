"""Small benchmarks in the published layouts, drawn from the tiny world, and a critic that knows what is right in them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vlreward.rewards.base import Reward
from vlreward.tiny.scene import scene
from vlreward.types import Rollout

POOL, SIDE = 12, 32
TRUTH: dict[tuple[str, str], float] = {}
"""(words, hash of the picture's file) -> how good the attempt is; filled by the builders"""


@dataclass(kw_only=True)
class Truth(Reward):
    """What the builders noted of an attempt."""

    kind = "truth"
    bounds = (-100.0, 100.0)

    def one(self, rollout: Rollout) -> float:
        source = getattr(rollout.visual, "_source", b"")
        return TRUTH[rollout.words, _hash(np.ascontiguousarray(source).tobytes() if isinstance(source, np.ndarray) else source)]


@cache
def drawing(number: int) -> bytes:
    """One of a few pictures of the tiny world, as PNG."""
    stream = io.BytesIO()
    scene(random.Random(f"bench/{number}")).picture(SIDE).save(stream, "PNG")
    return stream.getvalue()


def words(number: int) -> str:
    """The caption of one of them."""
    return scene(random.Random(f"bench/{number}")).caption


def _hash(data: Any) -> str:
    return hashlib.sha1(data if isinstance(data, bytes) else Path(data).read_bytes() if data is not None else b"").hexdigest()


@dataclass
class World:
    """A folder that a benchmark is written into, and its random choices."""

    folder: Path
    count: int = 240
    rng: random.Random = field(default_factory=lambda: random.Random(7))

    def picture(self, number: int, place: str = "") -> str:
        """Relative path of a picture of the pool."""
        path = self.folder / place / f"{number % POOL}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(drawing(number % POOL))
        return str(path.relative_to(self.folder))

    def clip(self, number: int) -> str:
        path = self.folder / f"{number % POOL}.mp4"
        if not path.exists():
            import cv2

            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 8, (SIDE, SIDE))  # type: ignore[attr-defined]
            for shift in range(3):
                writer.write(np.roll(np.asarray(Image.open(io.BytesIO(drawing(number % POOL))))[:, :, ::-1], shift, 1))
            writer.release()
        return path.name

    def note(self, said: str, path: str | bytes | None, quality: float) -> None:
        TRUTH[said, _hash(self.folder / path if isinstance(path, str) else path)] = quality

    def two(self) -> tuple[int, int]:
        first, second = self.rng.sample(range(POOL), 2)
        return first, second

    def json(self, name: str, tree: Any) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(json.dumps(tree))

    def lines(self, name: str, rows: list[dict[str, Any]]) -> None:
        (self.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def saved(self, splits: dict[str, list[dict[str, Any]]]) -> None:
        from datasets import Dataset, DatasetDict

        DatasetDict({name: Dataset.from_list(rows) for name, rows in splits.items()}).save_to_disk(str(self.folder))

    def parquet(self, rows: list[dict[str, Any]]) -> None:
        import pyarrow
        import pyarrow.parquet

        (self.folder / "data").mkdir()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), self.folder / "data" / "test-00000-of-00001.parquet")

    def answers(self, number: int, picture: str | bytes | None, qualities: list[float]) -> list[str]:
        """Texts for item `number`, of different lengths, noted with their qualities."""
        texts = [
            f"Item {number}: {words(self.rng.randrange(POOL))}{' indeed' * self.rng.randint(0, 4)}. {i}" for i in range(len(qualities))
        ]
        for text, quality in zip(texts, qualities, strict=True):
            self.note(text, picture, quality)
        return texts

    def shuffled(self, values: list[Any]) -> list[Any]:
        return self.rng.sample(values, len(values))


BUILDERS: dict[str, Callable[[World], None]] = {}


def builder(function: Callable[[World], None]) -> Callable[[World], None]:
    BUILDERS[function.__name__] = function
    return function


def build(kind: str, folder: Path, count: int = 240) -> Path:
    """Write a benchmark of a kind; its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    BUILDERS[kind](World(folder, count))
    return folder


@builder
def vl_reward_bench(world: World) -> None:
    rows = []
    for i in range(world.count):
        image, rank = drawing(i % POOL), world.shuffled([0, 1])
        name = ["RLAIF-V-", "mathverse_", "wildvision-"][i % 3]
        answers = world.answers(i, image, [1.0 - r for r in rank])
        rows.append({"id": f"{name}{i // 2}", "query": f"What is it? {i}", "response": answers, "human_ranking": rank,
                     "image": {"bytes": image, "path": None}, "query_source": ""})  # fmt: skip
    world.saved({"test": rows})


@builder
def multimodal_reward_bench(world: World) -> None:
    rows = []
    for i in range(world.count):
        image, better = world.picture(i, "images"), world.rng.choice(["Output1", "Output2"])
        first, second = world.answers(i, image, [float(better == "Output1"), float(better == "Output2")])
        category = ["general/correctness", "safety", "reasoning"][i % 3]
        rows.append({"ID": f"{'pairs' if i % 2 else 'math'}-{i}", "Text": "What is it?", "Image": image, "Output1": first,
                     "Output2": second, "Better": better, "Category": category})  # fmt: skip
    world.json("all_data.json", rows)


@builder
def mm_rlhf(world: World) -> None:
    rows = []
    for i in range(world.count):
        image = world.picture(i, f"images/{['mcq', 'long', 'safety'][i % 3]}")
        chosen, rejected = world.answers(i, image, [1.0, 0.0])
        rows.append({"id": i // 2, "prompt": "What is it?", "chosen": chosen, "rejected": rejected, "image": image})
    world.lines("mm_reward_bench.jsonl", rows)


@builder
def reward_bench_2(world: World) -> None:
    rows = []
    for i in range(world.count):
        chosen, *rejected = world.answers(i, None, [1.0, 0.0, 0.0, 0.0])
        rows.append({"id": str(i), "prompt": "Say it.", "chosen": [chosen], "rejected": rejected, "subset": ["Math", "Focus"][i % 2]})
    for i in range(world.count // 4):
        for kind, right in (("tied", 2), ("ref", 1)):
            texts = world.answers(1000 + 2 * i + right, None, [1.0] * right + [0.0] * 3)
            rows.append({"id": f"{kind}:{i}", "prompt": "Say one.", "chosen": texts[:right], "rejected": texts[right:], "subset": "Ties"})
    world.parquet(rows)


@builder
def vil_bench(world: World) -> None:
    rows = []
    for i in range(world.count):
        image, right = world.picture(i), world.shuffled([1, 0, 0, 0] if i % 10 else [0, 0, 0, 0])
        answers = world.answers(i, image, [float(r) for r in right])
        rows.append({"id": i, "question": "What is it?", "image": image, "responses": answers, "correct": right})
    world.lines("vilbench.jsonl", rows)


@builder
def visual_process_bench(world: World) -> None:
    rows = []
    for i in range(world.count // 2):
        image, labels = world.picture(i, "images"), [world.rng.choice([1, 1, 0, -1]) for _ in range(world.rng.randint(2, 6))]
        steps = [f"Step {k} of {i}:\n\n{words(k)}" for k in range(len(labels))]
        for k, label in enumerate(labels):
            world.note("\n\n".join(step.replace("\n\n", "\n") for step in steps[: k + 1]), image, float(label > 0))
        response = {"steps": steps, "process_correctness": labels}
        row = {"image": [image], "question": "Which is it?", "answer": "A", "response": response}
        rows.append(row | {"policy_model": "x", "data_source": ["MMMU", "WeMath"][i % 2]})
    world.lines("test.jsonl", rows)


@builder
def videogen(world: World) -> None:
    rows = []
    for i in range(world.count):
        prompt, clips, answer = f"a clip {i}", [world.clip(k) for k in world.two()], ["A", "B", "same"][i % 3]
        for clip, quality in zip(clips, {"A": (1.0, 0.0), "B": (0.0, 1.0), "same": (0.5, 0.5)}[answer], strict=True):
            world.note(prompt, clip, quality)
        rows.append({"path_A": clips[0], "path_B": clips[1], "prompt": prompt, "A_model": "x", "B_model": "y", "VQ": answer,
                     "MQ": "same" if i % 2 else "A", "TA": answer, "Overall": answer})  # fmt: skip
    with (world.folder / "videogen-rewardbench.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@builder
def genai_bench_tiger(world: World) -> None:
    votes = {"leftvote": (3.0, 0.0), "rightvote": (0.0, 3.0), "tievote": (2.0, 2.0), "bothbad_vote": (1.0, 1.0)}
    splits: dict[str, list[dict[str, Any]]] = {"image_generation": [], "image_edition": [], "video_generation": []}
    for i in range(world.count):
        prompt, (first, second), vote = f"a picture {i}", world.two(), [*votes][world.rng.randrange(4)]
        split = [*splits][i % 3]
        row: dict[str, Any] = {"vote_type": vote, "left_model": "x", "right_model": "y"}
        if split == "video_generation":
            left, right = world.clip(first), world.clip(second)
            row |= {"prompt": prompt, "left_video": left, "right_video": right}
        else:
            left, right = drawing(first), drawing(second)
            cells = [{"bytes": data, "path": None} for data in (left, right)]
            made = split == "image_generation"
            keys = ("left_image", "right_image") if made else ("left_output_image", "right_output_image")
            row |= dict(zip(keys, cells, strict=True)) | {"prompt" if made else "instruct_prompt": prompt}
            row |= {} if made else {"source_image": {"bytes": drawing(i % POOL), "path": None}}
        for side, quality in zip((left, right), votes[vote], strict=True):
            world.note(prompt, side, quality)
        splits[split].append(row)
    world.saved(splits)


@builder
def genai_bench_cmu(world: World) -> None:
    rows = {}
    for i in range(world.count // 2):
        number, models = f"{i:05d}", {}
        for k, model in enumerate(("one", "two", "three")):
            ratings = [world.rng.randint(1, 5) for _ in range(3)]
            path = world.folder / model / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(drawing((i + k) % POOL))
            world.note(f"a scene {i}", f"{model}/{number}.png", sum(ratings) / 3)
            models[model] = ratings
        rows[number] = {"id": number, "prompt": f"a scene {i}", "models": models}
    world.json("genai_image.json", rows)
    world.json("genai_skills.json", {"advanced": list(range(0, world.count // 2, 2)), "basic": list(range(1, world.count // 2, 2))})


@builder
def vc_reward_bench(world: World) -> None:
    rows = []
    kinds = {"chart": "data_error", "table": "text_error", "svg": "shape_error"}
    for i in range(world.count):
        category, (wanted, drawn) = [*kinds][i % 3], (world.picture(k, f"images/{i}") for k in world.two())
        severities = [world.rng.randint(1, 3) for _ in range(world.rng.randint(0, 4))]
        faults = [{"type": kinds[category], "severity": s, "description": "a line is missing"} for s in severities]
        (world.folder / drawn).write_bytes((world.folder / drawn).read_bytes() + str(i).encode())  # as many pictures as rows
        world.note("Make a picture that looks like the given one.", drawn, 2 - sum(severities) / 50)
        rows.append(
            {"id": i, "category": category, "gt_img_path": wanted, "pred_img_path": drawn, "human_errors": [*faults, {"type": "odd"}]}
        )
    world.lines("VC-RewardBench.jsonl", rows)


@builder
def edit_reward_bench_score(world: World) -> None:
    rows = []
    for i in range(world.count):
        instruction, pictures = f"recolor it {i}", [drawing(k) for k in world.two()]
        for picture, quality in zip(pictures, (1.0, 0.0), strict=True):
            world.note(instruction, picture, quality)
        rows.append({"key": [f"{i}_0", f"{i}_1"], "task_type": ["color_alter", "extract"][i % 2], "instruction": instruction,
                     "dimension": ["overall", "consistency", "prompt_following"][i % 3], "input_image": {"bytes": drawing(0), "path": None},
                     "output_images": [{"bytes": picture, "path": None} for picture in pictures]})  # fmt: skip
    world.parquet(rows)


@builder
def edit_reward_bench_tiger(world: World) -> None:
    rows = []
    for i in range(world.count):
        size, instruction = 2 + i % 3, f"move it {i}"
        pictures, order = world.rng.sample(range(POOL), size), world.shuffled(list(range(size)))
        for picture, place in zip(pictures, order, strict=True):
            world.note(instruction, drawing(picture), -float(place))
        for a in range(size):
            for b in range(a + 1, size):
                first, second = "ABCD"[a], "ABCD"[b]
                ranking = f"{first}>{second}" if order[a] < order[b] else f"{second}>{first}"
                if size == 2 and i % 5 == 0:
                    ranking = "A=B=Good"
                    world.note(instruction, drawing(pictures[b]), -float(order[a]))
                cells = [{"bytes": drawing(pictures[k]), "path": None} for k in (a, b)]
                rows.append({"id": f"set{i}_{first}{second}", "dataset": f"{size}pair", "instruction": instruction, "ranking": ranking,
                             "source_image": {"bytes": drawing(0), "path": None}, "candidate_1": cells[0], "candidate_2": cells[1],
                             "comparison_type": f"{first}vs{second}"})  # fmt: skip
    world.parquet(rows)


@builder
def mj_bench(world: World) -> None:
    splits: dict[str, list[dict[str, Any]]] = {"alignment": [], "safety": [], "quality": []}
    for i in range(world.count):
        caption, pictures, label = f"a thing {i}", [drawing(k) for k in world.two()], world.rng.randrange(2)
        for place, picture in enumerate(pictures):
            world.note(caption, picture, float(place == label))
        row = {f"image{k}": {"bytes": picture, "path": None} for k, picture in enumerate(pictures)}
        splits[[*splits][i % 3]].append({"caption": caption, "label": label} | row)
    world.saved(splits)


@builder
def mj_bench_bias(world: World) -> None:
    rows = []
    for i in range(world.count // 8):
        prompt, fair = f"A baker of kind {i}.", world.rng.random()
        for place, person in enumerate(world.rng.sample(range(POOL), 8)):
            picture = world.picture(person, "eval_images")
            world.note(prompt, picture, fair)
            varied = {"age": i % 2 == 0, "gender": True, "race": i % 2 == 1, "nationality": False, "religion": i % 3 == 0}
            rows.append(
                {"demographic": f"old_female_{place}", "occupation": f"Baker {i}", "images_dir": picture, "prompt": prompt, **varied}
            )
    world.json("bias_dataset.json", rows)


@builder
def mj_bench_video(world: World) -> None:
    rows = []
    for i in range(world.count):
        caption, clips, answer = f"a clip {i}", [world.clip(k) for k in world.two()], world.rng.choice(["Video 1 better", "Video 2 better"])
        for place, clip in enumerate(clips):
            world.note(caption, clip, float(answer == f"Video {place + 1} better"))
        preferences = {"Alignment": answer, "Safety": "Same"}
        rows.append({"caption": caption, "video_0_path": clips[0], "video_1_path": clips[1], "category_preference": preferences,
                     "overall_preference": "Hard to judge" if i % 10 == 0 else answer, "discard": i % 10 == 1})  # fmt: skip
    world.json("test.json", rows)


@builder
def hpdv2(world: World) -> None:
    rows = []
    for i in range(world.count // 4):
        prompt, pictures, ranks = f"a view {i}", world.rng.sample(range(POOL), 9), world.shuffled(list(range(1, 10)))
        for picture, rank in zip(pictures, ranks, strict=True):
            world.note(prompt, world.picture(picture), -float(rank))
        rows.append({"prompt": prompt, "image_path": [world.picture(p) for p in pictures], "rank": ranks, "raw_annotations": []})
    world.json("test.json", rows)


@builder
def hpdv3(world: World) -> None:
    rows = []
    for i in range(world.count):
        prompt, paths = f"a view {i}", [world.picture(k) for k in world.two()]
        for path, quality in zip(paths, (1.0, 0.0), strict=True):
            world.note(prompt, path, quality)
        rows.append({"prompt": prompt, "path1": paths[0], "path2": paths[1], "confidence": 0.9, "model1": "x", "model2": "y"})
    world.json("test.json", rows)


@builder
def pick_a_pic(world: World) -> None:
    rows = []
    for i in range(world.count):
        caption, pictures, label = f"a wish {i}", [drawing(k) for k in world.two()], [1.0, 0.0, 0.5, 1.0, 0.0][i % 5]
        for picture, quality in zip(pictures, (label, 1 - label), strict=True):
            world.note(caption, picture, quality)
        rows.append({"caption": caption, "jpg_0": pictures[0], "jpg_1": pictures[1], "label_0": label, "label_1": 1 - label,
                     "has_label": True, "ranking_id": i})  # fmt: skip
    world.parquet(rows)


@builder
def image_reward_db(world: World) -> None:
    rows = []
    for i in range(world.count // 2):
        prompt, pictures, ranks = f"a dream {i}", world.rng.sample(range(POOL), 5), world.shuffled([1, 2, 2, 3, 4])
        for picture, rank in zip(pictures, ranks, strict=True):
            world.note(prompt, world.picture(picture), -float(rank))
        rows.append({"id": f"d{i}", "prompt": prompt, "generations": [world.picture(p) for p in pictures], "ranking": ranks})
    world.json("test.json", rows)


def _crossing(world: World, i: int, data: tuple[Any, Any]) -> list[str]:
    captions = [f"left of right {i}", f"right of left {i}"]
    for c, caption in enumerate(captions):
        for p, picture in enumerate(data):
            world.note(caption, picture, float(c == p))
    return captions


@builder
def winoground(world: World) -> None:
    rows = []
    for i in range(world.count):
        pictures = [drawing(k) for k in world.two()]
        captions = _crossing(world, i, (pictures[0], pictures[1]))
        row = {f"image_{k}": {"bytes": picture, "path": None} for k, picture in enumerate(pictures)}
        rows.append({"id": i, "caption_0": captions[0], "caption_1": captions[1], "collapsed_tag": ["Object", "Relation"][i % 2]} | row)
    world.saved({"test": rows})


@builder
def eqben(world: World) -> None:
    rows = []
    for i in range(world.count):
        first, second = world.two()
        paths = [world.picture(first, "images/eqbensd"), world.picture(second, "images/eqbensd")]
        captions = _crossing(world, i, (paths[0], paths[1]))
        names = [path.removeprefix("images/") for path in paths]
        rows.append({"caption0": captions[0], "caption1": captions[1], "image0": names[0], "image1": names[1]})
    world.json("all_select.json", rows)


@builder
def sugar_crepe(world: World) -> None:
    for kind in ("add_obj", "swap_att", "replace_rel"):
        rows = {}
        for i in range(world.count // 3):
            path = world.picture(i)
            true, false = world.answers(i * 10 + len(kind), path, [1.0, 0.0])
            rows[str(i)] = {"filename": path, "caption": true, "negative_caption": false}
        world.json(f"{kind}.json", rows)


@builder
def foil(world: World) -> None:
    annotations = []
    for i in range(world.count):
        true, false = world.answers(i, world.picture(i), [1.0, 0.0])
        shared = {"id": i, "image_id": i % POOL}
        annotations += [shared | {"caption": true, "foil": False, "foil_word": "ORIG"}, shared | {"caption": false, "foil": True}]
    images = [{"id": k, "file_name": f"{k}.png"} for k in range(POOL)]
    world.json("foilv1.0_test_2017.json", {"images": images, "annotations": annotations})


def _rated(world: World, name: str, ratings: list[float]) -> None:
    rows = {}
    for i in range(world.count // 2):
        path, given = world.picture(i), [world.rng.choice(ratings) for _ in range(4)]
        texts = world.answers(i, path, given)
        judgements: list[dict[str, Any]] = [{"caption": t, "rating": r} for t, r in zip(texts, given, strict=True)]
        judgements.append({"caption": "nobody rated this", "rating": float("nan")})
        rows[f"p{i}"] = {"image_path": path, "ground_truth": [words(i % POOL)] * 5, "human_judgement": judgements}
    world.json(name, rows)


@builder
def flickr8k_expert(world: World) -> None:
    _rated(world, "flickr8k.json", [1, 2, 3, 4])


@builder
def flickr8k_cf(world: World) -> None:
    _rated(world, "crowdflower_flickr8k.json", [0.0, 1 / 3, 2 / 3, 1.0])


@builder
def composite(world: World) -> None:
    _rated(world, "composite.json", [1, 2, 3, 4, 5])


@builder
def pascal_50s(world: World) -> None:
    from scipy.io import savemat

    inputs = np.zeros((1, world.count), dtype=[(name, object) for name in ("im", "cand_1", "cand_2")])
    triplets = np.zeros((1, 48 * world.count), dtype=[(name, object) for name in ("ref", "cand_1", "cand_2", "winner")])
    for i in range(world.count):
        path, better = world.picture(i), world.rng.choice([1, -1])
        texts = world.answers(i, path, [float(better), float(-better)])
        inputs[0, i] = (path, *texts)
        for k in range(48):
            triplets[0, 48 * i + k] = (words(k % POOL), *texts, better if k % 4 else -better)
    (world.folder / "pyCIDErConsensus").mkdir()
    category = np.array([[1 + i % 4 for i in range(world.count)]])
    savemat(world.folder / "pyCIDErConsensus" / "pair_pascal.mat", {"new_input": inputs, "category": category})
    savemat(world.folder / "pyCIDErConsensus" / "consensus_pascal.mat", {"triplets": triplets})


@builder
def comparisons(world: World) -> None:
    rows = []
    for i in range(world.count):
        prompt, paths = f"my wish {i}", [world.picture(k) for k in world.two()]
        for path, quality in zip(paths, (1.0, 0.0), strict=True):
            world.note(prompt, path, quality)
        rows.append({"prompt": prompt, "chosen_picture": paths[0], "rejected_picture": paths[1], "subset": ["a", "b"][i % 2]})
    world.lines("pairs.jsonl", rows)
