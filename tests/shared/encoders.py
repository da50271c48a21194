"""A tiny BERT with random weights in a folder, in the form in which real encoders come."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

WORDS = "the a red blue green circle square triangle is on left right of above below and it small large there are two three . ,".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def save_encoder(folder: Path, seed: int = 0) -> Path:
    """Writes tokenizer and model; the same seed gives the same weights."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(SPECIAL + WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names).save_pretrained(folder)
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64}
    config = BertConfig(vocab_size=len(SPECIAL + WORDS), initializer_range=0.5, **sizes)
    BertModel(config).save_pretrained(folder)
    return folder
