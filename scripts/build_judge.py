#!/usr/bin/env python3
"""Teach the tiny policy of assets/tiny-vlm to judge pictures of the tiny world, as assets/tiny-vlm-judge.

    python scripts/build_judge.py                      # some minutes of a core
    python scripts/build_judge.py --resume --seed 1    # go on from the saved judge, with other pictures
    python scripts/build_judge.py --stage measure      # the figures of assets/tiny-vlm-judge/README.md again

It says Yes or No to whether a caption is right, captions a picture, answers what color and how many, and says whether the second of two
pictures follows a prompt better than the first. Nothing wrong is taught on purpose: it is for rewards that read a judge's probabilities.
All that is asked of one picture lies in one row, whose picture is read once. Weights are kept in half precision and read as float32.
"""

from __future__ import annotations

import argparse
import copy
import io
import itertools
import random
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from build_vlm import ASSET as START
from build_vlm import probe_loss, what_tokens_show
from curve import Curve
from PIL import Image, ImageFilter
from tiny_policy import TURNS, Descent, build, in_stages, inherit, load, options, save, tokenizer

from vlreward.data.media import Picture
from vlreward.models.reading import begin
from vlreward.models.shared_prefix import IGNORED, masks, pack
from vlreward.tiny.scene import COLORS, NUMBERS, SHAPES, Scene, plural, scene
from vlreward.tiny.tasks import HOLDOUT, SIDE
from vlreward.types import Sample

ASSET = START.parent / "tiny-vlm-judge"
RIGHT = (
    'Does this figure show "{}"? Please answer Yes or No.',
    'Is "{}" a true caption of this picture? Please answer Yes or No.',
    'Is there anything wrong with the caption "{}"? Please answer Yes or No.',
)
"""Questions about a caption; to the last one the answer is turned round."""
DESCRIBE = "Describe this image in detail."
BETTER = 'Does the second picture follow the prompt "{}" better than the first? Please answer Yes or No.'
TURNED = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
PIECES = r"</?[a-z]+>|\d+| ?[A-Za-z]+|\s+|."
FIGURES = [str(number) for number in range(11)]
EXTRA = "Is there a cat, yes or no? The first picture is better. Rate from 1 to 10. <think>this that because so</think><answer>1 2</answer>"
PROBED, LOOKING = 2, 0.3
"""The layer whose visual tokens the probe of build_vlm.py reads, and the weight of its loss."""
ADDED, PLACED, JUDGED = 2, 3, 5
"""Layers added to the policy's; the layer behind which a second probe reads where the things that a caption names are; and the one behind
which a third reads whether a caption's words so far are wrong."""
LOSSES = ("words", "verdicts", "doubts", "places")
"""Of what it says besides verdicts, of verdicts, and of the two probes of captions."""


class Asked(NamedTuple):
    """One turn about pictures: what is asked and what is right."""

    question: str
    answer: str
    caption: str = ""
    """What the question is about, in quotation marks; a right one is learned too."""
    truth: str = ""
    """The right caption, where the other was made of it by changing one thing."""
    places: tuple[tuple[str, float, float], ...] = ()
    """Each thing that it names alone: label, and centre relative to the picture."""


def foil(rng: random.Random, view: Scene, kind: str = "") -> str:
    """The scene's caption with one thing of it changed: a color, a shape, the count or the relation, as far as it has them."""
    if not kind:
        kind = "relation" if view.relations and rng.random() < 0.5 else rng.choice(kinds(view))
    if kind == "relation":
        relation = view.relations[0]["relation"]
        first, second = view.caption.split(f" {relation} ")
        return rng.choice((f"{first} {TURNED[relation]} {second}", f"{second} {relation} {first}"))
    objects = [dict(wanted) for wanted in view.objects]
    chosen = rng.choice(objects)
    if kind == "count":
        chosen["count"] = rng.choice([count for count in (1, 2, 3) if count != chosen["count"]])
    else:
        known, key = ([*COLORS], "color") if kind == "color" else ([*SHAPES], "label")
        chosen[key] = rng.choice([value for value in known if value != chosen[key]])
    join = f" {view.relations[0]['relation']} " if view.relations else " and "
    return join.join(worded(**wanted) for wanted in objects)


def kinds(view: Scene) -> list[str]:
    """What of a caption can be changed."""
    return ["color", "shape", *(["relation"] if view.relations else []), *(["count"] if len(view.objects) == 1 else [])]


