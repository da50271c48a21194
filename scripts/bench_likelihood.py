"""Pairs of picture and text scored a second by a vision-language model's probabilities, beside plain transformers loops.

    python scripts/bench_likelihood.py                                     # 5M parameters of Qwen2.5-VL's shape, on the CPU
    python scripts/bench_likelihood.py --peer ../t2v_metrics               # beside t2v_metrics itself, from a checkout of it
    python scripts/bench_likelihood.py --shape 3b --pixels 896 --json likelihood.json    # the true shape of Qwen2.5-VL-3B, on a GPU

`vqa` is P(yes) to a question about each text, `echo` the mean log-likelihood of each text; with one text a picture and with several. Peers:
a padded batch of pairs (only the last position's logits for `vqa`), and, for `vqa`, t2v_metrics' way: one pair at a time, `generate` of
one token with its scores; with `--peer`, by its own class for Qwen2.5-VL. All sides process pictures and tokens from the same files, and
their scores are checked against ours. Weights are random. Seconds are processor time of one thread on a CPU and wall time on a GPU, the
median of the rounds after a first one.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from bench_grpo import SHAPES, build, pictures

from vlreward.data.media import Picture
from vlreward.models.likelihood import Context, LikelihoodModel, load_likelihood_model
from vlreward.models.prompts import encode
from vlreward.rewards.judged import FIGURE
from vlreward.rewards.likelihood import DESCRIBE
from vlreward.types import Sample

Pairs = Sequence[tuple[Path, str]]
Side = Callable[[LikelihoodModel, Pairs, int], torch.Tensor]
CLOSE = {"cpu": 2e-4, "cuda": 0.1}
"""How far the sides' log-probabilities may lie apart; bfloat16 on a GPU."""


def question(text: str) -> str:
    return FIGURE.replace("{words}", text)


def ours(judge: LikelihoodModel, pairs: Pairs, batch: int, echo: bool = False) -> torch.Tensor:
    """[N] log-probabilities by the engine."""
    shown = {place: Picture(place) for place, _ in pairs}
    if echo:
        return torch.stack([one.mean for one in judge.score([(Context(DESCRIBE, (shown[place],)), text) for place, text in pairs])])
    yes = judge.tokens("Yes")[:1]
    return torch.stack(
        [one.total for one in judge.score_tokens([(Context(question(text), (shown[place],)), yes) for place, text in pairs])]
    )


def batched(judge: LikelihoodModel, pairs: Pairs, batch: int, echo: bool = False) -> torch.Tensor:
    """The same from padded batches in which each pair is a row."""
    found = []
    for first in range(0, len(pairs), batch):
        chosen = pairs[first : first + batch]
        asked = [DESCRIBE if echo else question(text) for _, text in chosen]
        samples = [Sample(id="", prompt=words, visuals=(Picture(place),)) for (place, _), words in zip(chosen, asked, strict=True)]
        answers = [text for _, text in chosen] if echo else []
        inputs = encode(judge.processor, samples, device=judge.model.device, answers=answers).to(judge.model.dtype)
        if not echo:
            logps = judge.model(**inputs, logits_to_keep=1).logits[:, -1].float().log_softmax(-1)
            found.append(logps[:, judge.tokens("Yes")[0]])
            continue
        logps = judge.model(**inputs).logits[:, :-1].float().log_softmax(-1).gather(2, inputs["input_ids"][:, 1:, None])[..., 0]
        found.append(torch.stack([row[-len(judge.tokens(text)) :].mean() for row, (_, text) in zip(logps, chosen, strict=True)]))
    return torch.cat(found).double()


def generated(judge: LikelihoodModel, pairs: Pairs, batch: int) -> torch.Tensor:
    """P(yes) of one pair at a time from the scores of one generated token."""
    found = []
    for place, text in pairs:
        inputs = encode(judge.processor, [Sample(id="", prompt=question(text), visuals=(Picture(place),))], device=judge.model.device)
        out = judge.model.generate(
            **inputs.to(judge.model.dtype), max_new_tokens=1, do_sample=False, output_scores=True, return_dict_in_generate=True
        )
        found.append(out.scores[0][0].float().log_softmax(-1)[judge.tokens("Yes")[0]])
    return torch.stack(found).double()


