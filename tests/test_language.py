"""Language policies against brute force, hand-written loops and closed forms."""

import copy
import json
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.utils import Bunch

torch = pytest.importorskip("torch")

from pnsklearn.language._model import Runner  # noqa: E402
from pnsklearn.language._sequences import Encoder  # noqa: E402
from pnsklearn.language._training import Log, Settings, _loss  # noqa: E402
from tests.language_models import (  # noqa: E402
    COMPLETIONS,
    PROMPTS,
    REWARD,
    TOKENIZER,
    Plain,
    gpt2,
    likes_a,
    llama,
    make_policy,
    plain,
    weights_of,
)

MODELS = pytest.mark.parametrize("make", [plain, llama, gpt2])


def brute_logprob(model, prompt, completion, temperature=1.0, copied=True):
    """Return the log-probabilities of the tokens of one completion, without padding or batch."""
    prompt, completion = (TOKENIZER(text)["input_ids"] for text in (prompt, completion))
    ids = torch.tensor([prompt + completion + [1]])
    model = copy.deepcopy(model).eval() if copied else model
    output = model(ids, attention_mask=torch.ones_like(ids))
    logits = getattr(output, "logits", output)
    logp = torch.log_softmax(logits[0, :-1].double() / temperature, dim=1)
    return logp.gather(1, ids[0, 1:, None])[len(prompt) - 1 :, 0]


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


FITS = {
    "fine-tuning": {"reward": None, "positive_bounds": (0, 0.5), "negative_bounds": (0, 0)},
    "on-policy": {},
    "off-policy": {"shift": [1.0, 1.0, -1.0, -1.0, 1.0]},
    "long gradients": {"temperature": 0.05},
}


@pytest.mark.filterwarnings("ignore:behavior_logprob differs")
@pytest.mark.parametrize("case", FITS)
def test_fit_is_a_loop_written_out(case):
    """Equation 8 in steps of AdamW, with gradients cut to length 1; without rewards all are 1."""
    settings = {"batch_size": 5, "n_epochs": 3} | FITS[case]
    reward, shift = settings.pop("reward", REWARD), settings.pop("shift", None)
    model = plain()
    policy = make_policy(model, **settings)
    behavior = policy.logprob(PROMPTS, COMPLETIONS)
    if shift is not None:
        behavior = np.minimum(behavior + shift, 0)
    policy.fit(
        PROMPTS, COMPLETIONS, reward=reward, behavior_logprob=None if shift is None else behavior
    )
    reference = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(reference.parameters(), lr=1e-2, weight_decay=0)
    lengths = []
    for _ in range(3):
        optimizer.zero_grad()
        gain = np.ones(5) if reward is None else reward
        for prompt, completion, r, mu in zip(PROMPTS, COMPLETIONS, gain, behavior, strict=True):
            logp = brute_logprob(reference, prompt, completion, policy.temperature, copied=False)
            ratio = (logp.sum().detach() - mu).exp().clamp(max=1) if r < 0 else 1
            (-r * ratio * logp.mean() / 5).backward()
        lengths.append(torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0).item())
        optimizer.step()
    assert case != "long gradients" or min(lengths) > 1.5
    for found, wanted in zip(weights_of(policy), reference.parameters(), strict=True):
        assert_allclose(found, wanted.detach(), atol=1e-5)
    assert hasattr(policy, "baseline_") == hasattr(policy, "diagnostics_") == (reward is not None)
    assert all(parameter.grad is None for parameter in policy.model_.parameters())


def test_what_cannot_move_the_policy_is_left_out():
    """A reward at the baseline, a weight of zero, a ratio bounded by zero: as if not there."""
    weight = np.array([1.0, 1.0, 1.0, 0.0, 2.0])
    reward = np.array([1.0, -1.0, 0.0, 1.0, 1.0])
    settings = {"negative_bounds": (0, 0), "batch_size": 2}
    policy = make_policy(**settings).fit(PROMPTS, COMPLETIONS, weight, reward=reward)
    few = make_policy(**settings)
    with pytest.warns(UserWarning, match="no negative rewards"):
        few.fit([PROMPTS[0], PROMPTS[4]], [COMPLETIONS[0], COMPLETIONS[4]], [1, 2], reward=[1, 1])
    assert policy.n_steps_ == few.n_steps_ == 1
    for found, wanted in zip(weights_of(policy), weights_of(few), strict=True):
        assert_array_equal(found, wanted)


def test_effective_positive_sets_the_baseline():
    weight = np.array([1.0, 2.0, 0.5, 1.0, 0.0])
    policy = make_policy(effective_positive=0.3).fit(PROMPTS, COMPLETIONS, weight, reward=REWARD)
    gain = weight * (REWARD - policy.baseline_)
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


def test_diagnostics_describe_the_weighted_log():
    weight, shift = np.array([2.0, 1.0, 0.0, 1.0, 1.0]), np.array([-0.2, 0, -0.1, 0, 0])
    policy = make_policy(n_epochs=10)
    mu = policy.logprob(PROMPTS, COMPLETIONS) + shift
    policy.fit(PROMPTS, COMPLETIONS, weight, reward=REWARD, behavior_logprob=mu)
    log_ratio = policy.logprob(PROMPTS, COMPLETIONS) - mu
    good, bad, counted = [0, 4], [1, 3], [0, 1, 3, 4]
    ratio = np.exp(log_ratio[counted])
    size = (weight[counted] @ ratio) ** 2 / (weight[counted] @ ratio**2)
    expected = {
        "n_positive": 3,
        "n_negative": 2,
        "effective_positive": 3 / (3 + 1.5),
        "effective_sample_size": size,
        "ratio_quantiles": np.exp(np.quantile(log_ratio[counted], [0.05, 0.25, 0.5, 0.75, 0.95])),
        "largest_ratio": ratio.max(),
        "negative_above": np.mean(log_ratio[bad] > 0),
        "negative_spent": np.mean(log_ratio[bad] < np.log(0.01)),
        "positive_log_ratio": np.average(log_ratio[good], weights=weight[good]),
        "negative_log_ratio": np.average(log_ratio[bad], weights=weight[bad]),
        "start_log_ratio": 0.05,
    }
    assert policy.diagnostics_.keys() == expected.keys()
    for name, value in expected.items():
        assert_allclose(policy.diagnostics_[name], value, rtol=1e-4, err_msg=name)


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


@pytest.mark.filterwarnings("ignore:The value rests on")
def test_score_of_ratios_that_overflow():
    """Ratios of e^2000: the value is that of the one that counts, and weights of 0 do not."""
    mu = np.array([-2.0, -2000.0, -2.0, -9000.0, -2.0])
    weight = [1, 1, 1, 0, 1]
    score = make_policy().score(PROMPTS, COMPLETIONS, weight, reward=REWARD, behavior_logprob=mu)
    assert score == pytest.approx(REWARD[1])


def test_score_warns_if_it_rests_on_few_completions():
    policy = make_policy()
    mu = policy.logprob(PROMPTS * 9, COMPLETIONS * 9)
    mu[1:] = np.minimum(mu[1:] + 10, 0)
    mu[0] -= 30
    with pytest.warns(UserWarning, match="effective sample of 1"):
        policy.score(PROMPTS * 9, COMPLETIONS * 9, reward=np.ones(45), behavior_logprob=mu)


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
    state = torch.get_rng_state()
    before = policy.logprob(PROMPTS, COMPLETIONS)
    assert_array_equal(torch.get_rng_state(), state)
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
