"""The beginning of what a vision-language model is told: the visuals, read once for all the words that stand behind them.

The cut lies behind the last special token before the user's words, where a tokenizer cuts anyway, so that beginning and rest together are
the tokens that the processor makes of the whole.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from vlreward.data.media import Clip, Picture, Visual
from vlreward.errors import ConfigError
from vlreward.models.prompts import PER_TOKEN, Clips, Prompt, compose, parts, processed
from vlreward.models.text_encoder import clean

SLOTS = ("\ue000words\ue000", "\ue000reply\ue000", "\ue000next\ue000")
"""Stand for the user's words, a reply and the user's next words while a chat template is rendered."""
MEDIA = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
"""How configurations call the tokens that stand for a picture or a clip."""


@dataclass(frozen=True)
class Beginning:
    """P tokens with their visuals, and the template's text between these and the words, and between the words and the answer."""

    model: Any
    processor: Any
    ids: torch.Tensor
    """[P] int64"""
    kinds: Mapping[str, torch.Tensor]
    media: Mapping[str, torch.Tensor]
    between: tuple[str, str, str]
    """Before the words; from there to the reply; from there to the user's next words."""

    def behind(self, words: str, lead: str = "", replied: str | None = None) -> list[int]:
        """Tokens of the rest of the turn up to the answer and of how the answer begins; or up to what a user says to a reply."""
        before, after, again = self.between
        words, lead = self.plain(words), self.plain(lead)
        text = f"{before}{words}{after}{lead}" if replied is None else f"{before}{words}{after}{self.plain(replied)}{again}{lead}"
        return self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]

    def plain(self, text: str) -> str:
        """The text with a space inside of each special token's name, so that no words end a turn or stand for a picture."""
        return plain(self.processor.tokenizer, text)

    def prompt(self, behind: Sequence[int] = ()) -> Prompt:
        """The beginning with some of what stands behind it, as the model reads it."""
        added = torch.tensor(behind, dtype=torch.int64)
        kinds = {name: torch.cat([values, values.new_zeros(len(added))]) for name, values in self.kinds.items()}
        return compose(self.model, torch.cat([self.ids, added]), kinds, self.media)

    @property
    def ends_open(self) -> bool:
        """Whether its last token is part of a picture or clip, or there is none: then it cannot stand before several texts by itself."""
        marks = {getattr(self.model.config, name, None) for name in MEDIA}
        return not len(self.ids) or int(self.ids[-1]) in marks


def begin(model: Any, processor: Any, visuals: Sequence[Visual], system: str = "", clips: Clips | None = None) -> Beginning:
    """The beginning of a turn about visuals, in order.

    Pictures that are tensors with a gradient keep it: the values are those that the processor makes of their 8-bit levels, the gradient is
    that of the same steps (resize, rescale, normalise, cut into patches or tiles) on the tensor itself.
    """
    before, after, again = _template(processor, tuple(type(visual) for visual in visuals), system)
    cut = max((before.rfind(token) + len(token) for token in _added(processor.tokenizer) if token in before), default=0)
    first, rest = before[:cut], before[cut:]
    bos = processor.tokenizer.bos_token
    special = not (bos and first.startswith(bos))
    inputs = _inputs(processor, first, visuals, clips, special)
    ids = torch.as_tensor(inputs.pop("input_ids"))[0].long()
    inputs.pop("attention_mask", None)
    kinds = {name: torch.as_tensor(inputs.pop(name))[0] for name in PER_TOKEN if name in inputs}
    return Beginning(model, processor, ids, kinds, {name: torch.as_tensor(values) for name, values in inputs.items()}, (rest, after, again))


@cache
def _template(processor: Any, kinds: tuple[type, ...], system: str) -> tuple[str, str, str]:
    """What the chat template writes before a user's words about such visuals, from there to a reply, and from there to the next words."""
    stand_ins: dict[type, Any] = {Picture: Picture(torch.zeros(3, 1, 1)), Clip: Clip(torch.zeros(1, 3, 1, 1))}
    words, reply, following = SLOTS
    turns = [{"role": "system", "content": parts([system])}] if system else []
    turns.append({"role": "user", "content": parts([*(stand_ins[kind] for kind in kinds), words])})
    asked = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    turns += [{"role": "assistant", "content": parts([reply])}, {"role": "user", "content": parts([following])}]
    again = processor.apply_chat_template(turns, tokenize=False)
    if asked.count(words) != 1 or again.count(reply) != 1 or again.count(following) != 1:
        raise ConfigError("has a chat template that does not write each turn's words exactly once", "model")
    before, _, after = asked.partition(words)
    return before, after, again.partition(reply)[2].partition(following)[0]


@cache
def _added(tokenizer: Any) -> tuple[str, ...]:
    return tuple(tokenizer.added_tokens_encoder)


@cache
def _special(tokenizer: Any) -> tuple[str, ...]:
    return tuple(str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)


def plain(tokenizer: Any, text: str) -> str:
    """The text without lone surrogates, and with a space inside of the name of each special token."""
    text = clean(text)
    for token in _special(tokenizer):
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def _inputs(processor: Any, text: str, visuals: Sequence[Visual], clips: Clips | None, special: bool) -> dict[str, Any]:
    exact = dict(processed(processor, [text], [visuals], clips, add_special_tokens=special))
    if not any(has_gradient(visual) for visual in visuals):
        return exact
    assert all(isinstance(visual, Picture) for visual in visuals), "a clip is judged by its frames where a gradient is wanted"
    levels = [visual.tensor * 255 for visual in visuals]
    smooth = dict(_smooth(processor)(text=[text], images=levels, add_special_tokens=special, return_tensors="pt"))
    return exact | {name: _through(values, exact[name]) for name, values in smooth.items() if values.requires_grad}


def _through(values: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """The exact values, with the gradient of the others."""
    return values + (exact.to(values) - values).detach()


def has_gradient(visual: Visual) -> bool:
    """Whether it is a tensor that carries a gradient."""
    made = visual.__dict__.get("tensor")
    return made is not None and made.requires_grad


@cache
def _smooth(processor: Any) -> Any:
    """The processor for pictures [3,H,W] of levels from 0 to 255 that are no whole numbers: after resizing they stay within the range, as
    8-bit levels do."""
    smooth, pictures = copy.copy(processor), copy.copy(processor.image_processor)
    resize = pictures.resize
    pictures.resize = lambda *args, **keys: resize(*args, **keys).clamp(0, 255)
    smooth.image_processor = pictures
    return smooth