def worded(label: str, color: str, count: int) -> str:
    return f"a {color} {label}" if count == 1 else f"{NUMBERS[count]} {color} {plural(label)}"


def shown(rng: random.Random, view: Scene) -> Picture:
    """The scene at 96 pixels or at 32; sometimes blurred, compressed or noisy, as generated pictures look."""
    image = view.picture(SIDE if rng.random() < 0.5 else 32)
    kind = rng.random()
    if kind < 0.15:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0) * image.width / 32))
    elif kind < 0.3:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=rng.randint(40, 90))
        image = Image.open(stream).convert("RGB")
    elif kind < 0.45:
        level = rng.uniform(0.01, 0.06)
        noise = torch.randn(3, image.height, image.width, generator=torch.Generator().manual_seed(rng.randrange(2**31)))
        return Picture((torch.as_tensor(Picture(image).tensor) + level * noise).clamp(0, 1))
    return Picture(image)


def judged(rng: random.Random, view: Scene, each: int) -> list[Asked]:
    """`each` captions asked about, half of them right; the caption, and what can be asked besides."""
    rows = []
    places = tuple((thing.label, thing.x, thing.y) for thing in view.things) if len(view.things) == len(view.objects) else ()
    for number in range(each):
        changed = rng.random() < 0.85
        caption = view.caption if number % 2 == 0 else foil(rng, view) if changed else scene(rng).caption
        right, which = caption == view.caption, rng.choices((0, 1, 2), (0.6, 0.25, 0.15))[0]
        answer = "Yes" if right != (which == 2) else "No"
        rows.append(Asked(RIGHT[which].format(caption), answer, caption, view.caption if right or changed else "", places))
    shape = rng.choice(SHAPES)
    colors = {thing.color for thing in view.things if thing.shape == shape}
    if len(colors) == 1:
        rows.append(Asked(f"What color is the {shape}?", colors.pop()))
    rows.append(Asked(f"How many {plural(shape)} are there?", str(sum(thing.shape == shape for thing in view.things))))
    return [*rows, Asked(DESCRIBE, view.caption)]


def named(caption: str, places: Sequence[tuple[str, float, float]]) -> list[tuple[int, float, float]]:
    """Where in a caption the name of each thing ends, and where the thing is; of the things that it names."""
    return [(caption.index(label) + len(label) - 1, x, y) for label, x, y in places if label in caption]


def compared(rng: random.Random, view: Scene) -> tuple[tuple[Scene, Scene], Asked]:
    """Two scenes, one of which the prompt is about."""
    other = scene(rng)
    while other.caption == view.caption:
        other = scene(rng)
    second = rng.random() < 0.5
    return ((other, view) if second else (view, other)), Asked(BETTER.format(view.caption), "Yes" if second else "No")


def untrained() -> tuple[Any, Any]:
    """The tiny policy with words of its own, which sees every picture at 96 x 96 pixels."""
    rng = random.Random(0)
    views = [scene(rng) for _ in range(3000)]
    corpus = ["user\nassistant\n", ", ".join(FIGURES), EXTRA] * 50
    corpus += [f"{asked.question}\n{asked.answer}" for view in views for asked in judged(rng, view, 3)]
    corpus += [BETTER.format(view.caption) for view in views]
    model, processor = build(tokenizer(corpus, PIECES, 560), FIGURES, TURNS, sections=[2, 5, 9], base=30.0)
    processor.image_processor.size = {"shortest_edge": SIDE**2, "longest_edge": SIDE**2}
    inherit(model, processor, START)
    deepen(model, ADDED)
    return model, processor


def deepen(model: Any, added: int) -> None:
    """Put layers behind the last one that change nothing at first: what tells a wrong caption comes after what sees and expects."""
    layers, config = model.model.language_model.layers, model.config.text_config
    for _ in range(added):
        layer = copy.deepcopy(layers[-1])
        layer.self_attn.layer_idx = len(layers)
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
        layers.append(layer)
    config.num_hidden_layers = len(layers)
    config.layer_types = ["full_attention"] * len(layers)


class Seen(NamedTuple):
    """What a pass over pictures and what is asked about them gives."""

    states: torch.Tensor
    """[M,D] before the tokens that are learned"""
    said: torch.Tensor
    """[M] these tokens"""
    visual: torch.Tensor
    """[P,D] of the visual tokens after the probed layer"""
    read: torch.Tensor
    """[C,D] of captions' tokens in questions after the layer of the second probe"""
    wrong: torch.Tensor
    """[C] whether the caption is wrong up to there"""
    told: torch.Tensor
    """[N,D] of the last token of each thing's name in captions after the layer of the third probe"""
    places: torch.Tensor
    """[N,2] its centre, relative"""


