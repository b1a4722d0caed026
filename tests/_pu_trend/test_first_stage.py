"""The first stage, with learners whose logits are written down."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit

from pnsklearn._pu_trend import _first_stage
from pnsklearn._pu_trend._first_stage import first_stage, held_out_loss, held_out_mean
from pnsklearn._pu_trend._presets import Plan
from pnsklearn._pu_trend._sample import Rows, Sample


def test_held_out_mean(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    logits, sees = rng.normal(size=(20, 6)), rng.uniform(size=(20, 6)) < 0.5
    sees[:2] = True  # never held out: all runs count
    level = rng.normal(size=6)
    for row, score in enumerate(held_out_mean(logits - level, sees)):
        runs = [k for k in range(6) if not sees[row, k]] or range(6)
        expected = np.mean([1 / (1 + np.exp(level[k] - logits[row, k])) for k in runs])
        assert score == pytest.approx(expected)
    extreme = held_out_mean(np.array([[-1e5], [1e5]]), np.zeros((2, 1), bool))
    assert_allclose(extreme, [0, 1], atol=1e-12)


class Script:
    """A learner whose logits are written down: of shape (snapshots, rows, runs)."""

    def __init__(self, logits):
        self.logits_of = logits
        self.snapshot = -1

    def advance(self):
        self.snapshot += 1

    def logits(self, X):
        return self.logits_of[self.snapshot][X[:, 0].astype(int)]


def scripted(seed, n_snapshots=6, n_P=15, n_U=40, n_runs=4):
    """Return learner, sample, plan, and the held-out scores of both samples by double loops."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n_snapshots, n_P + n_U, n_runs)) * 2
    rows = np.arange(float(n_P + n_U))[:, None]
    weight = rng.uniform(0.5, 2, n_P + n_U)
    sees = rng.uniform(size=(n_P + n_U, n_runs)) < 0.5
    sees[:, 0] = False
    parts = slice(n_P), slice(n_P, n_P + n_U)
    sample = Sample(*(Rows(rows[part], weight[part], sees[part]) for part in parts))
    expected = np.zeros((n_snapshots, n_P + n_U))
    for t in range(n_snapshots):
        means = [np.average(logits[t, n_P:, k], weights=weight[n_P:]) for k in range(n_runs)]
        for i in range(n_P + n_U):
            out = [k for k in range(n_runs) if not sees[i, k]]
            expected[t, i] = np.mean(
                [expit(logits[t, i, k] - means[k] + np.mean(means)) for k in out]
            )
    plan = Plan(n_runs, n_snapshots, 1, 8, 0.1, 0.9)
    return Script(logits), sample, plan, expected[:, :n_P], expected[:, n_P:]


def run_first_stage(learners, sample, plan, on_snapshot=lambda learner: False, **changes):
    """Follow a learner, or some of them by name."""
    named = learners if isinstance(learners, dict) else {"only": learners}
    makers = {name: lambda *_, learner=learner: learner for name, learner in named.items()}
    options = {"trend": "pairwise", "stop_early": True} | changes
    return first_stage(sample, makers, plan, None, on_snapshot=on_snapshot, **options)


@pytest.mark.parametrize("trend", ["mean", "pairwise"])
@pytest.mark.parametrize("stop_early", [False, True])
def test_first_stage(stop_early, trend, global_random_seed):
    learner, sample, plan, p_P, p_U = scripted(global_random_seed)
    stage = run_first_stage(learner, sample, plan, trend=trend, stop_early=stop_early)
    losses = [
        -np.average(np.log(p_P[t]), weights=sample.positives.weight)
        - np.average(np.log(1 - p_U[t]), weights=sample.unlabeled.weight)
        for t in range(6)
    ]
    fewest = 1 if trend == "mean" else 2  # a change needs two snapshots
    assert stage.last == (fewest - 1 + np.argmin(losses[fewest - 1 :]) if stop_early else 5)
    for online, p in zip(stage.trends, (p_P, p_U), strict=True):
        assert online.keep_history == (trend == "pairwise")
        assert_allclose(online.scores("mean"), p[: stage.last + 1].mean(axis=0))
        assert_allclose(online.scores("last"), p[stage.last])
    assert_array_equal(stage.scores("last")[1], np.round(stage.trends[1].scores("last"), 12))
    assert len(stage.curves) == 6
    for (curve_P, curve_U), row_P, row_U in zip(stage.curves, p_P, p_U, strict=True):
        assert_allclose(curve_P, row_P)
        assert_allclose(curve_U, row_U[stage.shown[1]])


