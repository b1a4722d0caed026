"""Language policies against brute force, hand-written loops and closed forms."""

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.utils import Bunch

torch = pytest.importorskip("torch")

from pnsklearn.language import TOPRLanguagePolicy  # noqa: E402
from pnsklearn.language._model import Runner  # noqa: E402
from pnsklearn.language._sequences import Encoder, Sequences, groups  # noqa: E402
from pnsklearn.language._training import Log, Settings, _loss  # noqa: E402

ALPHABET = "abcde"


class CharTokenizer:
    """As much of a tokenizer as is used: one token for each letter."""

    pad_token_id, eos_token_id = 0, 1

    def __len__(self):
        return len(ALPHABET) + 2

    def __call__(self, text, add_special_tokens=False):
        return {"input_ids": [ALPHABET.index(letter) + 2 for letter in text]}

    def decode(self, ids, skip_special_tokens=True):
        return "".join(ALPHABET[i - 2] for i in ids if i >= 2)


TOKENIZER = CharTokenizer()
PROMPTS = ["a", "bcd", "ea", "a", "bcd"]
COMPLETIONS = ["bb", "c", "deab", "e", "dd"]
REWARD = np.array([1.0, -1.0, 0.5, -0.5, 1.0])


class Plain(torch.nn.Module):
    """A causal model with nothing but a forward pass: each token sees the mean of those so far."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(len(TOKENIZER), 8)
        self.dropout = torch.nn.Dropout(0.5)
        self.out = torch.nn.Linear(8, len(TOKENIZER))

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids) * attention_mask[:, :, None]
        return self.out(self.dropout(torch.tanh(x.cumsum(1))))


def plain(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Plain()


def llama(seed=0):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=len(TOKENIZER),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        initializer_range=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return transformers.LlamaForCausalLM(config)


def gpt2(seed=0):
    """A model with absolute positions, tied weights and dropout."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=len(TOKENIZER),
        n_positions=32,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.5,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return transformers.GPT2LMHeadModel(config)


MODELS = pytest.mark.parametrize("make", [plain, llama, gpt2])


def make_policy(model=None, tokenizer=TOKENIZER, **settings):
    settings = {"max_new_tokens": 6, "random_state": 0, "learning_rate": 1e-2, **settings}
    return TOPRLanguagePolicy(plain() if model is None else model, tokenizer, **settings)


def brute_logprob(model, prompt, completion, temperature=1.0, end=True):
    """Return the log-probabilities of the tokens of one completion, without padding or batch."""
    prompt, completion = (TOKENIZER(text)["input_ids"] for text in (prompt, completion))
    ids = torch.tensor([prompt + completion + ([1] if end else [])])
    output = copy.deepcopy(model).eval()(ids, attention_mask=torch.ones_like(ids))
    logits = getattr(output, "logits", output)
    logp = torch.log_softmax(logits[0, :-1].double() / temperature, dim=1)
    return logp.gather(1, ids[0, 1:, None])[len(prompt) - 1 :, 0]


def weights_of(policy):
    return [p.detach().numpy() for p in policy.model_.parameters()]


# Log-probabilities


@MODELS
@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("max_tokens", [1, 12, 4096])
def test_logprob_is_that_of_each_completion_alone(make, temperature, max_tokens):
    model = make()
    policy = make_policy(model, temperature=temperature, max_tokens=max_tokens)
    expected = [
        brute_logprob(model, *pair, temperature).sum().item()
        for pair in zip(PROMPTS, COMPLETIONS, strict=True)
    ]
    assert_allclose(policy.logprob(PROMPTS, COMPLETIONS), expected, rtol=1e-5)


def test_groups_cover_the_rows_within_the_limit(global_random_seed):
    rng = np.random.RandomState(global_random_seed)
    sizes = rng.randint(1, 50, size=100)
    rows = rng.permutation(100)[:70]
    found = list(groups(sizes, rows, 64))
    assert_array_equal(np.sort(np.concatenate(found)), np.sort(rows))
    assert all(len(group) * sizes[group].max() <= 64 or len(group) == 1 for group in found)


# Samples


@MODELS
def test_samples_have_the_frequencies_of_the_policy(make):
    policy = make_policy(make(), max_new_tokens=2, temperature=0.7)
    completions, logprob = policy.sample(["bc"], 20_000, as_tokens=True, random_state=0)
    texts = np.array([" ".join(map(str, ids)) for ids in completions[0]])
    _, first, counts = np.unique(texts, return_index=True, return_counts=True)
    probability = np.exp(logprob[0][first])
    often = probability > 0.005
    assert often.sum() >= 5
    error = np.sqrt(probability * (1 - probability) / 20_000)
    assert (np.abs(counts / 20_000 - probability) < 5 * error)[often].all()
    # Two tokens at most: either both are drawn, or the first ends the completion.
    assert probability.sum() == pytest.approx(1, abs=0.05)