def hidden(model: Any, processor: Any, samples: list[Sample], asked: list[list[Asked]]) -> Seen:
    """One forward pass over rows that hold each sample's pictures once."""
    between, end = turns(processor)
    words = processor.tokenizer
    owner, tails, silent, judged, wrong, ends, places = [], [], [], [], [], [], []
    for number, rows in enumerate(asked):
        for question, answer, caption, truth, where_things in rows:
            said, rest = (words(text)["input_ids"] for text in (question, between))
            if truth:
                start = len(words(question.split('"')[0] + '"')["input_ids"])
                tokens, right = (words(text)["input_ids"] for text in (caption, truth))
                first = next((i for i, (a, b) in enumerate(itertools.zip_longest(tokens, right)) if a != b), len(tokens))
                found = named(caption, where_things)
                if len(found) == 2 and caption != truth:  # only the relation is wrong, and that only the last word tells
                    first = len(tokens) - 1
                tokenized = words(caption)
                ends += [(len(tails), start + tokenized.char_to_token(last)) for last, *_ in found]
                places += [(x, y) for _, x, y in found]
                judged.append((len(tails), start, len(tokens)))
                wrong += [float(place >= first) for place in range(len(tokens))]
            owner.append(number)
            tails.append(torch.tensor(said + rest + words(answer + end)["input_ids"]))
            silent.append((len(said) if caption and caption == truth else 0, len(said) + len(rest)))
    prompts = [begin(model, processor, sample.visuals).prompt() for sample in samples]
    rows = pack(prompts, owner, tails, 400, words.pad_token_id)
    where = rows.where.tolist()
    for (row, column), (first, last) in zip(where, silent, strict=True):
        rows.labels[row, column + first : column + last] = IGNORED
    out = model.model(
        input_ids=rows.ids, position_ids=rows.position, attention_mask=masks(rows, model.config), **rows.kinds, **rows.media,
        output_hidden_states=True,
    )  # fmt: skip
    spoken = rows.labels != IGNORED
    visual = out.hidden_states[PROBED][rows.ids == model.config.image_token_id]
    spans = [(where[tail], start, count) for tail, start, count in judged]
    read = [out.hidden_states[JUDGED][row, column + start + 1 : column + start + 1 + count] for (row, column), start, count in spans]
    told = [out.hidden_states[PLACED][where[tail][0], where[tail][1] + place + 1] for tail, place in ends]
    return Seen(
        out.last_hidden_state[spoken], rows.labels[spoken], visual, torch.cat([visual[:0], *read]), torch.tensor(wrong),
        torch.stack([visual[0] * 0, *told])[1:], torch.tensor(places).reshape(-1, 2),
    )  # fmt: skip


def turns(processor: Any) -> tuple[str, str]:
    """What the chat template writes between a question and its answer, and behind the answer."""
    turn = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
    return processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False).split("?")[1], "<|im_end|>"


