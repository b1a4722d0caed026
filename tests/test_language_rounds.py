"""Rounds of samples, rewards and learning: what they learn from, and how they survive a kill."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.utils import Bunch

torch = pytest.importorskip("torch")

from pnsklearn.language import cap_positives  # noqa: E402
from pnsklearn.metrics import ips_value  # noqa: E402
from tests.callbacks import Callback  # noqa: E402
from tests.language_models import (  # noqa: E402
    COMPLETIONS,
    PROMPTS,
    REWARD,
    gpt2,
    likes_a,
    llama,
    make_policy,
    plain,
    weights_of,
)

MODELS = pytest.mark.parametrize("make", [plain, llama, gpt2])


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
        return np.repeat([1.0, 0.0, -2.0], 4)  # of the prompts

    policy = make_policy().improve(PROMPTS[:3], reward_fn, n_rounds=2, n_samples=4)
    assert [prompts for prompts, _ in seen] == [["a"] * 4 + ["bcd"] * 4 + ["ea"] * 4] * 2
    assert all(isinstance(text, str) for _, completions in seen for text in completions)
    # The samples of a prompt are one observation.
    expected = ips_value(np.ones(3), np.ones(3), np.array([1.0, 0.0, -2.0]), confidence_level=0.95)
    assert [entry.value for entry in policy.rounds_] == [expected] * 2


def test_rounds_report_their_samples_and_draw_anew():
    """Without a tokenizer the completions are token ids, which show whether they ended."""
    seen = []

    def reward_fn(prompts, completions):
        seen.append(completions)
        return np.zeros(len(prompts))

    def improve(random_state):
        seen.clear()
        policy = make_policy(tokenizer=None, max_new_tokens=3, random_state=random_state)
        # The model has no configuration, so that nothing would end a completion.
        policy.model.config = Bunch(eos_token_id=1)
        policy.improve([[2], [3, 4]], reward_fn, n_rounds=2, n_samples=20)
        return policy.rounds_, [np.concatenate(completions).tolist() for completions in seen]

    reports, (first, second) = improve(random_state=0)
    for report, completions in zip(reports, seen, strict=True):
        assert report.unfinished == np.mean([ids[-1] != 1 for ids in completions])
        assert report.mean_length == np.mean([len(ids) for ids in completions])
        assert 0 < report.unfinished < 1
    assert first != second  # although the policy is the same
    assert improve(random_state=0)[1] == [first, second]
    assert improve(random_state=1)[1][0] != first


@pytest.mark.parametrize(
    ("settings", "low"), [({}, -1.0), ({"baseline": 0.5}, 0.25), ({"effective_positive": 0.4}, -1)]
)
def test_max_positive_caps_the_completions_of_each_prompt(settings, low):
    policy = make_policy(llama(), **settings)

    def reward_fn(prompts, completions):
        return np.where(np.arange(len(prompts)) % 4 > 0, 1.0, low)

    policy.improve(PROMPTS[:3], reward_fn, n_samples=8, max_positive=2)
    assert policy.rounds_[0].n_kept == 3 * (2 + 2)
    assert (policy.diagnostics_.n_positive, policy.diagnostics_.n_negative) == (6, 6)
    if "effective_positive" in settings:  # of those that were kept
        assert policy.diagnostics_.effective_positive == pytest.approx(0.4)


def test_rewards_of_zero_and_one_are_warned_of_once():
    with pytest.warns(UserWarning, match="no negative rewards") as caught:
        make_policy().improve(PROMPTS, lambda p, c: np.arange(len(p)) % 2, 2, n_samples=2)
    assert len(caught) == 1


def test_a_round_without_contrast_teaches_nothing():
    """And rounds go on from the fitted weights."""
    policy = make_policy().fit(PROMPTS, COMPLETIONS, reward=REWARD)
    before = [weight.copy() for weight in weights_of(policy)]
    policy.improve(PROMPTS[:2], lambda p, c: np.zeros(len(p)), n_rounds=2, n_samples=2)
    assert policy.n_steps_ == 0 and policy.rounds_[0].diagnostics is None
    assert not hasattr(policy, "diagnostics_")
    for found, wanted in zip(weights_of(policy), before, strict=True):
        assert_array_equal(found, wanted)


class Recorder(Callback):
    """A callback of scikit-learn that counts tasks and stops after some."""

    def __init__(self, stop_after):
        self.stop_after, self.tasks = stop_after, []

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
    from tests.language_models import PROMPTS, likes_a, make_policy

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
    shutil.copytree(tmp_path, tmp_path / "copy")
    goes_on = make_policy().improve(PROMPTS, likes_a, 2, 4, checkpoint=tmp_path / "copy")
    assert len(goes_on.rounds_) == 2
    policy = make_policy().improve(PROMPTS, likes_a, 1, 4, checkpoint=tmp_path)
    for found, wanted in zip(weights_of(policy), weights_of(first), strict=True):
        assert_array_equal(found, wanted)
    assert policy.rounds_ == first.rounds_
    assert policy.diagnostics_ == first.diagnostics_
    assert policy.diagnostics_.n_positive == first.diagnostics_.n_positive
    assert policy.rounds_[0].value.low == first.rounds_[0].value.low


def test_the_newest_of_two_rounds_counts(tmp_path):
    """A kill between the writing of one and the removal of the other leaves both."""
    pytest.importorskip("safetensors")

    asked = []

    def improve(n_rounds):
        asked.clear()
        policy = make_policy(max_new_tokens=1)
        policy.improve(PROMPTS[:1], reward_fn, n_rounds, 2, checkpoint=tmp_path / "run")

    def reward_fn(prompts, completions):
        asked.append(completions)
        return np.zeros(len(prompts))

    improve(9)
    shutil.copytree(tmp_path / "run", tmp_path / "before")
    improve(10)
    assert len(asked) == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["round-10"]
    shutil.move(tmp_path / "before" / "round-9", tmp_path / "run" / "round-9")
    improve(10)
    assert not asked


def test_a_folder_of_another_run_is_refused(tmp_path):
    pytest.importorskip("safetensors")
    make_policy().improve(PROMPTS, likes_a, 1, 4, checkpoint=tmp_path)
    for policy, prompts in [
        (make_policy(learning_rate=0.5), PROMPTS),
        (make_policy(random_state=1), PROMPTS),
        (make_policy(plain(1)), PROMPTS),
        (make_policy(max_tokens=8), PROMPTS),
        (make_policy(), PROMPTS[:2]),
        (make_policy(), PROMPTS[::-1]),
    ]:
        with pytest.raises(ValueError, match="rounds of another run"):
            policy.improve(prompts, likes_a, 1, 4, checkpoint=tmp_path)
    for how in ({"n_samples": 3}, {"n_samples": 4, "max_positive": 1}):
        with pytest.raises(ValueError, match="rounds of another run"):
            make_policy().improve(PROMPTS, likes_a, **how, checkpoint=tmp_path)
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


# Caps


@pytest.mark.parametrize("baseline", [0.0, 0.5])
def test_caps_count_positives_of_each_prompt_and_keep_all_negatives(baseline, global_random_seed):
    rng = np.random.RandomState(global_random_seed)
    prompts, reward = rng.randint(0, 20, size=300), rng.choice([-1.0, 0.0, 1.0], size=300)
    kept = cap_positives(prompts, reward, 3, baseline=baseline, random_state=rng)
    assert kept[reward <= baseline].all()
    for prompt in range(20):
        positive = (prompts == prompt) & (reward > baseline)
        assert kept[positive].sum() == min(3, positive.sum())


def test_caps_draw_all_positives_alike():
    counts = sum(cap_positives([0] * 5, np.ones(5), 2, random_state=i).astype(int)
                 for i in range(2000))  # fmt: skip
    assert counts.sum() == 4000
    assert np.abs(counts - 800).max() < 5 * np.sqrt(2000 * 0.4 * 0.6)


def test_caps_take_the_prompts_themselves_and_zero():
    kept = cap_positives(np.array(["b", "a", "b"], dtype=object), [1, -1, 1], 0)
    assert kept.tolist() == [False, True, False]
    with pytest.raises(ValueError, match="max_positive == -1"):
        cap_positives([0], [1], -1)
    with pytest.raises(ValueError, match="NaN"):
        cap_positives([0], [np.nan], 1)
    with pytest.raises(ValueError, match="inconsistent"):
        cap_positives([0, 1], [1], 1)
