"""PrefBERT on a tiny random checkpoint in its layout, beside transformers' own forward, one pair at a time."""

import pytest
import torch
from checkpoints import save_pref_bert, saved
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoTokenizer

from vlreward.errors import ConfigError
from vlreward.rewards.pref_bert import PrefBert
from vlreward.types import Rollout, Sample

FOLDER = saved(save_pref_bert)
PAIRS = [("the red circle", "the blue square"), ("it is small", "the red circle is on the left of the blue square ."), ("two", "two")]


def rollout(text: str, *wanted: str) -> Rollout:
    return Rollout(sample=Sample(id="s", prompt="?", target={"answer": list(wanted)}), text=f"<answer>{text}</answer>")


def plain(answer: str, wanted: str) -> float:
    state = load_file(f"{FOLDER()}/pytorch_model.safetensors")
    net = AutoModel.from_config(AutoConfig.from_pretrained(FOLDER())).eval()
    net.load_state_dict({name.removeprefix("bert."): value for name, value in state.items() if name.startswith("bert.")})
    inputs = AutoTokenizer.from_pretrained(FOLDER())(f"{wanted} [SEP] {answer}", return_tensors="pt")
    with torch.no_grad():
        first = net(input_ids=inputs["input_ids"]).last_hidden_state[0, 0]
    return float(torch.sigmoid(first @ state["regressor.weight"][0] + state["regressor.bias"][0]))


def test_the_score_is_the_sigmoid_of_the_regressor_on_the_first_token():
    got = PrefBert(model=FOLDER()).score([rollout(*pair) for pair in PAIRS]).scores.tolist()
    assert got == pytest.approx([plain(*pair) for pair in PAIRS], abs=1e-5)
    assert max(got) - min(got) > 0.01


def test_reference_and_answer_are_told_apart():
    forth, back = PrefBert(model=FOLDER()).score([rollout(*PAIRS[0]), rollout(*PAIRS[0][::-1])]).scores.tolist()
    assert abs(forth - back) > 1e-4


def test_scores_depend_neither_on_the_batch_nor_on_its_order():
    reward, rows = PrefBert(model=FOLDER()), [rollout(*pair) for pair in PAIRS]
    together = reward.score(rows).scores
    assert torch.allclose(together, torch.cat([reward.score([row]).scores for row in rows]), atol=1e-5)
    assert torch.allclose(together, reward.score(rows[::-1]).scores.flip(0), atol=1e-5)


def test_the_best_reference_counts_and_no_answer_is_worth_nothing():
    both, one, other, none = (
        PrefBert(model=FOLDER())
        .score(
            [
                rollout("it is small", "the", "red circle"),
                rollout("it is small", "the"),
                rollout("it is small", "red circle"),
                rollout("", "the"),
            ]
        )
        .scores.tolist()
    )
    assert both == pytest.approx(max(one, other), abs=1e-6)
    assert none == 0


def test_weights_of_another_layout_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        PrefBert(model=str(tmp_path)).prepare()
    save_pref_bert(tmp_path)
    save_file({"regressor.weight": torch.zeros(1, 32)}, tmp_path / "pytorch_model.safetensors")
    with pytest.raises(ConfigError, match="does not hold this network's weights"):
        PrefBert(model=str(tmp_path)).prepare()
