"""Near misses that go on right, and what their foreign tokens weigh."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from vlreward.errors import ConfigError, DataError
from vlreward.rewards.base import Reward
from vlreward.rewards.reference_steps import ReferenceSteps
from vlreward.rewards.transcripts import TranscriptMatch
from vlreward.run import RunFolder, quiet
from vlreward.types import Rollout, Sample
from vlreward.vlm.correction import Corrected, Correction, correct, shape
from vlreward.vlm.policy import read
from vlreward.vlm.rewriting import apply, spliced
from vlreward.vlm.train import train
from vlreward.vlm.trainer import VLGRPOTrainer

BLOCK = Correction(reference="<answer>{text}</answer>", steps="reference_steps", outcome="transcript_match")
SCOPE = {
    "data": {"kind": "tiny", "task": "plates", "count": 6},
    "policy": {"model": "assets/tiny-vlm-reader", "max_new_tokens": 10},
    "group": {"size": 4, "prompts": 2},
    "rewards": [{"kind": "transcript_match"}, {"kind": "reference_steps", "part": "character", "key": "text", "weight": 0.0}],
    "correction": {"reference": "<answer>{text}</answer>", "steps": "reference_steps", "outcome": "transcript_match"},
}


@dataclass(kw_only=True)
class Whole(Reward):
    """1 for the one text that is right as a whole."""

    kind = "whole"

    def one(self, rollout):
        return float(rollout.text == "<answer>ABC</answer>")


@pytest.fixture(scope="module")
def reader():
    return read("assets/tiny-vlm-reader")


def attempts(*texts: str, wanted: str = "ABCD", group: int = 0) -> list[Rollout]:
    return [Rollout(sample=Sample(id="s", prompt="?", target={"text": wanted}), text=text, group=group) for text in texts]


def corrected(rollouts: list[Rollout], **keys) -> list[Corrected | None]:
    return correct(replace(BLOCK, **keys), ReferenceSteps(part="character", key="text"), TranscriptMatch(), rollouts, "cpu")


def test_a_near_miss_keeps_its_right_steps_and_goes_on_as_the_reference():
    text = "Let me see. <answer>ABXD</answer> done"
    [one] = corrected(attempts(text))
    assert one == Corrected("Let me see. <answer>ABCD</answer>", text.index("X"))
    [short] = corrected(attempts("<answer>ABC</answer>"))
    assert short == Corrected("<answer>ABCD</answer>", 11)
    [long] = corrected(attempts("<answer>ABCDD</answer>"))
    assert long == Corrected("<answer>ABCD</answer>", 12)


def test_right_answers_and_far_misses_stay_as_they_are():
    assert corrected(attempts("<answer>ABCD</answer>", "<answer>XBCD</answer>", "ABCX", "")) == [None] * 4
    assert corrected(attempts("<answer>AXCD</answer>")) == [None]
    assert corrected(attempts("<answer>AXCD</answer>"), least=0.25) != [None]


def test_the_nearest_of_each_group_are_corrected_and_no_more_than_asked_for():
    first = attempts("<answer>ABXX</answer>", "<answer>ABCX</answer>", "<answer>ABYY</answer>")
    second = attempts("<answer>EX</answer>", wanted="EF", group=1)
    assert [one is not None for one in corrected([*first, *second])] == [False, True, False, True]
    assert [one is not None for one in corrected([*first, *second], most=2)] == [True, True, False, True]


def test_a_correction_that_the_outcome_does_not_find_right_is_dropped():
    steps = ReferenceSteps(part="character", key="text")
    [one] = correct(BLOCK, steps, Whole(), attempts("<answer>ABX</answer>", wanted="ABC"), "cpu")
    [none] = correct(BLOCK, steps, Whole(), attempts("It is <answer>ABX</answer>", wanted="ABC"), "cpu")
    assert (one, none) == (Corrected("<answer>ABC</answer>", 10), None)
    assert corrected(attempts("<answer>ABX</answer>", wanted="ABC"), reference="{text}") == [None], "a reference that is not right itself"


def test_a_target_without_the_reference_is_named():
    with pytest.raises(DataError, match=r"sample 's': its target has no 'solution'"):
        corrected(attempts("a"), reference="{solution}")


def test_own_tokens_stay_and_the_rest_is_written_anew(reader):
    _, processor = reader
    tokenizer = processor.tokenizer
    text, end = "<answer>ABX</answer>", tokenizer.eos_token_id
    ids = [*tokenizer.encode(text), end]
    made = spliced(ids, Corrected("<answer>ABCD</answer>", 10), processor, 30)
    assert made is not None
    written, own = made
    assert written[-1] == end
    assert tokenizer.decode(written[:-1]) == "<answer>ABCD</answer>"
    assert written[:own] == ids[:own]
    assert tokenizer.decode(ids[:own]) == "<answer>AB"
    assert spliced(ids, Corrected("<answer>ABCD</answer>", 10), processor, len(written) - 1) is None, "too long for the policy"
    cut = [*tokenizer.encode("<answer>AB"), end]
    assert spliced(cut, Corrected("<answer>ABCD</answer>", 10), processor, 30) == (written, own), "an end token is not kept"
    assert apply([None, Corrected("<answer>ABCD</answer>", 10)], [ids, ids], processor, 30) == (
        [ids, written], [None, "<answer>ABCD</answer>"], [len(ids), own],
    )  # fmt: skip


def test_a_character_that_a_token_shares_with_a_wrong_one_is_written_anew():
    class Pairs:
        eos_token_id = 99

        def decode(self, ids, **_):
            return "".join({1: "ab", 2: "cx", 3: "cd", 4: "c", 5: "d"}.get(token, "") for token in ids)

        def encode(self, text, **_):
            return {"cd": [3]}[text]

    assert spliced([1, 2, 99], Corrected("abcd", 3), Pairs(), 9) == ([1, 3, 99], 1)


def test_foreign_tokens_get_the_gradient_of_the_shaped_ratio_and_own_ones_that_of_the_loss():
    logps = torch.tensor([[-0.5, -3.0, -0.1]], requires_grad=True)
    inputs = {
        "borrowed": torch.tensor([[False, True, True]]),
        "advantages": torch.tensor([2.0]),
        "old_per_token_logps": torch.tensor([[-0.7, 5.0, -9.0]]),
    }
    shape(inputs, logps, 0.1)
    ratio = (logps - inputs["old_per_token_logps"]).exp()
    assert ratio[0].tolist() == pytest.approx([torch.tensor(0.2).exp().item(), 1, 1])
    (ratio * inputs["advantages"]).sum().backward()
    ours = logps.grad
    again = logps.detach().requires_grad_()
    chance = again.exp()
    value = 2.0 * torch.cat([(again[:, :1] + 0.7).exp(), chance[:, 1:] / (chance[:, 1:] + 0.1)], 1)
    value.sum().backward()
    assert torch.allclose(ours, again.grad)


def test_corrected_rollouts_are_judged_logged_and_learned_from_as_what_they_are(small):
    config = small(**SCOPE, trl={"num_iterations": 2})
    folder = RunFolder.open(config.run, "train-vlm", config)
    with quiet("transformers", "datasets"):
        made = VLGRPOTrainer(config, folder, *read(config.policy.model), config.data.samples())
        wanted = made.samples[0].target["text"]
        tokenizer = made.processing_class.tokenizer
        plan = [f"<answer>{wanted[:-1]}</answer>", "<answer>no", f"<answer>{wanted[:-1]}</answer>", "<answer>9</answer>"] * 2
        ids = [[*tokenizer.encode(text), tokenizer.eos_token_id] for text in plan]
        made._generate_single_turn = lambda prompt_ids, *_, **__: (ids, None)
        out = made._generate_and_score_completions([{"row": 0, "prompt": []} for _ in range(8)])
    right = f"<answer>{wanted}</answer>"
    assert [rollout.text == right for rollout in made.rollouts] == [True, False, False, False] * 2
    assert made.table.scores[:, 0].tolist() == [1, 0, 0, 0] * 2
    assert made.figures["corrected"] == 2
    assert bool((out["advantages"].view(2, 4)[:, 0] > 0).all())
    borrowed = out["borrowed"]
    assert borrowed.any(1).tolist() == [True, False, False, False] * 2
    first = out["completion_ids"][0][borrowed[0]].tolist()
    assert tokenizer.decode(first[:-1]) == wanted[-1] + "</answer>"
    assert first[-1] == tokenizer.eos_token_id

    made.current_gradient_accumulation_steps = 1
    out["old_per_token_logps"] = torch.zeros(out["completion_ids"].shape)
    before = {name: value.clone() for name, value in out.items() if isinstance(value, torch.Tensor)}
    loss = made._compute_loss(made.model, out)
    assert torch.isfinite(loss)
    assert all(torch.equal(out[name], value) for name, value in before.items()), "the next update starts from the same batch"


def test_a_run_with_corrections_takes_its_steps(small):
    rows = train(small(**SCOPE)).read("metrics.jsonl")
    assert len(rows) == 2
    assert all("corrected" in row for row in rows)


def test_terms_that_are_not_there_and_vllm_are_refused(small):
    with pytest.raises(ConfigError, match="the terms of `rewards` are transcript_match, reference_steps") as caught:
        small(**SCOPE | {"correction": SCOPE["correction"] | {"steps": "lines"}})
    assert caught.value.key == "correction.steps"
    with pytest.raises(ConfigError, match=r"set trl\.use_vllm to false"):
        small(**SCOPE, trl={"use_vllm": True})