@MODELS
def test_predict_takes_the_likeliest_token_each_time(make):
    model = make().eval()
    policy = make_policy(model)
    for prompt, predicted in zip(PROMPTS, policy.predict(PROMPTS), strict=True):
        ids = list(TOKENIZER(prompt)["input_ids"])
        for _ in range(6):
            x = torch.tensor([ids])
            output = model(x, attention_mask=torch.ones_like(x))
            token = getattr(output, "logits", output)[0, -1].argmax().item()
            ids.append(token)
            if token == TOKENIZER.eos_token_id:
                break
        assert predicted == TOKENIZER.decode(ids[len(prompt) :])


@MODELS
def test_samples_do_not_touch_the_global_generator_and_repeat(make):
    policy = make_policy(make())
    state = torch.get_rng_state()
    first = policy.sample(PROMPTS, 3, random_state=1)
    assert_array_equal(state, torch.get_rng_state())
    again = policy.sample(PROMPTS, 3, random_state=1)
    assert first[0].shape == first[1].shape == (5, 3)
    assert_array_equal(first[0], again[0])
    assert_array_equal(first[1], again[1])
    assert (policy.sample(PROMPTS, 3, random_state=2)[1] != first[1]).any()


def test_the_settings_for_generation_of_the_model_do_not_change_the_samples():
    model = llama()
    expected = make_policy(model).sample(PROMPTS, 4, random_state=0)
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.top_k = 1
    model.generation_config.max_length = 3
    kept = model.generation_config.to_dict()
    found = make_policy(model).sample(PROMPTS, 4, random_state=0)
    assert_array_equal(found[0], expected[0])
    assert model.generation_config.to_dict() == kept


def test_token_ids_need_no_tokenizer():
    policy = make_policy(llama(), tokenizer=None)
    ids = [np.array(TOKENIZER(prompt)["input_ids"]) for prompt in PROMPTS]
    completions, logprob = policy.sample(ids, 2, random_state=0)
    again = policy.logprob(np.repeat(np.array(ids, dtype=object), 2), completions.ravel())
    assert_allclose(logprob.ravel(), again, rtol=1e-6)
    texts = make_policy(llama()).sample(PROMPTS, 2, random_state=0)[0]
    assert [TOKENIZER.decode(c) for c in completions.ravel()] == texts.ravel().tolist()


# Gradients


def gradients(runner, log, bounds, ratio_level, rows=slice(None)):
    runner.model.zero_grad()
    settings = Settings(0.0, None, *bounds, ratio_level, "adamw", 0.1, 1, 8)
    rows = np.arange(len(log.weight))[rows]
    _loss(runner, log, rows, settings, log.weight.sum()).backward()
    return [p.grad.clone() for p in runner.model.parameters()]


@pytest.mark.parametrize("ratio_level", ["sequence", "token"])
@pytest.mark.parametrize(
    "bounds", [((1, 1), (0, 1)), ((1, 1), (1, 1)), ((0, 1), (0, 1)), ((1, 1), (0, 0))]
)
def test_gradient_is_that_of_the_paper(ratio_level, bounds):
    """Equation 7 with the clipped ratio detached, one completion after the other."""
    model = plain().double().eval()
    rng = np.random.RandomState(0)
    weight = rng.uniform(0.5, 2, size=5)
    pairs = list(zip(PROMPTS, COMPLETIONS, strict=True))
    behavior = [
        np.minimum(brute_logprob(model, *pair).detach().numpy() + rng.normal(size=len(c) + 1), 0)
        for pair, c in zip(pairs, COMPLETIONS, strict=True)
    ]
    model.zero_grad()
    for pair, mu, r, w in zip(pairs, behavior, REWARD, weight, strict=True):
        ids = torch.tensor([TOKENIZER(pair[0] + pair[1])["input_ids"] + [1]])
        logits = model(ids, attention_mask=torch.ones_like(ids))
        logp = torch.log_softmax(logits[0, :-1], dim=1).gather(1, ids[0, 1:, None])
        logp = logp[len(pair[0]) - 1 :, 0]
        u = logp - torch.tensor(mu)
        ratio = (u.sum() if ratio_level == "sequence" else u).exp().detach()
        update = ratio.clamp(*bounds[0 if r >= 0 else 1]) * r * logp
        (-(update.sum()) * w / len(mu) / weight.sum()).backward()
    expected = [p.grad.clone() for p in model.parameters()]

    encoder = Encoder.of(model, TOKENIZER)
    if ratio_level == "sequence":
        behavior = np.array([mu.sum() for mu in behavior])
    runner = Runner(model, "cpu", encoder, 1.0, max_tokens=64, max_new_tokens=6)
    log = Log(encoder.sequences(PROMPTS, COMPLETIONS), REWARD, weight, 0.0, behavior)
    for found, wanted in zip(gradients(runner, log, bounds, ratio_level), expected, strict=True):
        assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