@pytest.mark.parametrize("trend, last", [("mean", 0), ("last", 0), ("slope", 1), ("pairwise", 1)])
def test_first_stage_uses_two_snapshots_for_a_change(trend, last):
    """Logits that are best at first, and get worse."""
    seen = np.arange(2) != np.arange(5)[:, None] % 2
    X, weight = np.arange(5.0)[:, None], np.ones(5)
    sample = Sample(*(Rows(X[p], weight[p], seen[p]) for p in (slice(2), slice(2, 5))))
    logits = np.linspace(2, -2, 6)[:, None, None] * np.where(np.arange(5) < 2, 1, -1)[:, None]
    learner = Script(np.broadcast_to(logits, (6, 5, 2)))
    plan = Plan(2, 6, 1, 8, 0.1, 0.9)
    assert run_first_stage(learner, sample, plan, trend=trend).last == last


def test_held_out_loss_of_certain_scores():
    sample = Sample(Rows(None, np.ones(2), None), Rows(None, np.array([1.0, 3.0]), None))
    loss = held_out_loss([np.array([0.0, 1.0]), np.array([0.5, 0.0])], sample)
    assert loss == pytest.approx(-np.log(1e-12) / 2 + np.log(2) / 4)


def test_first_stage_keeps_the_better_learner():
    learner, sample, plan, *_ = scripted(0)
    better = Script(learner.logits_of + 3.0 * (np.arange(55) < 15)[:, None])
    stopped = []
    stage = run_first_stage(
        {"first": learner, "better": better}, sample, plan, lambda learner: stopped.append(learner)
    )
    assert stage.name == "better" and stopped == [learner] * 6 + [better] * 6
    # A callback that stops the first one stops all.
    learner, better = Script(learner.logits_of), Script(better.logits_of)
    stage = run_first_stage(
        {"first": learner, "better": better}, sample, plan, lambda learner: learner.snapshot == 5
    )
    assert stage.name == "first" and better.snapshot == -1


def test_first_stage_callback_stops():
    learner, sample, plan, p_P, _ = scripted(0)
    answers = iter([False, False, True])
    stage = run_first_stage(
        learner, sample, plan, lambda _: next(answers), stop_early=False, trend="mean"
    )
    assert stage.last == learner.snapshot == 2
    assert len(stage.curves) == 3
    assert_allclose(stage.trends[0].scores("mean"), p_P[:3].mean(axis=0))


def test_curves_of_a_sample_of_unlabeled_rows(monkeypatch):
    monkeypatch.setattr(_first_stage, "MOST_CURVES", 10)
    learner, sample, plan, _, p_U = scripted(0)
    stage = run_first_stage(learner, sample, plan)
    assert len(np.unique(stage.shown[1])) == 10
    assert stage.shown[1][0] == 0 and stage.shown[1][-1] == 39
    assert_allclose(stage.curves[3][1], p_U[3, stage.shown[1]])


def test_quantiles():
    learner, sample, plan, p_P, p_U = scripted(0)
    stage = run_first_stage(learner, sample, plan)
    positive = np.arange(40) % 3 == 0
    groups = p_P, p_U[:, positive], p_U[:, ~positive]
    result = stage.quantiles(positive)
    assert result.shape == (3, 6, 3)
    for row, group in zip(result, groups, strict=True):
        for t in range(6):
            low, high = np.quantile(group[t], [0.1, 0.9])
            assert_allclose(row[t], [low, group[t].mean(), high])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nobody = stage.quantiles(np.zeros(40, bool))
    assert np.isnan(nobody[1]).all() and np.isfinite(nobody[[0, 2]]).all()
