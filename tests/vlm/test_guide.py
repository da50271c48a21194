"""Part of each group begins its answer as the sample's label says, and learns from that."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vlreward.errors import ConfigError, DataError
from vlreward.run import RunFolder, quiet
from vlreward.types import Sample
from vlreward.vlm.guide import GivenStart, Guide
from vlreward.vlm.policy import read
from vlreward.vlm.stages import course
from vlreward.vlm.trainer import VLGRPOTrainer

STARTS = {"fast": "Fast:", "slow": "Slow:"}


class Letters:
    def encode(self, text, add_special_tokens):
        assert not add_special_tokens
        return [ord(letter) for letter in text]


def labelled(*labels: str | None) -> list[Sample]:
    return [Sample(id=f"s{i}", prompt="?", target={} if label is None else {"thinking": label}) for i, label in enumerate(labels)]


def test_the_first_share_of_each_group_is_guided_by_its_samples_label():
    slow, none, fast = labelled("slow", None, "fast")
    given = Guide(starts={"slow": "S", "fast": "FF"}, share=0.5).given([slow] * 4 + [none] * 4 + [fast] * 4, 4, Letters())
    assert given == [[83], [83], [], [], [], [], [], [], [70, 70], [70, 70], [], []]


def test_a_label_without_words_is_refused():
    with pytest.raises(DataError, match=r"s0: target\.thinking is 'medium', but `guide\.starts` has fast, slow"):
        Guide(starts=STARTS).check(labelled("medium"))
    with pytest.raises(ConfigError, match="expected words for each label"):
        Guide(starts={"fast": ""})


def test_data_without_any_label_are_refused_before_the_run(small):
    with pytest.raises(ConfigError, match=r"guide\.key: no sample has target\.thinking; the sources 'by_answer_length' and 'labelled'"):
        course(small(guide={"starts": STARTS}))
    Guide(starts=STARTS).check(labelled(None, "slow"))


def test_only_the_given_tokens_can_be_written_until_they_are_all_there():
    start = GivenStart([[4, 2], [], [1]])
    prompt = torch.zeros((3, 5), dtype=torch.long)
    scores = torch.randn(3, 6)
    first = start(prompt, scores)
    assert first.argmax(1)[[0, 2]].tolist() == [4, 1]
    assert first[0].isfinite().sum() == 1
    assert torch.equal(first[1], scores[1])
    second = start(torch.cat([prompt, torch.tensor([[4], [0], [1]])], 1), scores)
    assert second[0].isfinite().nonzero().flatten().tolist() == [2]
    assert torch.equal(second[1:], scores[1:])
    assert torch.equal(start(torch.zeros((3, 7), dtype=torch.long), scores), scores)


def test_guided_answers_of_a_run_begin_as_given_are_judged_so_and_reach_the_loss(small):
    data = {"kind": "labelled", "target": {"thinking": "slow"}, "of": {"kind": "tiny", "task": "grounding", "count": 2}}
    rewards = [{"kind": "box_iou"}, {"kind": "thinking_mode", "fast_prefix": "Fast:", "slow_prefix": "Slow:", "weight": 9}]
    config = small(data=data, rewards=rewards, guide={"starts": STARTS}, group={"size": 4, "prompts": 2})
    samples = config.data.samples()
    samples[1] = replace(samples[1], target={**samples[1].target, "thinking": "fast"})
    with quiet("transformers", "datasets"):
        made = VLGRPOTrainer(config, RunFolder.open(config.run, "train-vlm", config), *read(config.policy.model), samples)
        out = made._generate_and_score_completions([{"row": row, "prompt": []} for row in [0] * 4 + [1] * 4])
    texts = made.processing_class.batch_decode(out["completion_ids"], skip_special_tokens=True)
    assert [text.split(":")[0] for text in texts[:2] + texts[4:6]] == ["Slow", "Slow", "Fast", "Fast"]
    assert not any(text.startswith(("Slow", "Fast")) for text in texts[2:4] + texts[6:])
    assert made.table.scores[:, 1].tolist() == [1, 1, 0, 0, 1, 1, 0, 0]
    assert bool((out["advantages"][[0, 1, 4, 5]] > 0).all()), "what is announced as it should be beats what is not"
    assert out["completion_mask"][0, :3].tolist() == [1, 1, 1], "the given words are learned from"


def test_a_guide_is_refused_where_another_engine_writes(small):
    with pytest.raises(ConfigError, match="the policy itself writes") as caught:
        small(guide={"starts": STARTS}, trl={"use_vllm": True})
    assert caught.value.key == "guide"
