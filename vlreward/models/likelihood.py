"""How likely a frozen vision-language model holds texts as answers to questions about pictures.

What several questions have in common (the pictures, or the whole question) is read once, and the rest of each lies behind it in the same
row, as in `shared_prefix.py`; continuations that only differ in their last token share all before it. Only the positions of scored tokens
go through the head, a chunk at a time and in float32, so that logits of the whole vocabulary are never held. A score depends neither on
what else is asked in the same call nor on padding.

Legend: N items, M scored tokens, D width, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from vlreward.data.media import Picture, Visual
from vlreward.errors import ConfigError
from vlreward.models.folders import vision_language_model
from vlreward.models.prompts import Clips, stack
from vlreward.models.reading import Beginning, begin, has_gradient, plain
from vlreward.models.shared_prefix import masks, pack, unsuitable

ROW_TOKENS = 2048
"""Longest packed row, unless a beginning is longer than half of it; longer ones would pay more for attention than they save."""
TOKENS_AT_ONCE = {"cpu": 1024}
"""Tokens in one forward pass by kind of device, unless one group has more; a processor's caches hold little."""
TOKENS_AT_MOST = 16_384
"""The same for other devices, and for the largest part of a group."""
WRITTEN_AT_ONCE = 16
"""Answers in one batch."""
LOGITS_AT_ONCE = 2**25
"""Numbers of a chunk of logits: 128 MB in float32."""


@dataclass(frozen=True)
class Context:
    """What the model has been told before the text that is scored: one turn of a user, and how the answer begins."""

    words: str
    """The user's words, which stand behind the visuals."""
    visuals: tuple[Visual, ...] = ()
    lead: str = ""
    """The beginning of what is scored, itself not scored."""
    replied: str | None = None
    """The model's whole reply; what is scored is then what the user says to it."""
    system: str = ""


@dataclass(frozen=True)
class Scored:
    """A continuation that was scored: the log-probability of each of its tokens, in the whole vocabulary."""

    logps: torch.Tensor
    """[T] float32 (float64 of a model in double precision); T is 0 for an empty text. Carries gradient to visuals that do."""

    @property
    def total(self) -> torch.Tensor:
        """Log-probability of the whole text, float64."""
        return self.logps.double().sum()

    @property
    def mean(self) -> torch.Tensor:
        """Per token, float64; NaN for an empty text."""
        return self.logps.double().mean() if len(self.logps) else torch.tensor(float("nan"), dtype=torch.float64)


