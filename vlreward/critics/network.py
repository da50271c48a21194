"""A critic: a vision-language trunk with a head, kept in one folder.

critic.json          the head with its keys, the budget of pixels, and of a LoRA the folder it belongs to
head.safetensors     the head's weights
config.json, ...     the trunk and its processor as transformers writes them; of a LoRA the adapter as peft does
"""

from __future__ import annotations

import inspect
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from vlreward.config import parse, resolved
from vlreward.critics.heads.base import Head, States
from vlreward.critics.reading import Reading, conversation
from vlreward.critics.verdicts import Verdicts
from vlreward.data.media import Picture, Visual
from vlreward.errors import ConfigError, RewardError
from vlreward.models.folders import LANGUAGE, fill, load_weights, trainable_model
from vlreward.models.prompts import Clips, processed
from vlreward.run.launch import Launch
from vlreward.types import Rollout

CARD, HEAD = "critic.json", "head.safetensors"
AT_ONCE = 16
"""Readings in one forward pass where nothing is learned."""


class Critic(nn.Module):
    """Trunk and head. `pixels` is the least and the most that a picture is shown with; others are resized, aspect kept."""

    def __init__(self, trunk: Any, processor: Any, head: Head, pixels: tuple[int, int] | None = None, clips: Clips | None = None):
        super().__init__()
        self.trunk, self.processor, self.head, self.pixels, self.clips = trunk, processor, head, pixels, clips
        self.side = "left"
        for mark in head.marks:
            processor.tokenizer.add_tokens([mark], special_tokens=True)
        if len(processor.tokenizer) > self.plain_trunk.get_input_embeddings().weight.shape[0]:
            self.plain_trunk.resize_token_embeddings(len(processor.tokenizer), mean_resizing=False)
        self.special = sorted({*processor.tokenizer.all_special_tokens, *head.marks, *processor.tokenizer.get_added_vocab()})
        self.ids = {mark: processor.tokenizer.convert_tokens_to_ids(mark) for mark in head.marks}
        self.width: int = self.plain_trunk.get_input_embeddings().weight.shape[1]
        self.network = head.network(self.width).float()

    @property
    def plain_trunk(self) -> Any:
        """The transformers model, without the adapter around it."""
        return self.trunk.get_base_model() if hasattr(self.trunk, "get_base_model") else self.trunk

    @property
    def device(self) -> torch.device:
        return self.plain_trunk.device

    def judge(
        self, rollouts: Sequence[Rollout], rng: random.Random | None = None, at_once: int | None = None, launch: Launch | None = None
    ) -> Verdicts:
        """What it says of B rollouts, of which those with the same group are read together by heads that do so. float32, on its device.

        `rng` is given while it learns; then all readings go through the trunk in one pass, else `at_once` at a time. The processes of a
        `launch` read a part each and have the verdicts on all.
        """
        readings, owners = self.readings(rollouts, rng)
        parts = launch.parts(len(readings)) if launch else [range(len(readings))]
        mine = [readings[number] for number in parts[launch.rank if launch else 0]]
        size = max(1, len(mine)) if rng is not None else at_once or AT_ONCE
        rows = [row for first in range(0, len(mine), size) for row in self.states(mine[first : first + size])]
        own = torch.cat(rows) if rows else torch.empty(0, self.width, device=self.device)
        states = States(
            rows=launch.together(own, [sum(len(owners[number][0]) for number in part) for part in parts]) if launch else own,
            owner=torch.tensor([row for group in owners for row in group[0]], dtype=torch.long, device=self.device),
            rival=torch.tensor([group[1] for group in owners for _ in group[0]], dtype=torch.long, device=self.device),
            marks=[mark for reading in readings for mark in reading.marks or [""]],
            rollouts=rollouts,
            words=self.words,
        )
        with torch.autocast(self.device.type, enabled=False):
            return self.head.verdicts(self.network, states)

    def readings(self, rollouts: Sequence[Rollout], rng: random.Random | None) -> tuple[list[Reading], list[tuple[list[int], int]]]:
        """All readings, and for each the rows of the rollouts that its states are about and that of their rival (-1: none)."""
        groups: dict[Any, list[int]] = {}
        for row, rollout in enumerate(rollouts):
            groups.setdefault(rollout.group if self.head.scope == "group" else row, []).append(row)
        readings: list[Reading] = []
        owners: list[tuple[list[int], int]] = []
        for rows in groups.values():
            for reading in self.head.readings([rollouts[row] for row in rows], rng):
                readings.append(reading)
                rival = rows[reading.rival] if reading.rival >= 0 else -1
                owners.append(([rows[owner] for owner in reading.owners], rival))
        return readings, owners

    def states(self, readings: Sequence[Reading]) -> list[torch.Tensor]:
        """For each reading [M,D] float32: the trunk's states at its marks, in order, or at its last token."""
        texts = [conversation(reading, self.processor, self.special) for reading in readings]
        visuals = [[self.sized(visual) for visual in reading.visuals] for reading in readings]
        inputs = processed(self.processor, texts, visuals, self.clips, padding=True, padding_side=self.side).to(self.device)
        inner = self.plain_trunk.model
        taken = inspect.signature(type(inner).forward).parameters
        known = {name: values for name, values in inputs.items() if name in taken or "kwargs" in taken}
        hidden = inner(**known, use_cache=False).last_hidden_state
        found = []
        for row, reading, ids, mask in zip(hidden, readings, inputs["input_ids"], inputs["attention_mask"].bool(), strict=True):
            found.append(row[self.places(reading, ids, mask)].float())
        return found

    def places(self, reading: Reading, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[M] where a reading's states are read. Raises RewardError where its marks are not there as often as they should be."""
        if not reading.marks:
            return mask.nonzero()[-1]
        wanted = torch.tensor([self.ids[mark] for mark in reading.marks], device=ids.device)
        at = torch.isin(ids, wanted).nonzero()[:, 0]
        if ids[at].tolist() != wanted.tolist():
            raise RewardError(f"the critic's special tokens stand {len(at)} times in a reading, expected {len(wanted)}")
        return at

    def sized(self, visual: Visual) -> Visual:
        """The picture within the budget of pixels."""
        if self.pixels is None or not isinstance(visual, Picture):
            return visual
        width, height = visual.size
        wanted = min(max(width * height, self.pixels[0]), self.pixels[1])
        if wanted == width * height:
            return visual
        scale = (wanted / (width * height)) ** 0.5
        return Picture(visual.pil.resize((max(1, round(width * scale)), max(1, round(height * scale)))))

    def words(self, words: Sequence[str]) -> torch.Tensor:
        """[K,D] rows of the trunk's language head for words of one token each. Raises ConfigError for a word that is more."""
        ids = []
        for word in words:
            tokens = self.processor.tokenizer(word, add_special_tokens=False)["input_ids"]
            if len(tokens) != 1:
                raise ConfigError(f"{word!r} is {len(tokens)} tokens of this model, expected words of one", "critic.head")
            ids.append(tokens[0])
        return self.plain_trunk.get_output_embeddings().weight[torch.tensor(ids, device=self.device)].float()

    def save(self, folder: Path) -> None:
        """Into a folder, in the precision that it is held in."""
        folder.mkdir(parents=True, exist_ok=True)
        adapter = {"save_embedding_layers": False} if self.trunk is not self.plain_trunk else {}
        self.trunk.save_pretrained(folder, **adapter)
        self.processor.save_pretrained(folder)
        weights = {name: weight.detach().cpu().contiguous() for name, weight in self.network.state_dict().items()}
        save_file(weights, folder / HEAD)
        card = {"head": resolved(self.head), "pixels": self.pixels, "clips": resolved(self.clips)}
        (folder / CARD).write_text(json.dumps(card, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", half: bool = False) -> Critic:
        """From a folder that `save` wrote, in float32 (the trunk in bfloat16 if `half`). Raises ConfigError where there is none."""
        card = read_card(folder)
        trunk, processor = trainable_model(str(folder), "path", half)
        pixels = tuple(card["pixels"]) if card["pixels"] else None
        critic = cls(trunk, processor, read_head(folder), pixels, parse(Clips | None, card["clips"]))
        fill(critic.network, load_weights(folder / HEAD, "path"), folder / HEAD, "path")
        return critic.to(device).eval()


def read_card(folder: Path, key: str = "path") -> dict[str, Any]:
    """What critic.json says, of a folder that holds the head's weights too. Raises ConfigError about `key`."""
    if not (folder / CARD).is_file():
        raise ConfigError(f"is {str(folder)!r}, where no critic was saved; `vlreward train-critic` leaves one in runs/<name>/critic", key)
    if not (folder / HEAD).is_file():
        raise ConfigError(f"is {str(folder)!r}, half of a critic: {HEAD} is missing", key)
    try:
        card = json.loads((folder / CARD).read_text())
    except ValueError as error:
        raise ConfigError(f"cannot read {str(folder / CARD)!r} ({error})", key) from error
    if not isinstance(card, dict) or not {"head", "pixels", "clips"} <= card.keys():
        raise ConfigError(f"{str(folder / CARD)!r} does not say head, pixels and clips, as a critic's does", key)
    return card


def read_head(folder: Path) -> Head:
    """The head that critic.json describes, without its weights. Raises ConfigError."""
    head = read_card(folder)["head"]
    try:
        return parse(Head, head)
    except ConfigError as error:
        raise ConfigError(f"{str(folder / CARD)!r}: head.{error}", "path") from error


def adapt(critic: Critic, rank: int, model: str) -> None:
    """Put a LoRA into the trunk's language model, which alone is trained then, with the rows of the critic's own tokens."""
    from peft import LoraConfig, get_peft_model

    tokens: dict[str, Any] = {"trainable_token_indices": {"embed_tokens": sorted(critic.ids.values())}} if critic.ids else {}
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LANGUAGE, **tokens)
    critic.trunk = get_peft_model(critic.trunk, config)
    critic.trunk.peft_config["default"].base_model_name_or_path = model