def t2v_metrics(checkout: Path, folder: str, judge: LikelihoodModel) -> Side:
    """The peer's class for Qwen2.5-VL on the same weights. Its packages are opened without their start files, which import every API."""
    for name in ("t2v_metrics", "t2v_metrics.models", "t2v_metrics.models.vqascore_models"):
        package = ModuleType(name)
        package.__path__ = [str(checkout / name.replace(".", "/"))]
        sys.modules[name] = package
    theirs: Any = importlib.import_module("t2v_metrics.models.vqascore_models.qwen2vl_model")
    settings = {"path": folder, "torch_dtype": judge.model.dtype, "attn_implementation": "sdpa"}
    theirs.QWEN2_VL_MODELS["qwen2.5-vl"] = {"tokenizer": {"path": folder}, "model": settings}
    peer = theirs.Qwen2VLModel("qwen2.5-vl", judge.model.device.type)

    def score(_: LikelihoodModel, pairs: Pairs, batch: int) -> torch.Tensor:
        with contextlib.redirect_stdout(None):  # it tells of each pair that "Yes" is several tokens here
            return peer.forward([str(place) for place, _ in pairs], [text for _, text in pairs]).double().log()

    return score


SIDES: dict[str, dict[str, Side]] = {
    "vqa": {"ours": ours, "batched": batched, "one by one": generated},
    "echo": {"ours": lambda *some: ours(*some, echo=True), "batched": lambda *some: batched(*some, echo=True)},
}


@torch.no_grad()
def measure(judge: LikelihoodModel, kind: str, pairs: Pairs, batch: int, rounds: int) -> dict[str, Any]:
    """Pairs a second of each side, ratios to ours, and how far the scores lie apart."""
    cuda = judge.model.device.type == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in SIDES[kind]}
    apart = 0.0
    for _ in range(rounds + 1):
        scores = {}
        for name, side in SIDES[kind].items():
            start = clock()
            scores[name] = side(judge, pairs, batch).cpu()
            seconds[name].append(clock() - start)
        apart = max(apart, *(float((scores[name] - scores["ours"]).abs().max()) for name in scores))
    assert apart < CLOSE[judge.model.device.type], f"{kind}: the sides lie {apart:g} apart"
    row: dict[str, Any] = {"pairs": len(pairs), "difference": apart}
    for name, found in seconds.items():
        row[name] = {"pairs_per_second": len(pairs) / statistics.median(found[1:])}
        if name != "ours":
            ratios = [theirs / mine for theirs, mine in zip(found[1:], seconds["ours"][1:], strict=True)]
            row[name] |= {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
    return row


def line(name: str, row: dict[str, Any]) -> str:
    """One measurement for a reader."""
    sides = {peer: of for peer, of in row.items() if isinstance(of, dict) and "ratio" in of}
    peers = [f"{peer} {of['ratio']:.1f} ({of['low']:.1f} to {of['high']:.1f})" for peer, of in sides.items()]
    return f"{name}: {row['ours']['pairs_per_second']:.1f} pairs a second; times faster than {', '.join(peers)}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=[*SHAPES], default="5m")
    parser.add_argument("--pixels", type=int, default=560, help="side of the pictures; 28 pixels are a token's side")
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--texts", type=int, nargs="*", default=[1, 8], help="texts a picture")
    parser.add_argument("--batch", type=int, default=8, help="pairs in a padded batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", type=Path, help="a checkout of t2v_metrics (github.com/linzhiqiu/t2v_metrics)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        build(options.shape, options.pixels, Path(folder), device)
        judge = load_likelihood_model(folder, device)
        judge.model.to(torch.bfloat16 if device == "cuda" else torch.float32)
        if options.peer:
            SIDES["vqa"]["t2v_metrics"] = t2v_metrics(options.peer, folder, judge)
        places = pictures(Path(folder), options.pairs, options.pixels)
        for texts in options.texts:
            shown = places[: max(1, options.pairs // texts)]
            pairs = [(place, f"a {'very ' * (i % 3)}red thing {i}") for place in shown for i in range(texts)]
            for kind in SIDES:
                name = f"{kind}, {texts} a picture"
                rows[name] = measure(judge, kind, pairs, options.batch, options.rounds)
                print(line(name, rows[name]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