@dataclass(frozen=True)
class LikelihoodModel:
    """A vision-language model and its processor."""

    model: Any
    processor: Any
    clips: Clips | None = None

    def tokens(self, text: str) -> list[int]:
        """A continuation's tokens: the text alone, no beginning, end or turn token."""
        return self.processor.tokenizer(plain(self.processor.tokenizer, text), add_special_tokens=False)["input_ids"]

    def score(self, items: Sequence[tuple[Context, str]]) -> list[Scored]:
        """The log-probability of each continuation in its context. Gradient flows to visuals that are tensors with one."""
        return self.score_tokens([(context, self.tokens(text)) for context, text in items])

    def score_tokens(self, items: Sequence[tuple[Context, Sequence[int]]]) -> list[Scored]:
        """The same for continuations that are given as tokens."""
        gradient = torch.is_grad_enabled() and any(has_gradient(visual) for context, _ in items for visual in context.visuals)
        with torch.set_grad_enabled(gradient):
            found: list[Scored | None] = [None] * len(items)
            for batch in _batches(self._groups(items), TOKENS_AT_ONCE.get(self.model.device.type, TOKENS_AT_MOST)):
                for index, logps in self._forward(batch):
                    found[index] = Scored(logps)
        assert all(scored is not None for scored in found), "every item is in one group"
        return found  # type: ignore[return-value]

    @torch.no_grad()
    def write(self, contexts: Sequence[Context], max_new_tokens: int) -> list[str]:
        """What the model answers each context greedily, without what ends the turn."""
        texts: list[str] = []
        for first in range(0, len(contexts), WRITTEN_AT_ONCE):
            prompts = []
            for context in contexts[first : first + WRITTEN_AT_ONCE]:
                begun = begin(self.model, self.processor, context.visuals, context.system, self.clips)
                prompts.append(begun.prompt(begun.behind(context.words, context.lead, context.replied)))
            inputs = stack(prompts, self.pad, self.model.device)
            inputs.pop("position_ids")
            made = self.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=self.pad)
            texts += self.processor.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return texts

    def _groups(self, items: Sequence[tuple[Context, Sequence[int]]]) -> list[_Group]:
        """Items by the pictures they share, or by the whole context where that is less to read."""
        begun: dict[Any, Beginning] = {}
        sequences: dict[Any, list[tuple[int, list[int], list[int]]]] = {}
        for index, (context, continuation) in enumerate(items):
            key = (context.system, tuple(_identity(visual) for visual in context.visuals))
            if key not in begun:
                begun[key] = begin(self.model, self.processor, context.visuals, context.system, self.clips)
            behind = begun[key].behind(context.words, context.lead, context.replied)
            sequences.setdefault(key, []).append((index, behind, [*continuation]))
        return [group for key, rows in sequences.items() for group in _grouped(begun[key], rows)]

    def _forward(self, groups: Sequence[_Group]) -> Iterable[tuple[int, torch.Tensor]]:
        """(item, log-probabilities of its tokens) of groups that fit into one pass."""
        prompts = [group.begun.prompt(group.shared) for group in groups]
        limit = max(ROW_TOKENS, 2 * max(group.beginning for group in groups))
        hosts = [(number, torch.tensor(host, dtype=torch.int64)) for number, group in enumerate(groups) for host in group.hosts]
        rows = pack(prompts, [number for number, _ in hosts], [host for _, host in hosts], limit, self.pad)
        rows = rows.to(self.model.device)
        out = self.model.model(
            input_ids=rows.ids, position_ids=rows.position, attention_mask=masks(rows, self.model.config), use_cache=False,
            **rows.kinds, **_cast(rows.media, self.model.dtype),
        )  # fmt: skip
        first, taken, counts, places, wanted = 0, [], [], [], []
        where = rows.where.tolist()
        for group in groups:
            for index, host, skipped, continuation in group.items:
                row, column = where[first + host]
                taken.append(index)
                counts.append(len(continuation))
                places += [row * rows.ids.shape[1] + column + skipped + step for step in range(len(continuation))]
                wanted += continuation
            first += len(group.hosts)
        device = out.last_hidden_state.device
        states = out.last_hidden_state.flatten(0, 1)[torch.tensor(places, dtype=torch.long, device=device)]
        logps = token_logps(self.model, states, torch.tensor(wanted, dtype=torch.long, device=device))
        yield from zip(taken, logps.split(counts), strict=True)

    @property
    def pad(self) -> int:
        """The token that fills rows up; it is never looked at."""
        return self.processor.tokenizer.pad_token_id or 0


@dataclass(frozen=True)
class _Group:
    """Items that share a beginning, and the sequences behind it that their tokens are read from."""

    begun: Beginning
    shared: list[int]
    hosts: list[list[int]]
    items: list[tuple[int, int, int, list[int]]]
    """(item, its host, tokens of the host before the continuation, the continuation)"""

    @property
    def beginning(self) -> int:
        """Tokens of what is shared."""
        return len(self.begun.ids) + len(self.shared)

    @property
    def size(self) -> int:
        """Tokens to read."""
        return self.beginning + sum(map(len, self.hosts))


def _grouped(begun: Beginning, rows: Sequence[tuple[int, list[int], list[int]]]) -> list[_Group]:
    """Rows (item, context behind the visuals, continuation) of the same visuals by what costs less to read: behind all that the contexts
    have in common, or a group for each context."""
    apart: dict[tuple[int, ...], list[Any]] = {}
    for row in rows:
        apart.setdefault(tuple(row[1]), []).append(row)
    each = [_sharing(begun, same, len(behind)) for behind, same in apart.items()]
    shared = _common([list(behind) for behind in apart])
    if len(apart) == 1 or (not shared and begun.ends_open):
        return each
    whole = _sharing(begun, rows, shared)
    return [whole] if whole.size <= sum(group.size for group in each) else each


