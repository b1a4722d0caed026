"""Class prior estimators on mixtures whose prior is known."""

import numpy as np
import pytest
from scipy.special import expit

from pnsklearn.metrics import class_prior, class_prior_posterior

METHODS = ["auto", "bbe", "dedpul", "elkan-noto"]


def mixture(seed, prior, distance, n_positive=200, n_unlabeled=2000):
    """Calibrated scores f_P / (f_P + f_U) of two normal classes: (positives, unlabeled)."""
    rng = np.random.default_rng(seed)
    hidden = np.arange(n_unlabeled) < round(prior * n_unlabeled)
    positive = rng.standard_normal(n_positive) + distance
    unlabeled = rng.standard_normal(n_unlabeled) + distance * hidden
    return (
        1 / (1 + prior + (1 - prior) * np.exp(distance * (distance / 2 - x)))
        for x in (positive, unlabeled)
    )


@pytest.mark.parametrize("prior", [0.05, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("method", METHODS)
def test_separated_classes(method, prior, global_random_seed):
    positive, unlabeled = mixture(global_random_seed, prior, 7.0, 1000, 5000)
    assert class_prior(positive, unlabeled, method=method) == pytest.approx(
        prior, abs=0.15 if method == "dedpul" else 0.05
    )


def errors(method, prior, distance, seed):
    return np.array(
        [
            class_prior(*mixture([seed, i], prior, distance, 100, 1000), method=method) - prior
            for i in range(10)
        ]
    )


@pytest.mark.parametrize("distance", [1.0, 1.5])
def test_overlapping_classes(distance, global_random_seed):
    # A known weakness of best bin estimation, and the reason for "auto".
    signed = {
        method: np.concatenate(
            [errors(method, p, distance, global_random_seed) for p in (0.05, 0.3, 0.6)]
        )
        for method in ("auto", "bbe")
    }
    assert signed["bbe"].mean() > 0.08
    assert np.abs(signed["auto"]).mean() < 0.75 * np.abs(signed["bbe"]).mean()


@pytest.mark.parametrize("prior", [0.05, 0.2, 0.5, 0.8])
def test_auto_is_accurate(prior, global_random_seed):
    assert np.abs(errors("auto", prior, 2.5, global_random_seed)).mean() < 0.08


def test_best_bin_by_enumeration(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    positive = np.round(rng.normal(1.5, size=40), 1)  # ties
    unlabeled = np.round(np.append(rng.normal(1.5, size=30), rng.normal(size=70)), 1)
    slack = np.sqrt(np.log(4 / 0.1) / 2) * (1 / np.sqrt(40) + 1 / np.sqrt(100))
    best = (np.inf, None)
    for c in np.append(positive, unlabeled):
        q_positive, q_unlabeled = np.mean(positive >= c), np.mean(unlabeled >= c)
        if q_positive > 0:
            bound = (q_unlabeled + 1.01 * slack) / q_positive
            best = min(best, (bound, q_unlabeled / q_positive))
    assert class_prior(positive, unlabeled, method="bbe") == pytest.approx(best[1])


def test_elkan_noto_is_exact_without_overlap():
    # Positives score 1 / (1 + pi), negatives 0.
    scores = np.full(5, 1 / 1.25)
    assert class_prior(scores, [0.0, 0.8], method="elkan-noto") == pytest.approx(0.25)
    assert class_prior([0.0, 0.1], [0.0], method="elkan-noto") == 1
    assert class_prior([0.0], [0.0], method="elkan-noto") == 1


@pytest.mark.parametrize("method", ["auto", "bbe", "dedpul"])
def test_only_the_order_matters(method, global_random_seed):
    positive, unlabeled = mixture(global_random_seed, 0.3, 2.0)
    expected = class_prior(positive, unlabeled, method=method)
    mapped = class_prior(np.log(positive), np.log(unlabeled), method=method)
    assert mapped == pytest.approx(expected)
    shuffled = class_prior(positive[::-1], unlabeled[::-1], method=method)
    assert shuffled == pytest.approx(expected)


@pytest.mark.parametrize("method", METHODS)
def test_weights_are_repetitions(method, global_random_seed):
    positive, unlabeled = mixture(global_random_seed, 0.3, 2.0, 120, 500)
    times_p, times_u = np.arange(120) % 3, np.arange(500) % 4
    weighted = class_prior(
        positive, unlabeled, method=method, weight_positive=times_p, weight_unlabeled=times_u
    )
    repeated = class_prior(
        np.repeat(positive, times_p), np.repeat(unlabeled, times_u), method=method
    )
    assert weighted == pytest.approx(repeated)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "positive, unlabeled",
    [([1.0], [0.0]), ([1.0] * 50, [0.0] * 50), ([0.5] * 50, [0.5] * 50), ([0.0], [1.0, 1.0])],
)
def test_few_and_constant_scores(method, positive, unlabeled):
    prior = class_prior(positive, unlabeled, method=method)
    assert type(prior) is float and 0 <= prior <= 1


def test_all_positives_tie_above_the_rest():
    unlabeled = np.repeat([0.0, 1.0], [700, 300])
    for method in ("auto", "bbe"):
        assert class_prior(np.ones(100), unlabeled, method=method) == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_bootstrap(method, global_random_seed):
    positive, unlabeled = mixture(global_random_seed, 0.3, 3.0)
    arguments = dict(method=method, n_bootstrap=40, random_state=global_random_seed)
    prior = class_prior(positive, unlabeled, **arguments)
    assert prior.estimate == class_prior(positive, unlabeled, method=method)
    assert prior == class_prior(positive, unlabeled, **arguments)
    assert 0 <= prior.low < prior.high <= 1
    narrow = class_prior(positive, unlabeled, confidence_level=0.3, **arguments)
    assert prior.low <= narrow.low <= narrow.high <= prior.high


def test_bootstrap_of_huge_weights():
    scores = np.linspace(0, 1, 50)
    weight = np.full(50, 1e30)
    weights = {"weight_positive": weight, "weight_unlabeled": weight}
    found = class_prior(scores + 0.2, scores, n_bootstrap=5, random_state=0, **weights)
    assert 0 <= found.low <= found.high <= 1


def test_bootstrap_interval_covers(global_random_seed):
    covered = 0
    for i in range(20):
        positive, unlabeled = mixture([global_random_seed, i], 0.3, 3.0)
        _, low, high = class_prior(positive, unlabeled, n_bootstrap=40, random_state=i)
        covered += low <= 0.3 <= high
    assert covered >= 12


@pytest.mark.parametrize(
    "positive, unlabeled, params, message",
    [
        ([], [0.0], {}, "minimum of 1 is required"),
        ([0.0, np.nan], [0.0], {}, "scores_positive contains NaN"),
        ([0.0], [np.inf], {}, "scores_unlabeled contains infinity"),
        ([[0.0]], [0.0], {}, r"scores_positive must be of shape \(n_rows,\), got \(1, 1\)"),
        ([0.0], [0.0], {"weight_positive": [0.0]}, "at least one non-zero"),
        ([0.0], [0.0], {"weight_unlabeled": [-1.0]}, "Negative values"),
        ([0.0], [0.0], {"weight_unlabeled": [1.0, 1.0]}, "sample_weight.shape"),
        ([2.0], [0.0], {"method": "elkan-noto"}, r"outside \[0, 1\]; calibrate"),
        ([0.0], [0.0], {"method": "km2"}, "'method' parameter"),
        ([0.0], [0.0], {"n_bootstrap": -1}, "'n_bootstrap' parameter"),
        ([0.0], [0.0], {"confidence_level": 1.0}, "'confidence_level' parameter"),
    ],
)
def test_bad_input(positive, unlabeled, params, message):
    with pytest.raises(ValueError, match=message):
        class_prior(positive, unlabeled, **params)


def test_a_logistic_scale_gives_the_same_interval(global_random_seed):
    positive, unlabeled = mixture(global_random_seed, 0.3, 2.0)
    plain = class_prior(positive, unlabeled, n_bootstrap=5, random_state=0)
    mapped = class_prior(expit(positive), expit(unlabeled), n_bootstrap=5, random_state=0)
    assert plain == pytest.approx(mapped)


def test_density_ratio_has_a_bin_without_negatives():
    """A thousand positives make ten bins: the highest, above all negatives, shows the prior."""
    positive, negative = (np.arange(1000) + 0.5) / 1000, np.linspace(0.0, 0.89, 700)
    unlabeled = np.concatenate([(np.arange(300) + 0.5) / 300, negative])
    assert class_prior(positive, unlabeled, method="dedpul") == pytest.approx(0.3, abs=0.03)


# The posterior


def test_posterior_and_its_estimate(global_random_seed):
    positive, unlabeled = map(np.asarray, mixture(global_random_seed, 0.3, 3.0))
    posterior = class_prior_posterior(positive, unlabeled)
    assert posterior.probability.sum() == pytest.approx(1)
    assert posterior.quantile(0.5) == class_prior(positive, unlabeled)
    assert posterior.quantile(0.01) < 0.3 < posterior.quantile(0.99)
    assert np.all(np.diff([posterior.quantile(q) for q in np.linspace(0, 1, 9)]) >= 0)


def test_posterior_covers_and_widens():
    """Where its assumptions hold, 90 % intervals hold the truth, and overlap makes them wide."""
    widths = []
    for distance in (4.0, 2.0, 1.0):
        found = [class_prior_posterior(*mixture([7, i], 0.3, distance)) for i in range(40)]
        ends = np.array([[p.quantile(level) for level in (0.05, 0.95)] for p in found])
        assert np.mean((ends[:, 0] < 0.3) & (ends[:, 1] > 0.3)) > 0.75
        widths.append(np.diff(ends).mean())
    assert widths[0] < widths[1] < widths[2]


def test_posterior_of_several_views(global_random_seed):
    """The same view twice says no more than once; a second one is averaged."""
    positive, unlabeled = map(np.asarray, mixture(global_random_seed, 0.3, 2.0))
    once = class_prior_posterior(positive, unlabeled)
    twice = class_prior_posterior(*(np.column_stack([s, s]) for s in (positive, unlabeled)))
    assert twice.probability == pytest.approx(once.probability)
    noise = [np.random.default_rng(0).random(len(s)) for s in (positive, unlabeled)]
    views = [np.column_stack(pair) for pair in zip((positive, unlabeled), noise, strict=True)]
    both = class_prior_posterior(*views)
    blind = class_prior_posterior(*noise)
    inside = once.probability > 1e-6
    ratio = both.probability[inside] / np.sqrt(once.probability * blind.probability)[inside]
    assert ratio == pytest.approx(np.full(len(ratio), ratio[0]))


def test_posterior_within_bounds():
    positive, unlabeled = map(np.asarray, mixture(0, 0.3, 2.0))
    free = class_prior_posterior(positive, unlabeled)
    narrow = class_prior_posterior(positive, unlabeled, low=0.2, high=0.25)
    assert narrow.share[0] == 0.2 and narrow.share[-1] == 0.25
    assert 0.2 < narrow.quantile(0.05) < narrow.quantile(0.95) < 0.25
    wide = class_prior_posterior(positive, unlabeled, low=0.001, high=1.0)
    for level in (0.05, 0.5, 0.95):
        assert wide.quantile(level) == pytest.approx(free.quantile(level), abs=0.02)
    flat = class_prior_posterior(positive, unlabeled, power=0.1)
    assert flat.quantile(0.95) - flat.quantile(0.05) > free.quantile(0.95) - free.quantile(0.05)


@pytest.mark.parametrize(
    "positive, unlabeled, params, message",
    [
        ([0.0], [[0.0, 1.0]], {}, "as many views"),
        ([[0.0, 1.0]], [[0.0]], {}, "as many views"),
        ([0.0, np.nan], [0.0], {}, "scores_positive contains NaN"),
        ([0.0], [0.0], {"low": 0.5, "high": 0.5}, "low must be below high"),
        ([0.0], [0.0], {"power": 0.0}, "'power' parameter"),
        ([0.0], [0.0], {"high": 1.5}, "'high' parameter"),
    ],
)
def test_bad_input_of_the_posterior(positive, unlabeled, params, message):
    with pytest.raises(ValueError, match=message):
        class_prior_posterior(positive, unlabeled, **params)
