"""A run that can be watched: its history, callbacks, early stop, display, and folder."""

import json
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

torch = pytest.importorskip("torch")

from pnsklearn.displays import TrainingDisplay  # noqa: E402
from pnsklearn.language import TrainingMonitor  # noqa: E402
from tests.language_models import (  # noqa: E402
    COMPLETIONS,
    PROMPTS,
    REWARD,
    likes_a,
    make_policy,
    plain,
    weights_of,
)

GOOD = REWARD > 0


@pytest.mark.parametrize("ratio_level", ["sequence", "token"])
def test_epochs_tell_the_ratios_that_they_learned_from(ratio_level):
    """With one batch an epoch: those at the weights before it."""
    weight = np.array([1.0, 2.0, 0.5, 1.0, 1.0])
    before = make_policy().logprob(PROMPTS, COMPLETIONS)
    seen = []
    for n_epochs in range(1, 4):
        policy = make_policy(n_epochs=n_epochs, ratio_level=ratio_level)
        policy.fit(PROMPTS, COMPLETIONS, weight, reward=REWARD)
        change = policy.logprob(PROMPTS, COMPLETIONS) - before
        seen.append([np.average(change[rows], weights=weight[rows]) for rows in (GOOD, ~GOOD)])
    found = [(entry.positive_log_ratio, entry.negative_log_ratio) for entry in policy.history_]
    assert_allclose(found, [(0, 0), *seen[:2]], atol=1e-6)
    assert [entry.n_steps for entry in policy.history_] == [1, 1, 1]
    assert all(entry.seconds * entry.tokens_per_second > 0 for entry in policy.history_)
    n_tokens = sum(len(p) + len(c) + 1 for p, c in zip(PROMPTS, COMPLETIONS, strict=True))
    entry = policy.history_[0]
    assert entry.seconds * entry.tokens_per_second == pytest.approx(n_tokens)
    tuned = make_policy().fit(PROMPTS, COMPLETIONS)
    assert np.isnan(tuned.history_[0].positive_log_ratio)  # without rewards there is no ratio


def test_rounds_tell_their_samples():
    policy = make_policy()
    policy.improve(PROMPTS[:3], likes_a, 2, 8, is_valid=lambda text: "e" not in text)
    for entry, report in zip(policy.history_, policy.rounds_, strict=True):
        assert (entry.value, entry.low, entry.high) == report.value[0:1] + report.value[2:]
        assert 0 < entry.invalid == report.invalid < 1
        assert entry.n_steps == 1
    policy.improve(PROMPTS[:3], likes_a, 1, 8)
    assert policy.rounds_[0].invalid == policy.rounds_[0].unfinished
    with pytest.raises(TypeError, match="is_valid must be a function, got int"):
        policy.improve(PROMPTS[:3], likes_a, is_valid=3)


def test_the_monitor_writes_a_line_for_each_task():
    lines = []
    policy = make_policy(n_epochs=2).set_callbacks(TrainingMonitor(lines.append))
    policy.fit(PROMPTS, COMPLETIONS, reward=REWARD)
    assert [line.partition(":")[0] for line in lines] == ["epoch 1", "epoch 2"]
    assert lines[0].startswith("epoch 1: log-ratio good +0, log-ratio bad +0, ")
    lines.clear()
    policy.fit(PROMPTS, COMPLETIONS)
    assert all(line.split(": ")[1].endswith(" tokens/s") for line in lines)
    lines.clear()
    policy.improve(PROMPTS[:1], likes_a, 2, 8)
    assert "inf" not in "".join(lines)  # the interval of one prompt
    lines.clear()
    policy.improve(PROMPTS[:2], likes_a, 2, 8)
    value = policy.rounds_[1].value
    expected = f"round 2: reward {value.value:.3g} ({value.low:.3g} to {value.high:.3g}), valid "
    assert len(lines) == 2 and lines[1].startswith(expected)


# Early stop


def collapsing(**settings):
    settings = {"negative_bounds": (1, 1), "learning_rate": 0.3, "n_epochs": 40, **settings}
    return make_policy(**settings)


def test_a_fit_that_collapses_ends_with_its_best_weights():
    reward = np.where(GOOD, 0.01, -1.0)
    log = {"prompts": PROMPTS, "completions": COMPLETIONS, "reward": reward}
    before = make_policy().logprob(PROMPTS, COMPLETIONS)[GOOD].mean()
    collapsed = collapsing().fit(**log)
    assert collapsed.logprob(PROMPTS, COMPLETIONS)[GOOD].mean() < before - 10
    stopped = collapsing(early_stopping=True)
    with pytest.warns(UserWarning, match=r"Training has collapsed: good completions lost \d+"):
        stopped.fit(**log)
    n_epochs = len(stopped.history_)
    assert n_epochs < 40 and stopped.n_steps_ == n_epochs
    values = [before]
    for n in range(1, n_epochs):
        policy = collapsing(n_epochs=n).fit(**log)
        values.append(policy.logprob(PROMPTS, COMPLETIONS)[GOOD].mean())
    kept = stopped.logprob(PROMPTS, COMPLETIONS)[GOOD].mean()
    assert kept == pytest.approx(max(values), abs=1e-4)