@MODELS
@pytest.mark.parametrize("ratio_level", ["sequence", "token"])
def test_steps_do_not_depend_on_how_many_tokens_fit(make, ratio_level):
    fits = [
        make_policy(
            make(), max_tokens=max_tokens, ratio_level=ratio_level, batch_size=4, n_epochs=2
        ).fit(PROMPTS, COMPLETIONS, reward=REWARD)
        for max_tokens in (1, 13, 4096)
    ]
    assert [fit.n_steps_ for fit in fits] == [4, 4, 4]
    # Not the weights: Adam makes steps of the rounding of gradients that are zero.
    first, *others = (fit.logprob(PROMPTS, COMPLETIONS) for fit in fits)
    for other in others:
        assert_allclose(other, first, rtol=1e-3)


def test_no_reward_is_supervised_fine_tuning():
    """Against a loop written out: the mean over completions of the mean over their tokens."""
    model = plain()
    policy = make_policy(model, batch_size=5, n_epochs=3, negative_bounds=(0, 0))
    policy.fit(PROMPTS, COMPLETIONS)
    reference = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(reference.parameters(), lr=1e-2, weight_decay=0)
    for _ in range(3):
        optimizer.zero_grad()
        loss = 0
        for prompt, completion in zip(PROMPTS, COMPLETIONS, strict=True):
            ids = torch.tensor([TOKENIZER(prompt + completion)["input_ids"] + [1]])
            logits = reference(ids, attention_mask=torch.ones_like(ids))[0, len(prompt) - 1 : -1]
            target = ids[0, len(prompt) :]
            loss = loss + torch.nn.functional.cross_entropy(logits, target) / 5
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
        optimizer.step()
    for found, wanted in zip(weights_of(policy), reference.parameters(), strict=True):
        assert_allclose(found, wanted.detach(), atol=1e-5)
    assert not hasattr(policy, "baseline_") and not hasattr(policy, "diagnostics_")


def test_what_cannot_move_the_policy_is_left_out():
    """A reward at the baseline, a weight of zero, a ratio bounded by zero: as if not there."""
    weight = np.array([1.0, 1.0, 1.0, 0.0, 2.0])
    reward = np.array([1.0, -1.0, 0.0, -1.0, 1.0])
    policy = make_policy(negative_bounds=(0, 0))
    policy.fit(PROMPTS, COMPLETIONS, weight, reward=reward)
    kept = [0, 4]
    few = make_policy(negative_bounds=(0, 0))
    with pytest.warns(UserWarning, match="no negative rewards"):
        few.fit(
            [PROMPTS[i] for i in kept],
            [COMPLETIONS[i] for i in kept],
            weight[kept],
            reward=reward[kept],
        )
    for found, wanted in zip(weights_of(policy), weights_of(few), strict=True):
        assert_array_equal(found, wanted)


def test_effective_positive_sets_the_baseline():
    policy = make_policy(effective_positive=0.3).fit(PROMPTS, COMPLETIONS, reward=REWARD)
    gain = REWARD - policy.baseline_
    assert gain[gain > 0].sum() / np.abs(gain).sum() == pytest.approx(0.3)
    assert policy.diagnostics_.effective_positive == pytest.approx(0.3)


def test_weights_count_in_batches_of_one():
    one, heavy = (
        make_policy(batch_size=1)
        .fit(PROMPTS, COMPLETIONS, [1, weight, 1, 1, 1], reward=REWARD)
        .logprob(PROMPTS, COMPLETIONS)
        for weight in (1, 100)
    )
    assert np.abs(one - heavy).max() > 0.01


def test_training_that_diverges_says_so():
    policy = make_policy(llama(), learning_rate=1e30)
    with pytest.raises(ValueError, match="has diverged"):
        policy.fit(PROMPTS, COMPLETIONS, reward=REWARD)
    with pytest.raises(ValueError, match="has diverged"):
        policy.set_params(n_epochs=3).fit(PROMPTS, COMPLETIONS)
    assert not hasattr(policy, "model_")


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_good_completions_become_likelier_and_bad_ones_rarer(optimizer):
    policy = make_policy(optimizer=optimizer, n_epochs=30)
    before = policy.logprob(PROMPTS, COMPLETIONS)
    policy.fit(PROMPTS, COMPLETIONS, reward=REWARD)
    change = policy.logprob(PROMPTS, COMPLETIONS) - before
    assert (change[REWARD > 0] > 0.1).all() and (change[REWARD < 0] < -0.1).all()
    report = policy.diagnostics_
    assert report.positive_log_ratio == pytest.approx(change[REWARD > 0].mean(), rel=1e-4)
    assert report.negative_log_ratio == pytest.approx(change[REWARD < 0].mean(), rel=1e-4)
    assert report.ratio_quantiles[2] == pytest.approx(np.exp(np.median(change)), rel=1e-4)
    assert report.start_log_ratio == 0
    assert (report.n_positive, report.n_negative) == (3, 2)


