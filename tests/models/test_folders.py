import json
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from peft import LoraConfig, get_peft_model

from vlreward.errors import ConfigError
from vlreward.models.folders import adapted_folders, trainable_model, transformers_folder, vision_language_model
from vlreward.vlm.policy import read

ROOT = Path(__file__).parents[2]
MODEL = "assets/tiny-vlm"


@pytest.fixture(autouse=True)
def cached(monkeypatch):
    """A Hugging Face cache that holds one repository."""

    def snapshot(name: str, local_files_only: bool) -> str:
        assert local_files_only, "nothing is downloaded"
        if name != "tiny/vlm":
            raise LocalEntryNotFoundError(name)
        return str(ROOT / MODEL)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)


def test_a_repository_of_the_cache_is_read_wherever_a_folder_is():
    network, processor = vision_language_model("tiny/vlm", "cpu")
    assert not any(weight.requires_grad for weight in network.parameters()) and not network.training
    assert trainable_model("tiny/vlm", "critic.model")[1].tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    assert all(weight.requires_grad for weight in read("tiny/vlm")[0].parameters())


def test_rewards_share_one_model():
    assert vision_language_model(MODEL, "cpu")[0] is vision_language_model(MODEL, "cpu")[0]


def test_a_lora_brings_the_model_it_belongs_to(tmp_path):
    network, processor = trainable_model(MODEL, "model")
    get_peft_model(network, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    card = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(card | {"base_model_name_or_path": "tiny/vlm"}))
    assert adapted_folders(str(tmp_path), "model") == (tmp_path, ROOT / MODEL)
    assert hasattr(trainable_model(str(tmp_path), "model")[0], "peft_config")
    assert not hasattr(read(str(tmp_path))[0], "peft_config")
    (tmp_path / "adapter_config.json").write_text(json.dumps(card | {"base_model_name_or_path": "tiny/none"}))
    with pytest.raises(ConfigError, match="is 'tiny/none'") as caught:
        read(str(tmp_path))
    assert caught.value.key == "policy.model"


def test_what_holds_no_model_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        transformers_folder(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"cannot load .* as AutoProcessor"):
        vision_language_model(str(tmp_path), "cpu")
