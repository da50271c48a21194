"""The answer that reasons lead to, by rules and by a language model."""

import math

import pytest
import torch
from families import tokenizer
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2TokenizerFast

from vlreward.errors import ConfigError
from vlreward.models.language_model import LanguageModel, load_language_model
from vlreward.rewards.language_reasoner import LanguageReasoner
from vlreward.rewards.reasoning import ReasonedAnswer, reasons

LEFT = {"question": {"subject": "cat", "relation": "left of", "object": "dog"}, "answer": "yes"}


def score(rollout, text, **target):
    output = ReasonedAnswer().score([rollout(text, **target)])
    assert output.errors == [None]
    return output.scores.item(), output.notes[0].removeprefix("reasons lead to ")


@pytest.mark.parametrize(
    ("text", "implied"),
    [
        ("The cat is left of the dog.", "yes"),
        ("The dog is to the right of the cat.", "yes"),
        ("dog left of cat", "no"),
        ("cat [0, 0, 10, 10], dog [50, 0, 60, 10]", "yes"),
        ("cat [50, 0, 60, 10], dog [0, 0, 10, 10]", "no"),
        ("cat [0, 50, 10, 60], dog [0, 0, 10, 10]", "no"),
        ("The cat is left of the dog. The dog is left of the cat.", "nothing"),
        ("cat [0, 0, 10, 10]. dog [50, 0, 60, 10]. The cat is right of the dog.", "nothing"),
        ("The cat is above the dog.", "nothing"),
        ("The cat is not left of the dog.", "nothing"),
        ("So the answer is yes.", "nothing"),
        ("", "nothing"),
    ],
)
def test_order_follows_from_claims_and_places_unless_they_contradict_each_other(rollout, text, implied):
    assert score(rollout, text, **LEFT) == (float(implied == "yes"), implied)


@pytest.mark.parametrize("third", ["The car is left of the dog", "The car is right of the dog"])
def test_only_what_was_asked_about_is_read(rollout, third):
    assert score(rollout, f"The cat is left of the dog. {third}.", **LEFT) == (1, "yes")


@pytest.mark.parametrize(
    ("question", "text", "implied"),
    [
        ({"relation": "closer than", "among": ["car", "bus", "tree"]}, "car: 12 m, bus is 20.5 meters, tree at about 9 m", "tree"),
        (
            {"relation": "closer than", "among": ["car", "bus", "tree"]},
            "The car is in front of the bus, the bus in front of the tree.",
            "car",
        ),
        ({"relation": "closer than", "among": ["car", "bus", "tree"]}, "The car is in front of the bus.", "nothing"),
        ({"subject": "car", "relation": "farther than", "object": "bus"}, "The bus is 3 m away. The car is 4 m away.", "yes"),
        (
            {"subject": "car", "relation": "farther than", "object": "bus"},
            "The bus is 3 m away. The car is 4 m away, behind the bus.",
            "yes",
        ),
        ({"subject": "car", "relation": "behind", "object": "bus"}, "car is 4 m. bus is 3 m. The bus is behind the car.", "nothing"),
        ({"facing": "car"}, "The car is facing to the left.", "left"),
        ({"facing": "car"}, "The car faces left. The car faces right.", "nothing"),
    ],
)
def test_depth_ordering_and_orientation(rollout, question, text, implied):
    assert score(rollout, text, question=question, answer=implied) == (float(implied != "nothing"), implied)


def test_the_answer_itself_is_no_reason(rollout):
    text = "<think>The dog is left of the cat.</think><answer>The cat is left of the dog: yes</answer>"
    assert score(rollout, text, **LEFT) == (0, "no")
    assert reasons("a <think>b</think> c <answer>d</answer>") == "b"
    assert reasons("a <answer>d</answer> e") == "a "
    assert reasons("a") == "a"


@pytest.mark.parametrize("question", ["left?", {"subject": "cat"}, {"subject": "a", "relation": "near", "object": "b"}, {"facing": 3},
                                      {"relation": "left of", "among": ["cat", "Cat"]}])  # fmt: skip
def test_a_broken_question_is_an_error_of_its_row_only(rollout, question):
    output = ReasonedAnswer().score([rollout("cat left of dog", **(LEFT | {"question": question})), rollout("cat left of dog", **LEFT)])
    assert "target.question" in output.errors[0]
    assert math.isnan(output.scores[0])
    assert output.scores.tolist()[1] == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A causal language model with random weights in the form of a real checkpoint."""
    place = tmp_path_factory.mktemp("language")
    words = tokenizer(Qwen2TokenizerFast, ("<|endoftext|>", "<|im_end|>"), eos_token="<|im_end|>", pad_token="<|endoftext|>")
    torch.manual_seed(0)
    sizes: dict[str, int] = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(words), initializer_range=0.4, **sizes))
    model.generation_config = GenerationConfig(eos_token_id=words.convert_tokens_to_ids("<|im_end|>"))
    model.save_pretrained(place)
    words.save_pretrained(place)
    return str(place)


def test_a_model_answers_the_same_alone_and_in_a_batch_of_other_lengths(folder):
    model = load_language_model(folder, "cpu")
    prompts = ["one", "a much longer prompt than the others", "two", "one"]
    together = model.complete(prompts, 6)
    assert together == [model.complete([prompt], 6)[0] for prompt in prompts]
    assert len(set(together)) > 1
    assert model.complete(["lone \ud83d surrogate"], 2)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        load_language_model(str(tmp_path), "cpu")


def test_the_language_model_sees_the_reasons_only_and_its_answer_is_judged(rollout, folder, monkeypatch):
    asked = []

    def complete(self, prompts, max_new_tokens, max_tokens=4096):
        asked.extend(prompts)
        return ["hm <answer>yes</answer>" if "left" in prompt else "no idea" for prompt in prompts]

    monkeypatch.setattr(LanguageModel, "complete", complete)
    reward = ReasonedAnswer(reasoner=LanguageReasoner(model=folder))
    assert reward.needs == ("text", "target.answer")
    texts = ["<think>It is left.</think><answer>42</answer>", "<think>It is up. <answer>yes</answer></think> <answer>yes</answer>", ""]
    output = reward.score([rollout(text, prompt="SECRET", answer="yes") for text in texts])
    assert output.scores.tolist() == [1, 0, 0]
    assert len(asked) == 2, "a text without reasons is not asked about"
    assert not any("42" in prompt or "SECRET" in prompt or "yes" in prompt for prompt in asked)


def test_a_prompt_without_a_place_for_the_reasons_is_refused():
    with pytest.raises(ConfigError, match="prompt"):
        LanguageReasoner(model="x", prompt="What?")
