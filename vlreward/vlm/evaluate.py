"""Held-out answers, drawn the same way at any time: with random numbers that belong to the evaluation's seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from vlreward.types import Rollout, Sample
from vlreward.vlm.config import Clips
from vlreward.vlm.prefill import generate
from vlreward.vlm.prompts import Prompt, encode, has_clip, read
from vlreward.vlm.talk import Host, Talk
from vlreward.vlm.turns import Turns


@torch.no_grad()
def answer(
    policy: Any, processor: Any, samples: Sequence[Sample], *, temperature: float, max_new_tokens: int, batch: int, seed: int,
    clips: Clips | None = None, turns: Turns | None = None, answers: int = 1, done: Callable[[int], None] = lambda count: None,
) -> list[Rollout]:  # fmt: skip
    """`answers` rollouts of each sample, of several turns where `turns` says so, side by side and in one group; temperature 0 is greedy.

    Leaves the policy's mode and the random state of training as they were.
    """
    training, device = policy.training, policy.device
    asked = [sample for sample in samples for _ in range(answers)]
    rollouts: list[Rollout] = []
    settings: dict[str, Any] = (
        {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"do_sample": False}
    )
    suppressed = [policy.config.image_token_id]
    if turns or any(map(has_clip, samples)):
        suppressed += [token for token in [getattr(policy.config, "video_token_id", None)] if token is not None]
    settings |= {"max_new_tokens": max_new_tokens, "pad_token_id": processor.tokenizer.pad_token_id, "suppress_tokens": suppressed}
    policy.eval()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for first in range(0, len(asked), batch):
            chosen = asked[first : first + batch]
            if turns:
                talks = conversations(policy, Host(turns, processor, policy, clips), chosen, settings)
                rollouts += [talk.rollout((first + i) // answers) for i, talk in enumerate(talks)]
                done(len(chosen))
                continue
            inputs = encode(processor, chosen, device, clips=clips)
            made = policy.generate(**inputs, **settings)
            tokens = made[:, inputs["input_ids"].shape[1] :]
            texts = processor.batch_decode(tokens, skip_special_tokens=True)
            counts = num_tokens(tokens, policy.generation_config.eos_token_id)
            rollouts += [
                Rollout(sample=sample, text=text, group=(first + i) // answers, num_tokens=count)
                for i, (sample, text, count) in enumerate(zip(chosen, texts, counts, strict=True))
            ]
            done(len(chosen))
    policy.train(training)
    return rollouts


def conversations(policy: Any, host: Host, samples: Sequence[Sample], settings: dict[str, Any]) -> list[Talk]:
    """One rollout of several turns for each sample."""
    prompts = [read(host.processor, policy, sample, host.clips, host.config.system) for sample in samples]
    talks = [Talk(sample, prompt) for sample, prompt in zip(samples, prompts, strict=True)]
    pad = settings["pad_token_id"]

    def write(asked: Sequence[Prompt] | None) -> list[list[int]]:
        whole = prompts if asked is None else asked
        made = generate(policy, whole, range(len(whole)), pad, **settings)[:, max(len(prompt.ids) for prompt in whole) :]
        counts = num_tokens(made, policy.generation_config.eos_token_id)
        return [row[:count].tolist() for row, count in zip(made, counts, strict=True)]

    host.hold(talks, write)
    return talks


def num_tokens(tokens_BT: torch.Tensor, ends: int | Sequence[int] | None) -> list[int]:
    """How many tokens each row has up to its first end token, that one included."""
    is_end = torch.isin(tokens_BT, torch.tensor([] if ends is None else ends, device=tokens_BT.device))
    before = (is_end.cumsum(1) == 0).sum(1)
    return (before + is_end.any(1)).tolist()