# Off-policy value


def test_score_is_the_self_normalised_value():
    policy = make_policy(n_epochs=5).fit(PROMPTS, COMPLETIONS, reward=REWARD)
    weight = np.array([1.0, 2.0, 1.0, 0.0, 1.0])
    mu = make_policy().logprob(PROMPTS, COMPLETIONS)
    ratio = weight * np.exp(policy.logprob(PROMPTS, COMPLETIONS) - mu)
    expected = ratio @ REWARD / ratio.sum()
    score = policy.score(PROMPTS, COMPLETIONS, weight, reward=REWARD)
    assert score == pytest.approx(expected, rel=1e-5)
    score = policy.score(PROMPTS, COMPLETIONS, weight, reward=REWARD, behavior_logprob=mu)
    assert score == pytest.approx(expected, rel=1e-5)
    assert make_policy().score(PROMPTS, COMPLETIONS, reward=REWARD) == pytest.approx(REWARD.mean())


def test_score_warns_if_it_rests_on_few_completions():
    policy = make_policy()
    mu = policy.logprob(PROMPTS * 9, COMPLETIONS * 9)
    mu[1:] = np.minimum(mu[1:] + 10, 0)
    mu[0] -= 30
    with pytest.warns(UserWarning, match="effective sample of 1"):
        policy.score(PROMPTS * 9, COMPLETIONS * 9, reward=np.ones(45), behavior_logprob=mu)


# Rounds


def likes_a(prompts, completions):
    return [2.0 * (text.count("a") > 0) - 1 for text in completions]


@MODELS
def test_rounds_improve_the_policy(make):
    policy = make_policy(make(), learning_rate=0.03)
    assert policy.improve(PROMPTS[:3], likes_a, n_rounds=6, n_samples=64) is policy
    values = [entry.value for entry in policy.rounds_]
    assert values[-1].value > values[0].value + 0.5
    assert all(entry.low <= entry.value <= entry.high for entry in values)
    assert all(0 <= entry.unfinished <= 1 for entry in policy.rounds_)
    assert all(1 <= entry.mean_length <= 6 for entry in policy.rounds_)
    samples = policy.sample(PROMPTS[:3], 200, random_state=3)[0]
    assert np.mean(likes_a(None, samples.ravel())) > values[-1].value - 0.2


def test_reward_fn_gets_each_prompt_n_samples_times():
    seen = []

    def reward_fn(prompts, completions):
        seen.append((prompts, completions))
        return np.arange(len(prompts)) % 2 - 0.5

    policy = make_policy().improve(PROMPTS[:2], reward_fn, n_rounds=2, n_samples=3)
    assert [prompts for prompts, _ in seen] == [["a"] * 3 + ["bcd"] * 3] * 2
    assert all(isinstance(text, str) for _, completions in seen for text in completions)
    assert policy.rounds_[0].value.value == 0


def test_max_positive_caps_the_completions_of_each_prompt():
    policy = make_policy(llama())

    def reward_fn(prompts, completions):
        return np.where(np.arange(len(prompts)) % 4 > 0, 1.0, -1.0)

    policy.improve(PROMPTS[:3], reward_fn, n_samples=8, max_positive=2)
    assert policy.rounds_[0].n_kept == 3 * (2 + 2)
    assert policy.diagnostics_.n_positive == 6


def test_rewards_of_zero_and_one_are_warned_of_in_rounds():
    with pytest.warns(UserWarning, match="no negative rewards"):
        make_policy().improve(PROMPTS, lambda p, c: np.arange(len(p)) % 2, n_samples=2)


def test_a_round_without_contrast_teaches_nothing():
    policy = make_policy()
    policy.improve(PROMPTS[:2], lambda p, c: np.zeros(len(p)), n_rounds=2, n_samples=2)
    assert policy.n_steps_ == 0 and policy.rounds_[0].diagnostics is None
    for found, wanted in zip(weights_of(policy), plain().parameters(), strict=True):
        assert_array_equal(found, wanted.detach())


class Recorder:
    """A callback of scikit-learn that counts tasks and stops after some."""

    def __init__(self, stop_after):
        self.stop_after, self.tasks = stop_after, []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name in ("epoch", "round"):
            self.tasks.append(context.task_name)
        return len(self.tasks) >= self.stop_after


