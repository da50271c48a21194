"""Corrected answers as tokens, in the place of those that the policy wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlreward.advantages.segments import offsets_of
from vlreward.rewards.composite import Composite
from vlreward.types import Rollout, Sample
from vlreward.vlm.correction import Corrected, correct

if TYPE_CHECKING:
    from vlreward.vlm.config import TrainVLM


def rewritten(
    config: TrainVLM, rewards: Composite, made: tuple, asked: Sequence[tuple[Sample, int]], texts: Any, device: str
) -> tuple[tuple, list[int]]:
    """What TRL's `_generate` gave, with near misses corrected, and how many tokens of each answer are the policy's own.

    `asked` holds the sample and the group of each answer, `texts` is the processor or tokenizer.
    """
    block = config.correction
    assert block is not None, "the caller asks only where near misses are corrected"
    terms = {term.name: term.reward for term in rewards.terms}
    pairs = zip(asked, made[3], strict=True)
    rollouts = [Rollout(sample=sample, text=turns[0]["content"], group=group) for (sample, group), turns in pairs]
    chosen = correct(block, terms[block.steps], terms[block.outcome], rollouts, device)
    ids, new, own = apply(chosen, made[1], texts, config.policy.max_new_tokens)
    turns = [usual if text is None else [{**usual[0], "content": text}] for usual, text in zip(made[3], new, strict=True)]
    return (made[0], ids, made[2], turns, *made[4:]), own


def apply(
    chosen: Sequence[Corrected | None], ids: list[list[int]], texts: Any, limit: int
) -> tuple[list[list[int]], list[str | None], list[int]]:
    """Tokens of all answers after correction, the new texts of those that changed, and how many tokens of each the policy wrote."""
    new: list[str | None] = [None] * len(ids)
    written, own = list(ids), [len(tokens) for tokens in ids]
    for row, one in enumerate(chosen):
        made = spliced(ids[row], one, texts, limit) if one else None
        if one and made:
            (written[row], own[row]), new[row] = made, one.text
    return written, new, own


def spliced(ids: Sequence[int], one: Corrected, texts: Any, limit: int) -> tuple[list[int], int] | None:
    """Tokens of a corrected text, and how many of them are the first of `ids`; None where it takes more than `limit` or reads otherwise.

    `texts` is the tokenizer, or a processor with one.
    """
    tokenizer = getattr(texts, "tokenizer", texts)

    def decode(part: list[int]) -> str:
        return tokenizer.decode(part, skip_special_tokens=True)

    offsets = offsets_of(ids, decode)
    own = next((i for i, (start, end) in enumerate(offsets) if end > one.kept or start == end), len(offsets))
    place = offsets[own - 1][1] if own else 0
    made = [*ids[:own], *tokenizer.encode(one.text[place:], add_special_tokens=False)]
    if decode(made) != one.text or len(made) >= limit:
        return None
    return [*made, tokenizer.eos_token_id], own
