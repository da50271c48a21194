import pytest
import torch
from tables import NAN, letters, spanned, table
from transformers import AutoTokenizer

from vlreward.advantages.segments import at_tokens, offsets_of, ordered, real_tokens


def values(*rows: list[float]) -> list[torch.Tensor]:
    return [torch.tensor(row, dtype=torch.float64) for row in rows]


def test_tokens_within_a_segment_get_its_value_and_others_none():
    got = at_tokens([[spanned(1, 3, 0.0), spanned(4, 5, 0.0)]], values([2.0, 7.0]), letters(6))
    assert got.tolist() == [[0, 2, 2, 0, 7, 0, 0]]


def test_following_adds_up_what_is_still_to_come():
    got = at_tokens([[spanned(1, 3, 0.0), spanned(4, 5, 0.0)]], values([2.0, 7.0]), letters(6), following=True)
    assert got.tolist() == [[9, 9, 9, 7, 7, 0, 0]]


def test_a_token_without_a_character_has_the_steps_after_it_before_it():
    spans = [spanned(0, 1, 0.0), spanned(1, 2, 0.0)]
    got = at_tokens([spans], values([2.0, 7.0]), [[(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]], following=True)
    assert got.tolist() == [[9, 9, 7, 7, 0]]


def test_a_token_across_two_segments_goes_to_the_one_it_shares_more_of():
    offsets = [[(0, 4), (4, 9), (9, 10)]]
    got = at_tokens([[spanned(0, 6, 0.0), spanned(6, 10, 0.0)]], values([1.0, 2.0]), offsets)
    assert got.tolist() == [[1, 2, 2]]


def test_rows_of_different_lengths_are_padded_with_zero_and_rows_without_segments_or_tokens_are_zero():
    got = at_tokens([[spanned(0, 9, 0.0)], [], [spanned(0, 1, 0.0)]], values([3.0], [], [1.0]), [*letters(1, 2), []])
    assert got.tolist() == [[3, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert real_tokens([*letters(1, 2), []]).tolist() == [[1, 1, 0], [1, 1, 1], [0, 0, 0]]


def test_segments_that_lie_outside_of_the_text_or_hold_nothing_count_for_no_token():
    got = at_tokens([[spanned(2, 2, 0.0), spanned(50, 60, 0.0)]], values([1.0, 1.0]), letters(3))
    assert got.abs().sum() == 0


def test_segments_come_in_the_order_of_the_text_and_not_at_all_where_a_judge_broke_or_the_term_does_not_apply():
    spans = [[(5, 6, 1.0), (0, 2, 2.0), (3, 4, NAN)], [(0, 1, 1.0)], [(0, 1, 1.0)]]
    t = table(broken=(1,), a=[1.0, 1.0, 1.0], s=[1.0, 1.0, NAN], segments={"s": spans})
    assert [[part.reward for part in row] for row in ordered(t, "s")] == [[2.0, 1.0], [], []]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained("assets/tiny-vlm")


TEXTS = [
    "",
    "<answer>[10, 20, 30, 40]</answer>",
    "Zuerst größer, dann 图 and é, 👩‍👩‍👧 at the end 🙂",
    "two  spaces\n\nand lines\r\n",
    "a \ufffd sign that is one",
]


@pytest.mark.parametrize("text", TEXTS)
def test_offsets_cover_the_text_in_order_and_cut_it_as_the_tokens_do(text, tokenizer):
    tokens = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
    offsets = offsets_of(tokens, lambda ids: tokenizer.decode(ids, skip_special_tokens=True))
    decoded = tokenizer.decode(tokens, skip_special_tokens=True)
    assert len(offsets) == len(tokens)
    assert offsets[-1] == (len(decoded), len(decoded)), "the end token has no character"
    assert [a for a, _ in offsets] == sorted(a for a, _ in offsets)
    assert {i for a, b in offsets for i in range(a, b)} == set(range(len(decoded))), "every character has a token"
    for token, (start, end) in zip(tokens, offsets, strict=True):
        piece = tokenizer.decode([token], skip_special_tokens=True)
        assert "\ufffd" in piece or piece in decoded[start:end]


@pytest.mark.parametrize("character", ["图", "🙂", "é"])
def test_the_tokens_of_one_character_all_have_its_place(character, tokenizer):
    tokens = tokenizer.encode(f"a{character}", add_special_tokens=False)
    assert len(tokens) > 2, "the tokenizer spells it in bytes"
    offsets = offsets_of(tokens, lambda ids: tokenizer.decode(ids, skip_special_tokens=True))
    assert offsets == [(0, 1), *[(1, 2)] * (len(tokens) - 1)]


def test_a_decoder_that_drops_the_space_before_the_first_word_keeps_those_between_words():
    pieces = [" the", " red", "", " b", "ox", " ", " is"]
    offsets = offsets_of(range(7), lambda ids: "".join(pieces[i] for i in ids).removeprefix(" "))
    assert offsets == [(0, 3), (3, 7), (7, 7), (7, 9), (9, 11), (11, 12), (12, 15)]


def test_offsets_agree_with_those_of_a_fast_tokenizer(tokenizer):
    text = TEXTS[1] + " then " + TEXTS[3]
    encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    ours = offsets_of(encoded["input_ids"], lambda ids: tokenizer.decode(ids, skip_special_tokens=True))
    assert ours == [tuple(pair) for pair in encoded["offset_mapping"]]


def test_any_bytes_in_any_order_have_offsets_within_the_text(tokenizer):
    rng = torch.Generator().manual_seed(0)
    for _ in range(50):
        tokens = torch.randint(0, len(tokenizer), (30,), generator=rng).tolist()
        decode = lambda ids: tokenizer.decode(ids, skip_special_tokens=True)  # noqa: E731
        offsets, text = offsets_of(tokens, decode), decode(tokens)
        assert len(offsets) == 30
        assert all(0 <= a <= b <= len(text) for a, b in offsets)
        assert offsets[-1][1] == len(text)


def test_bytes_that_make_no_character_cost_no_more_than_others(tokenizer):
    lone = tokenizer.encode("图", add_special_tokens=False)[-1]
    decoded = []
    offsets = offsets_of([lone] * 500, lambda ids: decoded.append(len(ids)) or tokenizer.decode(ids, skip_special_tokens=True))
    assert sum(decoded) < 500 * 20
    assert len(offsets) == 500
    assert offsets[-1][1] == len(tokenizer.decode([lone] * 500))
