"""Critics stand on trunks of all families that policies come from, with pictures, several pictures, clips and none."""

from __future__ import annotations

import copy

import pytest
import torch
from families import FAMILIES, family, samples
from tokenizers.processors import TemplateProcessing

from vlreward.critics.heads.aspects import Aspects
from vlreward.critics.heads.scalar import Scalar
from vlreward.critics.network import Critic, adapt
from vlreward.types import Rollout

TEXTS = ("a cat", "two dogs on a mat", "nothing at all, or so it seems", "")


def judge_of(name: str, head) -> Critic:
    torch.manual_seed(0)
    model, processor = (copy.deepcopy(part) for part in family(name))
    return Critic(model.float().eval(), processor, head).eval()


def attempts(name: str) -> list[Rollout]:
    return [Rollout(sample=sample, text=TEXTS[i % len(TEXTS)]) for i, sample in enumerate(samples(name))]


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_a_trunk_of_any_family_is_read_alone_as_in_a_batch_on_either_side_and_comes_back(name, tmp_path):
    for head in (Scalar(), Aspects(names=("look", "truth"))):
        judge, rollouts = judge_of(name, head), attempts(name)
        together = judge.judge(rollouts).scores
        alone = torch.cat([judge.judge([rollout]).scores for rollout in rollouts])
        torch.testing.assert_close(together, alone, atol=2e-5, rtol=0)
        assert together.std() > 1e-4
        judge.side = "right"
        torch.testing.assert_close(together, judge.judge(rollouts).scores, atol=2e-5, rtol=0)
        judge.save(tmp_path / type(head).__name__)
        again = Critic.load(tmp_path / type(head).__name__)
        torch.testing.assert_close(together, again.judge(rollouts).scores, atol=2e-5, rtol=0)


@torch.no_grad()
def test_tokens_of_one_picture_see_each_other_in_gemma_as_transformers_reads_it():
    """Transformers' own chat, one at a time, kinds of tokens included; without those a picture's tokens would see only what is before."""
    judge = judge_of("gemma3", Scalar())
    for rollout, score in zip(attempts("gemma3"), judge.judge(attempts("gemma3")).scores, strict=True):
        shown = [{"type": "image", "image": visual.pil} for visual in rollout.sample.visuals]
        turns = [
            {"role": "user", "content": [*shown, {"type": "text", "text": rollout.sample.prompt}]},
            {"role": "assistant", "content": [{"type": "text", "text": rollout.text}]},
        ]
        inputs = judge.processor.apply_chat_template([turns], tokenize=True, return_dict=True, return_tensors="pt")
        last = judge.trunk.model(**inputs).last_hidden_state[0, -1:]
        torch.testing.assert_close(score[None], judge.network(last)[:, 0], atol=2e-5, rtol=0)
        inputs.pop("token_type_ids")
        causal = judge.network(judge.trunk.model(**inputs).last_hidden_state[0, -1:])[:, 0]
        assert torch.allclose(score[None], causal, atol=2e-5) != bool(shown)


@torch.no_grad()
def test_a_lora_with_tokens_of_its_own_starts_where_gemma_stands():
    """Gemma's embeddings are scaled, and so must those be that a LoRA trains."""
    judge, rollouts = judge_of("gemma3", Aspects(names=("look", "truth"))), attempts("gemma3")
    before = judge.judge(rollouts).scores
    adapt(judge, 2, "gemma")
    torch.testing.assert_close(before, judge.judge(rollouts).scores, atol=2e-5, rtol=0)


@torch.no_grad()
def test_a_template_that_begins_a_text_itself_gets_no_second_beginning():
    judge = judge_of("gemma3", Scalar())
    words = judge.processor.tokenizer
    words.bos_token = words.eos_token
    words._tokenizer.post_processor = TemplateProcessing(single="<|im_end|> $A", special_tokens=[("<|im_end|>", words.eos_token_id)])
    plain = judge.judge(attempts("gemma3")).scores
    assert words("a")["input_ids"][0] == words.bos_token_id
    seen = []
    judge.trunk.model.register_forward_pre_hook(lambda module, args, inputs: seen.append(inputs["input_ids"][0]), with_kwargs=True)
    judge.processor.chat_template = "<|im_end|>" + judge.processor.chat_template
    rollout = attempts("gemma3")[:1]
    torch.testing.assert_close(judge.judge(rollout).scores, plain[:1], atol=2e-5, rtol=0)
    assert (seen[0] == words.bos_token_id).sum() == 1 + 2, "one begins the text, two end turns"