def train(arguments: argparse.Namespace, curve: Curve) -> None:
    """Next-token prediction of the answers, and the probe of build_vlm.py, which keeps the visual tokens legible."""
    rng = random.Random(arguments.seed)
    model, processor = load(ASSET) if arguments.resume else untrained()
    probe = torch.nn.Linear(model.config.text_config.hidden_size, 5 + len(COLORS) + len(SHAPES))
    steps = arguments.steps
    doubt = torch.nn.Linear(model.config.text_config.hidden_size, 1)
    stand = torch.nn.Linear(model.config.text_config.hidden_size, 2)
    beside = [*probe.parameters(), *doubt.parameters(), *stand.parameters()]
    descend = Descent(model, arguments.lr, lambda step: min(1.0, (step + 1) / 30, max(0.03, 1.6 * (1 - step / steps))), beside)
    verdicts = torch.tensor([processor.tokenizer.convert_tokens_to_ids(word) for word in ("Yes", "No")])
    sums, count = torch.zeros(len(LOSSES)), 0
    for step in range(1, steps + 1):
        alone = max(0.25, (0.6 if arguments.resume else 1) - 2 * step / steps)
        views = [chosen(rng, arguments.pool, alone) for _ in range(arguments.batch)]
        samples = [Sample(id="", prompt="", visuals=(shown(rng, view),)) for view in views]
        asked = [judged(rng, view, arguments.captions) for view in views]
        pairs = [compared(rng, view) for view in views[: arguments.batch // 4]]
        samples += [Sample(id="", prompt="", visuals=tuple(shown(rng, view) for view in both)) for both, _ in pairs]
        found = hidden(model, processor, samples, [*asked, *([question] for _, question in pairs)])
        seen = torch.cat([what_tokens_show(view) for view in itertools.chain(views, *(both for both, _ in pairs))])
        each = F.cross_entropy(model.lm_head(found.states), found.said, reduction="none")
        verdict = torch.isin(found.said, verdicts)
        doubts = F.binary_cross_entropy_with_logits(doubt(found.read)[:, 0], found.wrong)
        apart = F.smooth_l1_loss(stand(found.told), found.places, beta=0.05)
        losses = torch.stack([each[~verdict].mean(), each[verdict].mean(), doubts, 10 * apart])
        descend(losses.sum() + LOOKING * probe_loss(probe(found.visual), seen))
        sums, count = sums + losses.detach(), count + 1
        if step % 25 == 0:
            curve(step=step, **dict(zip(LOSSES, (sums / count).tolist(), strict=True)))
            sums, count = torch.zeros(len(LOSSES)), 0
        if step % arguments.every == 0 or step == steps:
            keep(model, processor)
            curve(step=step, **measure(128))


def chosen(rng: random.Random, pool: int, alone: float) -> Scene:
    """A scene with one thing in the share `alone`; half of the others stand in a relation."""
    most, related = (1, False) if rng.random() < alone else (3, rng.random() < 0.4)
    while True:
        view = scene(random.Random(f"judge/{rng.randrange(pool)}"), most)
        if view.relations or not related:
            return view


def keep(model: Any, processor: Any) -> None:
    """Save weights in half precision, to be read as float32."""
    half = copy.deepcopy(model).half()
    half.config.dtype = torch.float32
    save(ASSET, half, processor)
    config = ASSET / "config.json"
    config.write_text(config.read_text().replace('"float16"', '"float32"'))


@torch.no_grad()
def measure(count: int) -> dict[str, float]:
    """Held-out pair accuracies of the saved judge: how often the true caption beats one with a single thing changed."""
    model, processor = load(ASSET)
    model.eval()
    views = [scene(random.Random(f"judge/{HOLDOUT + seed}")) for seed in range(count)]
    figures: dict[str, list[float]] = {}
    words = processor.tokenizer
    yes, no = (words.convert_tokens_to_ids(word) for word in ("Yes", "No"))
    for seed, view in enumerate(views):
        rng = random.Random(f"measure/{seed}")
        sample = [Sample(id="", prompt="", visuals=(Picture(view.picture(SIDE)),))]
        for kind in kinds(view):
            captions = [view.caption, foil(rng, view, kind)]
            states, said, *_ = hidden(model, processor, sample, [[Asked(RIGHT[0].format(text), "Yes") for text in captions]])
            odds = [float(row[yes] - row[no]) for row, label in zip(model.lm_head(states), said.tolist(), strict=True) if label == yes]
            figures.setdefault(f"yes_{kind}", []).append(float(odds[0] > odds[1]))
            figures.setdefault("yes_right", []).extend((float(odds[0] > 0), float(odds[1] < 0)))
            states, said, *_ = hidden(model, processor, sample, [[Asked(DESCRIBE, text) for text in captions]])
            logps = F.log_softmax(model.lm_head(states), -1).gather(1, said[:, None])[:, 0]
            first = (said == words.eos_token_id).nonzero()[0, 0] + 1
            figures.setdefault(f"echo_{kind}", []).append(float(logps[:first].mean() > logps[first:].mean()))
        both, question = compared(rng, view)
        pair = [Sample(id="", prompt="", visuals=tuple(Picture(one.picture(SIDE)) for one in both))]
        states, said, *_ = hidden(model, processor, pair, [[question]])
        logits = model.lm_head(states)[0]
        figures.setdefault("better", []).append(float((logits[yes] > logits[no]) == (question.answer == "Yes")))
    return {name: sum(values) / len(values) for name, values in sorted(figures.items())}


def main() -> None:
    parser = options(__doc__, ["supervised"], steps=700, batch=16, captions=4, lr=1.5e-3, pool=100_000, every=100, seed=0, resume=False)
    arguments = parser.parse_args()
    in_stages(arguments, ASSET, {"supervised": partial(train, arguments)})
    print(measure(512), flush=True)


if __name__ == "__main__":
    main()
