"""Prompts that are read once: the same log-probabilities, gradients and samples as read apart."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from pnsklearn.language import _decoder  # noqa: E402
from pnsklearn.language._decoder import n_read, shared_groups  # noqa: E402
from pnsklearn.language._model import Runner  # noqa: E402
from pnsklearn.language._sequences import Encoder, Sequences  # noqa: E402
from pnsklearn.language._training import Settings, _batches  # noqa: E402
from tests.language_models import PROMPTS, gpt2, llama, make_policy, weights_of  # noqa: E402

SMALL = {"vocab_size": 7, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
         "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0,
         "bos_token_id": None, "eos_token_id": 1, "initializer_range": 0.5}  # fmt: skip


def make(name, **settings):
    config = getattr(transformers, f"{name}Config")(**SMALL, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return getattr(transformers, f"{name}ForCausalLM")(config).eval()


def runner_of(model, *, apart=False, max_tokens=4096, temperature=1.0):
    runner = Runner(model, "cpu", Encoder.of(model, None), temperature, max_tokens, 6)
    if apart:
        vars(runner)["decoder"] = None  # as if the model had no parts
    return runner


def log(rng, n_prompts=4, n_samples=5):
    """Return completions of prompts, in random order."""
    prompts = [rng.randint(2, 7, size=n) for n in rng.randint(1, 12, size=n_prompts)]
    pairs = [(prompt, rng.randint(2, 7, size=n)) for prompt in prompts
             for n in rng.randint(1, 7, size=n_samples)]  # fmt: skip
    order = rng.permutation(len(pairs))
    return Sequences.join(*zip(*(pairs[i] for i in order), strict=True))


def read_tokens(model):
    """Return a list that the shapes of the token ids are added to that the model reads."""
    shapes = []
    model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: shapes.append(tuple(inputs[0].shape))
    )
    return shapes


@pytest.mark.parametrize("most_logits", [2**25, 7 * 4])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("name", [llama, gpt2, "Qwen2", "Mistral"])
def test_shared_prompts_change_neither_values_nor_gradients(
    name, temperature, most_logits, monkeypatch, global_random_seed
):
    monkeypatch.setattr(_decoder, "MOST_LOGITS", most_logits)
    settings = {"sliding_window": None} if name == "Mistral" else {}
    model = make(name, **settings) if isinstance(name, str) else name().eval()
    sequences = log(np.random.RandomState(global_random_seed))
    factor = torch.linspace(-1, 1, len(sequences.tokens))
    results = []
    for apart in (False, True):
        runner = runner_of(model, apart=apart, temperature=temperature)
        assert (runner.decoder is None) == apart
        model.zero_grad()
        logprob = runner.sequence_logprob(sequences)
        (logprob @ factor).backward()
        results.append((logprob.detach(), [p.grad.clone() for p in model.parameters()]))
        tokens, rows = runner.token_logprob(sequences)
        assert_allclose(np.bincount(rows, tokens.detach()), logprob.detach(), rtol=1e-5)
    (found, gradients), (wanted, expected) = results
    assert_allclose(found, wanted, rtol=1e-5)
    largest = max(gradient.abs().max() for gradient in expected)
    for gradient, other in zip(gradients, expected, strict=True):
        assert_allclose(gradient, other, atol=1e-5 * largest)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Mistral", {"sliding_window": 3}),
        ("Gemma2", {"final_logit_softcapping": 1.0}),
        ("Granite", {"logits_scaling": 3.0}),
        ("Mamba", {}),
    ],
)
def test_models_with_other_caches_or_heads_are_asked_as_a_whole(name, settings):
    model = make(name, **settings)
    runner, sequences = runner_of(model), log(np.random.RandomState(0))
    assert runner.decoder is None
    for ids, n, found in zip(
        sequences.tokens, sequences.n_prompt, runner.score(sequences), strict=True
    ):
        logp = model(torch.tensor(ids[None])).logits[0].log_softmax(dim=1)
        expected = logp[:-1].gather(1, torch.tensor(ids[1:, None]))[n - 1 :].sum()
        assert found == pytest.approx(expected.item(), rel=1e-4)
    assert len(runner.complete([np.array([2, 3])])) == 1


def test_a_prompt_is_read_once():
    model = llama().eval()
    prompt, other = np.full(9, 3), np.full(4, 2)
    sequences = Sequences.join([prompt] * 8 + [other], [np.full(5, 4)] * 9)
    runner = runner_of(model)
    assert runner.decoder is not None
    shapes = read_tokens(model)
    runner.score(sequences)
    assert shapes == [(2, 9), (9, 4)]  # the last token of a completion predicts nothing
    shapes.clear()
    runner.score(sequences.take(np.array([0, 8])))
    assert shapes == [(2, 14)]


def test_samples_read_a_prompt_once_and_go_on_without_what_has_ended():
    model = llama().eval()
    runner = runner_of(model)
    assert runner.decoder is not None
    shapes = read_tokens(model)
    prompts = [np.array([2, 3, 4])] * 30 + [np.array([5])] * 10
    completions = runner.complete(prompts, np.random.RandomState(0))
    lengths = np.array([len(ids) for ids in completions])
    going = [int(((lengths > t) & [1 not in ids[:t] for ids in completions]).sum())
             for t in range(1, lengths.max())]  # fmt: skip
    assert len(set(going)) > 2
    assert shapes == [(2, 3)] + [(n, 1) for n in going]


def test_likeliest_tokens_are_those_of_generate():
    prompts = [np.array([2, 3, 4]), np.array([5]), np.array([6, 6])]
    model = llama().eval()
    shared, apart = runner_of(model), runner_of(model, apart=True)
    for found, wanted in zip(shared.complete(prompts), apart.complete(prompts), strict=True):
        assert_array_equal(found, wanted)


def test_shared_groups_cover_the_rows_within_the_limit(global_random_seed):
    rng = np.random.RandomState(global_random_seed)
    sequences = log(rng, 12, 9)
    sizes = sequences.prompt_codes, sequences.n_prompt, sequences.lengths
    rows = rng.permutation(108)[:80]
    for limit in (5, 30, 90, 10_000):
        found = list(shared_groups(sequences, rows, limit))
        assert_array_equal(np.sort(np.concatenate(found)), np.sort(rows))
        read = [min(n_read(*(size[group] for size in sizes))) for group in found]
        assert all(n <= limit or len(group) == 1
                   for n, group in zip(read, found, strict=True))  # fmt: skip
    assert len(found) == 1
    once = sum(map(len, sequences.prompts)) + sequences.lengths.sum()
    assert once <= min(n_read(*sizes)) < 0.9 * sequences.sizes.sum()


def test_batches_of_prompts_keep_their_completions_together():
    sequences = log(np.random.RandomState(0), 8, 5)
    codes = sequences.prompt_codes
    settings = Settings(0.0, None, (1, 1), (0, 1), "sequence", "adamw", 0.1, 1, 10, "prompts")
    seen = []
    for seed in range(3):
        batches = _batches(sequences, settings, np.random.RandomState(seed))
        assert_array_equal(np.sort(np.concatenate(batches)), np.arange(40))
        assert [len(batch) for batch in batches] == [10] * 4
        assert all(len(np.unique(codes[batch])) == 2 for batch in batches)
        seen.append([tuple(np.unique(codes[batch])) for batch in batches])
    assert len(set(map(tuple, seen))) == 3


def test_fits_are_the_same_with_and_without_shared_prompts(monkeypatch):
    rng = np.random.RandomState(0)
    prompts = [PROMPTS[i] for i in rng.randint(3, size=24)]
    texts = ["".join(rng.choice(list("abcde"), size=rng.randint(1, 5))) for _ in prompts]
    reward = rng.normal(size=24)

    def fit(max_tokens):
        policy = make_policy(llama(), shuffle="prompts", batch_size=8, max_tokens=max_tokens)
        return policy.fit(prompts, texts, reward=reward)

    found = [fit(4096), fit(20)]
    monkeypatch.setattr(Runner, "decoder", None)
    expected = fit(4096)
    for policy in found:
        assert_allclose(policy.logprob(prompts, texts), expected.logprob(prompts, texts), rtol=1e-3)
        for weight, other in zip(weights_of(policy), weights_of(expected), strict=True):
            assert np.abs(weight - other).mean() < 1e-4
