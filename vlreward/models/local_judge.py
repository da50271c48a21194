"""A judge in this process: a vision-language model from a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vlreward.config import Count
from vlreward.data.media import Picture
from vlreward.errors import DataError, RewardError
from vlreward.models.answer_cache import AnswerCache
from vlreward.models.folders import vision_language_model
from vlreward.models.judge import Answer, Judge, Sampling, Token, Turn
from vlreward.models.text_encoder import clean
from vlreward.registry import register


@register("local")
@dataclass(kw_only=True)
class LocalJudge(Judge):
    """A transformers model with a chat template, in this process.

    An answer does not depend on the others of its batch: chance follows from the question and its seed.
    """

    model: str
    """A folder, looked for from the current folder and then from the package's repository."""
    batch: Count = 16
    """Answers that are written at a time."""
    cache: Path | None = None
    """Folder of answers; the same question to the same model is answered once."""

    def load(self, device: str) -> None:
        self._model, self._processor = vision_language_model(self.model, device)

    def ask(self, questions: Sequence[Sequence[Turn]], sampling: Sequence[Sampling]) -> list[Answer | RewardError]:
        if not hasattr(self, "_model"):
            self.load("cpu")
        kept = AnswerCache(self.cache) if self.cache else None
        found: list[Answer | RewardError | None] = [None] * len(questions)
        waiting: list[int] = []
        for row, (question, how) in enumerate(zip(questions, sampling, strict=True)):
            try:
                found[row] = kept.get(kept.key(self.model, question, how)) if kept else None
                _ = [part.pil for turn in question for part in turn.parts if isinstance(part, Picture)]
            except DataError as error:
                found[row] = RewardError(str(error))
            if found[row] is None:
                waiting.append(row)
        waiting.sort(key=lambda row: (sampling[row].max_tokens, sampling[row].options, self._length(questions[row])))
        for first in range(0, len(waiting), self.batch):
            rows = waiting[first : first + self.batch]
            answers = self._write([questions[row] for row in rows], [sampling[row] for row in rows])
            for row, answer in zip(rows, answers, strict=True):
                found[row] = answer
                if kept:
                    kept.put(kept.key(self.model, questions[row], sampling[row]), answer)
        return [answer for answer in found if answer is not None]

    @staticmethod
    def _length(question: Sequence[Turn]) -> int:
        return sum(len(part) for turn in question for part in turn.parts if isinstance(part, str))

    @torch.no_grad()
    def _write(self, questions: Sequence[Sequence[Turn]], sampling: Sequence[Sampling]) -> list[Answer]:
        tokenizer = self._processor.tokenizer
        texts = [self._processor.apply_chat_template(self._messages(question), add_generation_prompt=True, tokenize=False)
                 for question in questions]  # fmt: skip
        pictures = [part.pil for question in questions for turn in question for part in turn.parts if isinstance(part, Picture)]
        inputs = self._processor(text=texts, images=pictures or None, padding=True, padding_side="left", return_tensors="pt")
        inputs = inputs.to(self._model.device)
        longest, options = max(how.max_tokens for how in sampling), max(how.options for how in sampling)
        start = inputs["input_ids"].shape[1]
        chances = [chance(text, how) for text, how in zip(texts, sampling, strict=True)]
        made = self._model.generate(
            **inputs, max_new_tokens=longest, do_sample=False, logits_processor=[Drawing(chances, sampling)],
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
            output_logits=bool(options), return_dict_in_generate=True,
        )  # fmt: skip
        ends = self._model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        answers = []
        for row, how in enumerate(sampling):
            ids = made.sequences[row, start : start + how.max_tokens].tolist()
            ids = ids[: next((place for place, token in enumerate(ids) if token in ends), len(ids))]
            tokens = (
                tuple(self._token(ids, place, made.logits[place][row], how.options) for place in range(len(ids))) if how.options else ()
            )
            answers.append(Answer(text=tokenizer.decode(ids, skip_special_tokens=True), tokens=tokens))
        return answers

    def _token(self, ids: list[int], place: int, logits: torch.Tensor, options: int) -> Token:
        decode = self._processor.tokenizer.decode
        logps, chosen = logits.float().log_softmax(-1).topk(min(options, len(logits)))
        before = decode(ids[:place], skip_special_tokens=True)
        text = decode(ids[: place + 1], skip_special_tokens=True)[len(before) :]
        return Token(text=text, options={decode([token]): logp for token, logp in zip(chosen.tolist(), logps.tolist(), strict=True)})

    def _messages(self, question: Sequence[Turn]) -> list[dict[str, Any]]:
        def part(one: str | Picture) -> dict[str, Any]:
            return {"type": "text", "text": self._harmless(one)} if isinstance(one, str) else {"type": "image"}

        return [{"role": turn.role, "content": [part(one) for one in turn.parts]} for turn in question]

    def _harmless(self, words: str) -> str:
        """Words in which the tokenizer finds none of its special tokens, which would end a turn or stand for a picture."""
        for special in self._processor.tokenizer.all_special_tokens:
            words = words.replace(special, f"{special[:1]} {special[1:]}")
        return clean(words)


class Drawing:
    """Turns greedy decoding into sampling, each row by its own chance: the largest of logits / temperature + Gumbel noise is a sample."""

    def __init__(self, chances: Sequence[torch.Generator], sampling: Sequence[Sampling]):
        self.chances, self.sampling = chances, sampling

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for row, (chance, how) in enumerate(zip(self.chances, self.sampling, strict=True)):
            if how.temperature > 0:
                uniform = torch.rand(scores.shape[1], generator=chance, dtype=torch.float64).clamp_min(1e-300)
                scores[row] = scores[row] / how.temperature - (-uniform.log()).log().to(scores)
        return scores


def chance(text: str, how: Sampling) -> torch.Generator:
    """Random numbers that follow from a question and a seed."""
    number = int.from_bytes(hashlib.sha256(f"{how.seed}/{text}".encode(errors="replace")).digest()[:7], "big")
    return torch.Generator().manual_seed(number)