def test_early_stopping_leaves_a_fit_that_learns_alone():
    fits = [
        make_policy(early_stopping=stop, n_epochs=5).fit(PROMPTS, COMPLETIONS, reward=REWARD)
        for stop in (False, True)
    ]
    for found, wanted in zip(*map(weights_of, fits), strict=True):
        assert_array_equal(found, wanted)
    make_policy(early_stopping=True).fit(PROMPTS, COMPLETIONS, reward=-np.ones(5))
    make_policy(early_stopping=True).fit(PROMPTS, COMPLETIONS)


@pytest.mark.parametrize("killed", [False, True])
def test_rounds_that_collapse_end_with_the_weights_of_the_best_samples(killed, tmp_path):
    """The second round has the best reward, and the fourth is invalid; also after a kill."""
    pytest.importorskip("safetensors")
    rounds = []

    def reward_fn(prompts, completions):
        rounds.append(len(completions))
        good = likes_a(prompts, completions)
        return np.array(good) + 10 * (len(rounds) == 2)

    def is_valid(text):
        return len(rounds) < 4

    def improve(n_rounds, **settings):
        policy = make_policy(early_stopping=True, baseline="prompt-mean")
        return policy.improve(PROMPTS[:2], reward_fn, n_rounds, 8, is_valid=is_valid, **settings)

    if killed:
        improve(3, checkpoint=tmp_path / "run")
    else:
        rounds.clear()
    with pytest.warns(UserWarning, match="100% of the samples of round 4 are invalid"):
        policy = improve(6, checkpoint=tmp_path / "run")
    assert len(rounds) == 4 and len(policy.rounds_) == 3
    # The samples of the second round are of the weights after the first.
    rounds.clear()
    first = improve(1, checkpoint=tmp_path / "first")
    for found, wanted in zip(weights_of(policy), weights_of(first), strict=True):
        assert_allclose(found, wanted, rtol=1e-6)


# Folders


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("safetensors")
    make_policy(early_stopping=True).improve(PROMPTS, likes_a, 2, 4, checkpoint=tmp_path)
    return tmp_path / "round-2"


def test_a_person_can_read_the_folder_of_a_run(folder):
    lines = (folder / "history.jsonl").read_text().splitlines()
    assert len(lines) == 2 and {"value", "invalid", "seconds"} <= json.loads(lines[1]).keys()
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["best.safetensors", "history.jsonl", "model.safetensors", "state.json"]


class Bomb:
    def __reduce__(self):
        return exec, ("raise AssertionError('A pickle was run.')",)


def other_weights(path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, path)


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "best.safetensors"])
@pytest.mark.parametrize("wrong", ["pickle", "cut", "empty", "other", "missing"])
def test_a_wrong_file_is_named_and_never_run(name, wrong, folder):
    path = folder / name
    content = path.read_bytes()
    if wrong == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif wrong == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif wrong == "empty":
        path.write_bytes(b"")
    elif wrong == "missing":
        path.unlink()
    elif name == "state.json":
        path.write_text('["another"]')
    else:
        other_weights(path)
    policy = make_policy(early_stopping=True)
    if (name, wrong) == ("best.safetensors", "missing"):
        policy.improve(PROMPTS, likes_a, 3, 4, checkpoint=folder.parent)
        return
    match = rf"{name} is no file that a run wrote .*Remove the folder round-2"
    if name == "model.safetensors" and wrong == "other":
        match = "round-2"
    with pytest.raises(ValueError, match=match):
        policy.improve(PROMPTS, likes_a, 3, 4, checkpoint=folder.parent)
    assert not hasattr(policy, "model_")


def test_other_files_in_the_folder_do_not_matter(folder):
    (folder.parent / "round-notes.txt").write_text("mine")
    (folder.parent / "round-x").mkdir()
    policy = make_policy(early_stopping=True)
    assert len(policy.improve(PROMPTS, likes_a, 3, 4, checkpoint=folder.parent).history_) == 3


# Display


@pytest.fixture
def plt():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


def test_the_display_shows_the_history(plt):
    policy = make_policy(n_epochs=3).fit(PROMPTS, COMPLETIONS, reward=REWARD)
    display = TrainingDisplay.from_estimator(policy, linewidth=3)
    good, bad = display.lines_
    assert good.get_ydata().tolist() == [entry.positive_log_ratio for entry in policy.history_]
    assert bad.get_ydata().tolist() == [entry.negative_log_ratio for entry in policy.history_]
    assert good.get_xdata().tolist() == [1, 2, 3] and good.get_linewidth() == 3
    policy.improve(PROMPTS[:2], likes_a, 2, 8)
    history = json.loads(json.dumps(policy.history_))  # as in a folder
    display = TrainingDisplay(history).plot()
    assert [ax.get_xlabel() for ax in display.ax_] == ["Round"] * 3
    reward, valid, *_ = display.lines_
    assert reward.get_ydata().tolist() == [entry.value for entry in policy.history_]
    assert_allclose(valid.get_ydata(), [1 - entry.invalid for entry in policy.history_])
    assert display.figure_ is display.ax_[0].figure
    with pytest.raises(ValueError, match="ax must be None or three axes"):
        display.plot(plt.subplots()[1])
    with pytest.raises(ValueError, match="The history is empty"):
        TrainingDisplay([]).plot()
    with pytest.raises(NotFittedError):
        TrainingDisplay.from_estimator(make_policy(plain()))
