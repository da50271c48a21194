"""Held-out answers, drawn the same way at any time: with random numbers that belong to the evaluation's seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from vlreward.types import Rollout, Sample
from vlreward.vlm.prompts import encode


@torch.no_grad()
def answer(
    policy: Any, processor: Any, samples: Sequence[Sample], *, temperature: float, max_new_tokens: int, batch: int, seed: int,
    done: Callable[[int], None] = lambda count: None,
) -> list[Rollout]:  # fmt: skip
    """One rollout a sample; temperature 0 is greedy. Leaves the policy's mode and the random state of training as they were."""
    training, device = policy.training, policy.device
    rollouts: list[Rollout] = []
    settings: dict[str, Any] = (
        {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"do_sample": False}
    )
    policy.eval()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for first in range(0, len(samples), batch):
            chosen = samples[first : first + batch]
            inputs = encode(processor, chosen, device)
            made = policy.generate(
                **inputs, **settings, max_new_tokens=max_new_tokens, pad_token_id=processor.tokenizer.pad_token_id,
                suppress_tokens=[policy.config.image_token_id],
            )  # fmt: skip
            texts = processor.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            rollouts += [
                Rollout(sample=sample, text=text, group=first + i) for i, (sample, text) in enumerate(zip(chosen, texts, strict=True))
            ]
            done(len(chosen))
    policy.train(training)
    return rollouts
