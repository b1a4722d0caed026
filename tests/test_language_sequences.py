"""Prompts and completions as token ids: tokenizers, limits, groups and padding."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

pytest.importorskip("torch")

from pnsklearn.language._sequences import Encoder, Sequences, groups
from tests.language_models import ALPHABET, PROMPTS, TOKENIZER, llama, make_policy, plain


def test_sequences_count_prompt_and_completion():
    sequences = Sequences.join([np.array([2, 3]), np.array([4])], [np.array([5]), np.array([6, 1])])
    ids, attention, completion = sequences.pad(0, "cpu")
    assert_array_equal(ids, [[2, 3, 5], [4, 6, 1]])
    assert attention.all()
    assert_array_equal(completion, [[0, 0, 1], [0, 1, 1]])
    assert_array_equal(sequences.lengths, [1, 2])


def test_groups_cover_the_rows_within_the_limit(global_random_seed):
    rng = np.random.RandomState(global_random_seed)
    sizes = rng.randint(1, 50, size=100)
    rows = rng.permutation(100)[:70]
    found = list(groups(sizes, rows, 64))
    assert_array_equal(np.sort(np.concatenate(found)), np.sort(rows))
    assert all(len(group) * sizes[group].max() <= 64 or len(group) == 1 for group in found)


def test_lengths_beyond_the_context_and_ids_beyond_the_vocabulary_are_refused():
    encoder = Encoder.of(llama(), TOKENIZER)  # 32 positions and 7 tokens
    assert encoder.sequences(["a", "a"], ["a", "b" * 30]).sizes.tolist() == [3, 32]
    with pytest.raises(ValueError, match=r"completions\[1\] and its prompt make 33 tokens, but"):
        encoder.sequences(["a", "a"], ["a", "b" * 31])
    assert len(encoder.prompts(["a" * 26], n_new=6)[0]) == 26
    with pytest.raises(ValueError, match=r"prompts\[0\] and max_new_tokens make 33 tokens"):
        encoder.prompts(["a" * 27], n_new=6)
    assert encoder.prompts([[6]], n_new=6)[0].tolist() == [6]
    with pytest.raises(ValueError, match="Token id 7 is not in the vocabulary"):
        encoder.prompts([[7]], n_new=6)


def test_strings_end_as_the_tokenizer_ends_them():
    model = llama()
    model.config.eos_token_id = 5
    model.generation_config.eos_token_id = [6, 1]
    encoder = Encoder.of(model, TOKENIZER)
    assert encoder.end_ids == (1, 5, 6)
    assert encoder.sequences(["a"], ["b"]).tokens[0].tolist() == [2, 3, 1]
    assert Encoder.of(model, None).end_ids == (5, 6, 1)


# Tokenizers of Hugging Face


def hugging_face_tokenizer(template):
    """Return a tokenizer of characters with <s> and </s> that writes texts as in `template`."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    names = ["<pad>", "</s>", *ALPHABET, "<s>"]
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<pad>")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    words.decoder = tokenizers.decoders.Fuse()
    special = [("<s>", len(names) - 1), ("</s>", 1)]
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single=template, special_tokens=special
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", bos_token="<s>"
    )


@pytest.mark.parametrize("template", ["$A", "<s> $A", "<s> $A </s>"])
def test_prompts_start_once_and_completions_end_once(template):
    encoder = Encoder.of(plain(), hugging_face_tokenizer(template))
    start = [7] if template.startswith("<s>") else []
    for prompt in ("ab", "<s>ab"):
        found = encoder.prompts([prompt], n_new=6)[0].tolist()
        assert found == ([7] if prompt.startswith("<s>") else start) + [2, 3]
    ended = encoder.prompts(["ab</s>"], n_new=6)[0].tolist()
    assert ended[: len(start) + 3] == [*start, 2, 3, 1]  # written by the user, so it stays
    for completion in ("c", "c</s>"):
        sequences = encoder.sequences(["ab"], [completion])
        assert sequences.tokens[0].tolist() == [*start, 2, 3, 4, 1]
        assert sequences.lengths[0] == 2


def test_ends_in_the_settings_for_generation_end_completions():
    model = llama()
    model.generation_config.eos_token_id = [1, 3]
    completions = make_policy(model).sample(PROMPTS, 20, as_tokens=True, random_state=0)[0]
    assert all((ids[:-1] != 3).all() for ids in completions.ravel())
    assert any(ids[-1] == 3 for ids in completions.ravel())