def test_a_callback_follows_and_ends_epochs_and_rounds():
    recorder = Recorder(2)
    policy = make_policy(n_epochs=5).set_callbacks(recorder)
    policy.fit(PROMPTS, COMPLETIONS, reward=REWARD)
    assert recorder.tasks == ["epoch"] * 2 and policy.n_steps_ == 2
    recorder.tasks.clear()
    policy.improve(PROMPTS[:2], likes_a, n_rounds=5, n_samples=4)
    assert recorder.tasks == ["round"] * 2 and len(policy.rounds_) == 2


RUN = """
    import os, signal, sys
    from tests.test_language import PROMPTS, likes_a, make_policy

    calls, kill_in, folder = 0, int(sys.argv[1]), sys.argv[2]

    def reward_fn(prompts, completions):
        global calls
        calls += 1
        if calls == kill_in:
            os.kill(os.getpid(), signal.SIGKILL)  # no handler, no clean-up
        return likes_a(prompts, completions)

    make_policy().improve(PROMPTS[:3], reward_fn, n_rounds=4, n_samples=8, checkpoint=folder)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path):
    pytest.importorskip("safetensors")
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    asked = []

    def reward_fn(prompts, completions):
        asked.append(len(prompts))
        return likes_a(prompts, completions)

    def run(folder):
        asked.clear()
        return make_policy().improve(PROMPTS[:3], reward_fn, 4, 8, checkpoint=tmp_path / folder)

    def run_and_kill(kill_in, folder):
        killed = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(RUN), str(kill_in), str(tmp_path / folder)],
            env={**os.environ, "PYTHONPATH": root},
        )
        assert killed.returncode == -signal.SIGKILL

    run_and_kill(3, "broken")  # inside the third round
    assert [path.name for path in (tmp_path / "broken").iterdir()] == ["round-2"]
    run_and_kill(2, "broken")  # inside the fourth, after the third
    resumed = run("broken")
    assert len(asked) == 1
    unbroken = run("unbroken")
    assert len(asked) == 4
    assert resumed.rounds_ == unbroken.rounds_
    for found, wanted in zip(weights_of(resumed), weights_of(unbroken), strict=True):
        assert_allclose(found, wanted, rtol=1e-12)


def test_a_kill_while_writing_leaves_the_round_before(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    first = make_policy().improve(PROMPTS, likes_a, 1, 4, checkpoint=tmp_path)

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        make_policy().improve(PROMPTS, likes_a, 2, 4, checkpoint=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["partial", "round-1"]
    monkeypatch.undo()
    policy = make_policy().improve(PROMPTS, likes_a, 1, 4, checkpoint=tmp_path)
    for found, wanted in zip(weights_of(policy), weights_of(first), strict=True):
        assert_array_equal(found, wanted)
    assert policy.rounds_ == first.rounds_
    assert policy.diagnostics_ == first.diagnostics_


def test_a_folder_of_another_run_is_refused(tmp_path):
    pytest.importorskip("safetensors")
    make_policy().improve(PROMPTS, likes_a, 1, 4, checkpoint=tmp_path)
    for policy, prompts in [
        (make_policy(learning_rate=0.5), PROMPTS),
        (make_policy(random_state=1), PROMPTS),
        (make_policy(plain(1)), PROMPTS),
        (make_policy(max_tokens=8), PROMPTS),
        (make_policy(), PROMPTS[:2]),
    ]:
        with pytest.raises(ValueError, match="rounds of another run"):
            policy.improve(prompts, likes_a, 1, 4, checkpoint=tmp_path)
    make_policy().improve(PROMPTS, likes_a, 2, 4, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="has 2 finished rounds, more than n_rounds=1"):
        make_policy().improve(PROMPTS, likes_a, 1, 4, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="integer random_state"):
        make_policy(random_state=None).improve(PROMPTS, likes_a, checkpoint=tmp_path)


def test_the_same_policy_goes_on_with_its_folder(tmp_path):
    pytest.importorskip("safetensors")
    policy = make_policy().improve(PROMPTS, likes_a, 2, 4, checkpoint=tmp_path / "one")
    policy.improve(PROMPTS, likes_a, 3, 4, checkpoint=tmp_path / "one")
    again = make_policy().improve(PROMPTS, likes_a, 3, 4, checkpoint=tmp_path / "two")
    assert [e.value for e in policy.rounds_] == [e.value for e in again.rounds_]
    for found, wanted in zip(weights_of(policy), weights_of(again), strict=True):
        assert_array_equal(found, wanted)
    make_policy().improve(PROMPTS, likes_a, 3, 4, checkpoint=tmp_path / "one")  # from the start


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


def test_a_module_may_have_a_generate_of_its_own():
    class Own(Plain):
        def generate(self, ids):
            raise AssertionError("not that of Hugging Face")

    assert len(make_policy(Own()).predict(PROMPTS)) == 5


# What is wrong is said before any work


class Untouchable(Plain):
    def forward(self, input_ids, attention_mask):
        raise AssertionError("The model was asked before the input was checked.")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"completions": ["bb", "c", "", "e", "dd"]}, ValueError, r"completions\[2\] is empty"),
        ({"prompts": ["a", "", "ea", "a", "bcd"]}, ValueError, r"prompts\[1\] is empty"),
        ({"prompts": []}, ValueError, "prompts is empty"),
        ({"prompts": "abc"}, TypeError, "token ids, got str"),
        ({"prompts": [1.5] * 5}, TypeError, r"prompts\[0\] must be a string or a list of token"),
        ({"prompts": [[1], [0.5], [1], [1], [1]]}, TypeError, r"prompts\[1\] must be a string"),
        ({"prompts": [[1], [-3], [1], [1], [1]]}, ValueError, "negative token id, -3"),
        ({"prompts": None}, TypeError, "prompts must be a list .* got NoneType"),
        (
            {"completions": [[3, 1, 0, 0]] + [[3]] * 4},
            ValueError,
            r"completions\[0\] goes on after",
        ),
        ({"completions": np.array([["a", "b"]] * 5)}, TypeError, r"need ravel\(\)"),
        ({"reward": ["good"] * 5}, TypeError, "reward must be numbers"),
        ({"sample_weight": [1, 2]}, ValueError, "sample_weight must have one value for each"),
        ({"prompts": PROMPTS[:4]}, ValueError, "must have the same length, got 4 and 5"),
        ({"reward": REWARD[:4]}, ValueError, "reward must have one value for each of the 5"),
        ({"reward": REWARD[:, None]}, ValueError, r"got \(5, 1\)"),
        ({"reward": [1, np.nan, 1, 1, 1]}, ValueError, "reward must be finite"),
        ({"reward": np.zeros(5)}, ValueError, "All rewards equal the baseline"),
        ({"sample_weight": [-1, 1, 1, 1, 1]}, ValueError, "sample_weight must not be negative"),
        ({"sample_weight": np.zeros(5)}, ValueError, "at least one must be positive"),
        ({"behavior_logprob": [-1, 0.5, -1, -1, -1]}, ValueError, "must not exceed 0, got 0.5"),
        ({"behavior_logprob": [-1, -1]}, ValueError, "one value for each of the 5 completions"),
        ({"reward": None, "behavior_logprob": -np.ones(5)}, ValueError, "needs rewards"),
    ],
)
def test_bad_logs_get_one_clear_sentence(changes, error, message):
    policy = make_policy(Untouchable())
    log = {"prompts": PROMPTS, "completions": COMPLETIONS, "reward": REWARD} | changes
    with pytest.raises(error, match=message):
        policy.fit(**log)
    assert not hasattr(policy, "model_")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"model": 3}, TypeError, r"model must be a torch.nn.Module, got int"),
        ({"tokenizer": Bunch(pad_token_id=None)}, ValueError, "tokenizer.pad_token = tokenizer"),
        ({"tokenizer": None}, TypeError, "needs a tokenizer"),
        ({"baseline": 0.5, "effective_positive": 0.2}, ValueError, "not both"),
        ({"negative_bounds": (1, 0)}, ValueError, "negative_bounds must be two numbers"),
        ({"device": "tpu"}, ValueError, "device must be"),
        ({"lora": 3}, (TypeError, ImportError), "lora"),
        ({"ratio_level": "word"}, ValueError, "ratio_level"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate"),
        ({"model": plain().requires_grad_(False)}, ValueError, "no parameter to train"),
    ],
)
def test_bad_settings_get_one_clear_sentence(settings, error, message):
    policy = make_policy(Untouchable()).set_params(**settings)
    with pytest.raises(error, match=message):
        policy.fit(PROMPTS, COMPLETIONS, reward=REWARD)


def test_lengths_beyond_the_context_and_ids_beyond_the_vocabulary_are_refused():
    policy = make_policy(llama())
    with pytest.raises(ValueError, match=r"completions\[1\] and its prompt make 34 tokens, but"):
        policy.fit(["a", "a"], ["a", "b" * 32], reward=[1, -1])
    with pytest.raises(ValueError, match=r"prompts\[0\] and max_new_tokens make 34 tokens"):
        policy.predict(["a" * 28])
    with pytest.raises(ValueError, match=r"Token id 99 is not in .* has 7 tokens"):
        policy.fit([[2]], [[99]])


def test_a_module_of_the_wrong_shape_is_refused():
    class Wrong(Plain):
        def forward(self, input_ids, attention_mask):
            return super().forward(input_ids, attention_mask)[:, -1]

    with pytest.raises(ValueError, match=r"must return logits of shape \(n, n_tokens, n_voc"):
        make_policy(Wrong()).fit(PROMPTS, COMPLETIONS, reward=REWARD)


@pytest.mark.parametrize("result", [None, [1.0], [np.inf] * 8])
def test_a_reward_fn_must_return_one_finite_reward_each(result):
    with pytest.raises(ValueError, match="reward_fn"):
        make_policy().improve(PROMPTS[:2], lambda p, c: result, n_samples=4)


def test_token_ratios_need_token_logprobs():
    with pytest.raises(ValueError, match="log-probability of each token"):
        make_policy(ratio_level="token").fit(
            PROMPTS, COMPLETIONS, reward=REWARD, behavior_logprob=-np.ones(5)
        )


def test_another_behavior_is_warned_of():
    policy = make_policy()
    mu = policy.logprob(PROMPTS, COMPLETIONS)
    policy.fit(PROMPTS, COMPLETIONS, reward=REWARD, behavior_logprob=mu)
    assert policy.diagnostics_.start_log_ratio < 1e-6
    with pytest.warns(UserWarning, match=r"differs from the model's own .* by 1 in the mean"):
        policy.fit(PROMPTS, COMPLETIONS, reward=REWARD, behavior_logprob=mu - 1)
    assert policy.diagnostics_.start_log_ratio == pytest.approx(1, rel=1e-5)


# The contract


def test_the_given_model_is_left_as_it_is():
    model = plain().train()
    before = copy.deepcopy(model.state_dict())
    make_policy(model).fit(PROMPTS, COMPLETIONS, reward=REWARD)
    make_policy(model).improve(PROMPTS, likes_a, n_samples=4)
    assert model.training
    for name, value in model.state_dict().items():
        assert_array_equal(value, before[name])


def test_a_fit_that_fails_leaves_the_policy_as_it_was():
    policy = make_policy().fit(PROMPTS, COMPLETIONS, reward=REWARD)
    before = [w.copy() for w in weights_of(policy)]
    attributes = dict(vars(policy))

    def interrupt(prompts, completions):
        interrupt.calls += 1
        if interrupt.calls == 2:
            raise KeyboardInterrupt
        return likes_a(prompts, completions)

    interrupt.calls = 0
    with pytest.raises(KeyboardInterrupt):
        policy.improve(PROMPTS, interrupt, n_rounds=3, n_samples=4)
    assert vars(policy) == attributes
    for found, wanted in zip(weights_of(policy), before, strict=True):
        assert_array_equal(found, wanted)


def test_a_policy_of_a_fitted_model_goes_on_from_it():
    """The fitted model is then the behaviour policy of the second log."""
    first = make_policy().fit(PROMPTS, COMPLETIONS, reward=REWARD)
    mu = first.logprob(PROMPTS, COMPLETIONS)
    second = make_policy(first.model_).fit(PROMPTS, COMPLETIONS, reward=REWARD)
    assert second.diagnostics_.start_log_ratio == 0
    given = make_policy(first.model_)
    given.fit(PROMPTS, COMPLETIONS, reward=REWARD, behavior_logprob=mu)
    for found, wanted in zip(weights_of(second), weights_of(given), strict=True):
        assert_allclose(found, wanted, atol=1e-6)
    assert_array_equal(first.logprob(PROMPTS, COMPLETIONS), mu)


def test_a_policy_can_be_cloned_and_fitted_alike():
    policy = make_policy(n_epochs=2).fit(PROMPTS, COMPLETIONS, reward=REWARD)
    twin = clone(policy)
    assert not hasattr(twin, "model_")
    twin.fit(PROMPTS, COMPLETIONS, reward=REWARD)
    for found, wanted in zip(weights_of(twin), weights_of(policy), strict=True):
        assert_array_equal(found, wanted)


@MODELS
def test_a_policy_can_be_pickled(make):
    policy = make_policy(make()).fit(PROMPTS, COMPLETIONS, reward=REWARD)
    again = pickle.loads(pickle.dumps(policy))
    expected = policy.logprob(PROMPTS, COMPLETIONS)
    assert_array_equal(again.logprob(PROMPTS, COMPLETIONS), expected)
    assert again.diagnostics_ == policy.diagnostics_


def test_half_precision_is_trained_in_float32():
    model = llama().bfloat16()
    policy = make_policy(model, learning_rate=1e-5).fit(PROMPTS, COMPLETIONS, reward=REWARD)
    assert all(p.dtype == torch.float32 for p in policy.model_.parameters())
    assert all(p.dtype == torch.bfloat16 for p in model.parameters())
    assert policy.diagnostics_.positive_log_ratio > 0  # small steps are not lost


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's own
def test_lora_trains_adapters_alone(tmp_path):
    peft = pytest.importorskip("peft")
    pytest.importorskip("safetensors")
    lora = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"])
    policy = make_policy(llama(), lora=lora, n_epochs=20)
    before = policy.logprob(PROMPTS, COMPLETIONS)
    assert_allclose(before, make_policy(llama()).logprob(PROMPTS, COMPLETIONS), rtol=1e-5)
    policy.fit(PROMPTS, COMPLETIONS, reward=REWARD)
    change = policy.logprob(PROMPTS, COMPLETIONS) - before
    assert (change[REWARD > 0] > 0.05).all() and (change[REWARD < 0] < -0.05).all()
    trained = {name for name, p in policy.model_.named_parameters() if p.requires_grad}
    assert trained and all("lora" in name for name in trained)
    policy.improve(PROMPTS, likes_a, n_samples=4, checkpoint=tmp_path)
    state = json.loads((tmp_path / "round-1" / "state.json").read_text())
    assert len(state["fitted"]["rounds_"]) == 1
    other = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    for lora in (None, other):
        with pytest.raises(ValueError, match="rounds of another run"):
            clone(policy).set_params(lora=lora).improve(
                PROMPTS, likes_a, n_samples=4, checkpoint=tmp_path
            )
    first = clone(policy).improve(PROMPTS, likes_a, 1, 4, checkpoint=tmp_path / "lora")
    again = clone(policy).improve(PROMPTS, likes_a, 1, 4, checkpoint=tmp_path / "lora")
    expected = first.logprob(PROMPTS, COMPLETIONS)
    assert_allclose(again.logprob(PROMPTS, COMPLETIONS), expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's own
def test_a_policy_of_a_model_with_adapters_goes_on_training_them():
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"])
    model = llama().bfloat16()
    own = model.generation_config.to_dict()
    first = make_policy(model, lora=lora, n_epochs=3).fit(PROMPTS, COMPLETIONS, reward=REWARD)
    before = first.logprob(PROMPTS, COMPLETIONS)
    second = make_policy(first.model_, n_epochs=3)
    assert_array_equal(second.logprob(PROMPTS, COMPLETIONS), before)
    second.fit(PROMPTS, COMPLETIONS, reward=REWARD)
    assert second.diagnostics_.positive_log_ratio > 0.01
    assert_array_equal(first.logprob(PROMPTS, COMPLETIONS), before)
    for policy in (first, second):
        for name, parameter in policy.model_.named_parameters():
            assert parameter.requires_grad == ("lora" in name)
            # The base keeps its precision, so that the ratio before the first step is 1.
            assert parameter.dtype == (torch.float32 if "lora" in name else torch.bfloat16)
    second.sample(PROMPTS)
    assert second.model_.get_base_model().generation_config.to_dict() == own


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_learns_as_the_cpu_does():
    fits = [
        make_policy(llama(), device=device, n_epochs=3).fit(PROMPTS, COMPLETIONS, reward=REWARD)
        for device in ("cpu", "cuda")
    ]
    assert all(p.dtype == torch.float32 for p in fits[1].model_.parameters())
    logprob = [fit.logprob(PROMPTS, COMPLETIONS) for fit in fits]
    assert_allclose(logprob[1], logprob[0], atol=0.3)  # the passes are in bfloat16


def test_sequences_count_prompt_and_completion():
    sequences = Sequences.join([np.array([2, 3]), np.array([4])], [np.array([5]), np.array([6, 1])])
    ids, attention, completion = sequences.pad(0, "cpu")
    assert_array_equal(ids, [[2, 3, 5], [4, 6, 1]])
    assert attention.all()
    assert_array_equal(completion, [[0, 0, 1], [0, 1, 1]])
    assert_array_equal(sequences.lengths, [1, 2])


def test_a_fit_that_could_not_move_the_policy_is_refused():
    policy = make_policy(negative_bounds=(0, 0))
    with pytest.raises(ValueError, match="No completion can move the policy"):
        policy.fit(PROMPTS, COMPLETIONS, reward=-np.ones(5))
    policy.improve(PROMPTS, lambda p, c: -np.ones(len(p)), n_samples=2)
    assert policy.n_steps_ == 0


def test_ratios_of_long_completions_do_not_overflow():
    """A completion of probability e^-2000 that became likely: the ratio is no float64."""
    policy = make_policy()
    with pytest.warns(UserWarning, match="differs from the model's own"):
        policy.fit(PROMPTS, COMPLETIONS, reward=REWARD, behavior_logprob=np.full(5, -2000.0))
    assert np.isfinite(policy.diagnostics_.ratio_quantiles).all()
    assert np.isfinite(policy.diagnostics_.largest_ratio)
