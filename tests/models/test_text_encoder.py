import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from encoders import save_encoder
from transformers import AutoModel, AutoModelForImageTextToText, AutoTokenizer

from vlreward.errors import ConfigError
from vlreward.models.text_encoder import load_encoder, load_token_table

TEXTS = ["The red circle", "the blue square is on the left of the red circle.", "zebra", "", "It is small"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(save_encoder(tmp_path_factory.mktemp("encoder")))


def test_sentence_vectors_are_the_mean_of_the_last_states(folder):
    encoder = load_encoder(folder, "cpu")
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        alone = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in TEXTS]
    assert torch.allclose(encoder.sentences(TEXTS), F.normalize(torch.stack(alone), dim=-1), atol=1e-5)


def test_a_text_has_the_same_vectors_alone_and_among_others(folder):
    encoder = load_encoder(folder, "cpu")
    together = encoder.sentences([*TEXTS, *TEXTS[::-1]])
    alone = torch.cat([encoder.sentences([text]) for text in TEXTS])
    assert torch.allclose(together[: len(TEXTS)], alone, atol=1e-5)
    assert torch.equal(together[len(TEXTS) :], together[: len(TEXTS)].flip(0))


def test_token_vectors_leave_out_start_and_end_and_keep_unknown_words(folder):
    found = load_encoder(folder, "cpu").tokens(["the red zebra", ""], layer=0)
    assert [len(vectors) for vectors in found] == [3, 0]
    assert torch.allclose(found[0].norm(dim=-1), torch.ones(3), atol=1e-5)


def test_the_pooling_of_a_sentence_transformers_folder_is_followed(tmp_path):
    folder = save_encoder(tmp_path)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    encoder = load_encoder(str(folder), "cpu")
    assert encoder.pooling == "first"
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        states = model(**tokenizer(TEXTS[0], return_tensors="pt")).last_hidden_state[0]
    assert torch.allclose(encoder.sentences(TEXTS[:1])[0], F.normalize(states[0], dim=-1), atol=1e-5)


def test_long_texts_are_cut_and_odd_characters_do_not_break(folder):
    found = load_encoder(folder, "cpu").tokens(["red " * 500, "\ud800 red"])
    assert [len(vectors) for vectors in found] == [62, 2]


def test_the_token_table_is_the_models_input_embeddings(request):
    asset = request.config.rootpath / "assets" / "tiny-vlm"
    table = load_token_table(str(asset))
    wanted = AutoModelForImageTextToText.from_pretrained(asset).get_input_embeddings().weight
    assert torch.allclose(table.vectors, F.normalize(wanted.detach().float(), dim=-1))
    ids = table.tokenizer("the red circle", add_special_tokens=False)["input_ids"]
    assert torch.equal(table.encode("the red circle"), table.vectors[ids])
    assert table.encode("").shape == (0, table.vectors.shape[1])


def test_the_token_table_of_a_model_in_several_files_is_found(tmp_path):
    folder = save_encoder(tmp_path / "whole")
    model = AutoModel.from_pretrained(folder)
    model.save_pretrained(tmp_path / "parts", max_shard_size="10KB")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "parts")
    assert (tmp_path / "parts" / "model.safetensors.index.json").is_file()
    assert torch.equal(load_token_table(str(tmp_path / "parts")).vectors, load_token_table(str(folder)).vectors)


def test_what_is_no_model_folder_is_refused_with_what_is_missing(tmp_path, folder):
    for load in (load_token_table, lambda model: load_encoder(model, "cpu")):
        with pytest.raises(ConfigError, match=r"model: is .*neither a folder"):
            load("no/such/folder")
    (tmp_path / "config.json").write_text((Path(folder) / "config.json").read_text())
    with pytest.raises(ConfigError, match="cannot load"):
        load_encoder(str(tmp_path), "cpu")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text((Path(folder) / name).read_text())
    with pytest.raises(ConfigError, match=r"has no model\.safetensors"):
        load_token_table(str(tmp_path))
