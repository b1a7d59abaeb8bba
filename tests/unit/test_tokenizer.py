"""The trained tokenizer: single digits, tags as tokens, ChatML, the same bytes each time."""

import pytest
import transformers
from tokenizers import Tokenizer
from transformers import Qwen2Config

from infra.config import ConfigError
from tasks.records import Domain, Message
from tasks.training.samples import Sample, corpus_texts, tokenize_sample
from tasks.training.tokenizer import TokenizerConfig, train_tokenizer

RESPONSE = "<think>\n12 + 7 = 19\n</think>\n<answer>\n\\boxed{19}\n</answer>"
TEXTS = ["user\n", "assistant\n", "What is 12 + 7 ?", "Add 305 and 41, please.", RESPONSE] * 3
SETTINGS = TokenizerConfig(vocab_size=290)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS, SETTINGS, path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return transformers.AutoTokenizer.from_pretrained(folder)


def test_vocabulary_has_the_size_asked_for_and_the_end_of_turn_ends(tokenizer):
    assert len(tokenizer) == 290
    assert tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize("text", ["12 + 7 = 19", "x=305", "year 2024, 07", "-12.5"])
def test_a_digit_is_one_and_the_same_token_wherever_it_stands(tokenizer, text):
    tokens = tokenizer.tokenize(text)
    assert [token for token in tokens if any(c.isdigit() for c in token)] == [c for c in text if c.isdigit()]


def test_every_loader_cuts_a_text_alike(folder):
    """transformers rebuilds a tokenizer's pieces from the model type; a Qwen2 folder must not read otherwise for it."""
    Qwen2Config().save_pretrained(folder)
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    assert type(loaded).__name__ == "Qwen2Tokenizer"
    for text in ["12+7=19", "What is 12 + 7 ?", RESPONSE]:
        assert loaded.tokenize(text) == own.encode(text, add_special_tokens=False).tokens


def test_tags_are_single_tokens_that_decoding_shows(tokenizer):
    ids = tokenizer(RESPONSE, add_special_tokens=False)["input_ids"]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert [t for t in tokens if "think" in t or "answer" in t] == ["<think>", "</think>", "<answer>", "</answer>"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == RESPONSE


@pytest.mark.parametrize("text", ["naïve — 数学 🙂\t\n  x", " leading 1 2  3 ", "a\n\n\n7"])
def test_any_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_chat_template_ends_with_the_generation_prompt(tokenizer):
    dialog = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
    text = tokenizer.apply_chat_template(dialog, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n<|im_start|>assistant\n"


def test_equal_texts_give_equal_bytes(folder, tmp_path):
    train_tokenizer(TEXTS, SETTINGS, tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_too_little_text_names_the_remedy(tmp_path):
    with pytest.raises(ConfigError, match="lower vocab_size"):
        train_tokenizer(["a b"], SETTINGS, tmp_path)


def dialog(*contents):
    roles = ["user", "assistant"] * len(contents)
    messages = tuple(Message(role=role, content=content) for role, content in zip(roles, contents, strict=False))
    return Sample(id="s", query_id="q", source="test", domain=Domain.CHAT, messages=messages)


def test_only_the_final_turn_is_learned_with_its_end_token(tokenizer):
    tokens = tokenize_sample(dialog("Add 1", "one", "Add 2", RESPONSE), tokenizer)
    assert tokenizer.decode(tokens.completion_ids) == RESPONSE + "<|im_end|>"
    assert tokenizer.decode(tokens.prompt_ids).endswith(
        "one<|im_end|>\n<|im_start|>user\nAdd 2<|im_end|>\n<|im_start|>assistant\n"
    )


def test_prompt_and_completion_join_to_the_whole_dialog(tokenizer):
    sample = dialog("Add 1 and 12", RESPONSE)
    tokens = tokenize_sample(sample, tokenizer)
    whole = tokenizer.apply_chat_template(
        [message.model_dump() for message in sample.messages], tokenize=True, return_dict=False
    )
    assert [*tokens.prompt_ids, *tokens.completion_ids] == whole[:-1]  # the template ends with a line break


def test_a_sample_must_end_with_the_assistant(tokenizer):
    with pytest.raises(ValueError, match="must end with assistant"):
        tokenize_sample(dialog("a", "b", "c"), tokenizer)


def test_the_corpus_counts_a_prompt_once_for_all_its_responses():
    samples = [dialog("Q", "one"), dialog("Q", "two")]
    assert list(corpus_texts(samples)) == ["user\n", "Q", "assistant\n", "one", "assistant\n", "two"]