def _sharing(begun: Beginning, rows: Sequence[tuple[int, list[int], list[int]]], shared: int) -> _Group:
    """A group whose contexts share so many tokens. A sequence that differs from another's start in its last token only is no host."""
    fed = {index: [*behind[shared:], *continuation] for index, behind, continuation in rows}
    hosts: list[list[int]] = []
    place: dict[int, int] = {}
    for index in sorted(fed, key=lambda index: fed[index], reverse=True):
        seen = fed[index][:-1]
        if not hosts or hosts[-1][: len(seen)] != seen or len(hosts[-1]) < len(fed[index]):
            hosts.append(fed[index])
        place[index] = len(hosts) - 1
    items = [(index, place[index], len(behind) - shared, continuation) for index, behind, continuation in rows]
    return _Group(begun, rows[0][1][:shared], hosts, items)


def _common(sequences: Sequence[list[int]]) -> int:
    """Tokens that all begin with."""
    low, high = min(sequences), max(sequences)
    return next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))


def _batches(groups: Sequence[_Group], limit: int) -> Iterable[list[_Group]]:
    """Groups of like size together, up to `limit` tokens; a group that is too large for one pass is cut."""
    batch: list[_Group] = []
    size = 0
    for group in sorted((part for group in groups for part in _cut(group)), key=lambda group: group.size):
        if batch and size + group.size > limit:
            yield batch
            batch, size = [], 0
        batch.append(group)
        size += group.size
    if batch:
        yield batch


def _cut(group: _Group) -> Iterable[_Group]:
    """Parts whose hosts fit into one pass."""
    start = 0
    while start < len(group.hosts):
        end, size = start + 1, group.beginning + len(group.hosts[start])
        while end < len(group.hosts) and size + len(group.hosts[end]) <= TOKENS_AT_MOST:
            size += len(group.hosts[end])
            end += 1
        items = [(index, host - start, skipped, text) for index, host, skipped, text in group.items if start <= host < end]
        yield replace(group, hosts=group.hosts[start:end], items=items)
        start = end


def token_logps(model: Any, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """[M] log-probability of the tokens [M] after the states [M,D], by the model's head, a chunk at a time in float32."""
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    chunk = max(1, LOGITS_AT_ONCE // model.config.get_text_config().vocab_size)

    def part(states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        logits = model.lm_head(states)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logits = logits if cap is None else cap * torch.tanh(logits / cap)
        return logits.gather(1, tokens[:, None])[:, 0] - torch.logsumexp(logits, 1)

    pieces = zip(states.split(chunk), tokens.split(chunk), strict=True)
    if states.requires_grad:
        return torch.cat([checkpoint(part, *piece, use_reentrant=False) for piece in pieces])  # type: ignore[misc]
    return torch.cat([part(*piece) for piece in pieces])


def _cast(media: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {name: values.to(dtype) if values.is_floating_point() else values for name, values in media.items()}


def _identity(visual: Visual) -> Any:
    """The same for pictures that look the same; a picture with a gradient, and a clip, is only itself."""
    if not isinstance(visual, Picture) or has_gradient(visual):
        return id(visual)
    image = visual.pil
    return image.size, hashlib.blake2b(image.tobytes(), digest_size=16).digest()


@cache
def load_likelihood_model(model: str, device: str) -> LikelihoodModel:
    """A vision-language model of a transformers folder; computed in float32 on a CPU. Raises ConfigError."""
    network, processor = vision_language_model(model, device)
    reason = unsuitable(network.config)
    if reason:
        raise ConfigError(f"is {model!r}, which {reason}", "model")
    return LikelihoodModel(network, processor)
