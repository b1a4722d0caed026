"""The share of positives among unlabeled rows, from scores of both samples."""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit, logsumexp, ndtr, ndtri
from sklearn.isotonic import isotonic_regression
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from pnsklearn._typing import Array
from pnsklearn._validation import check_weights

# Best bin estimation: Garg et al.'s values.
BBE_DELTA, BBE_GAMMA = 0.1, 0.01
# The grid of the posterior: even in the log-odds, as a share of 0.01 is far from one of 0.05.
GRID_PRIOR = expit(np.linspace(logit(0.004), logit(0.99), 70))
GRID_AUC = np.linspace(0.5, 0.999, 30)
GRID_SCALE = np.array([0.7, 1.0, 1.4])
EM_TOL, EM_MAX_ITER = 1e-3, 1000
LARGEST_BOOTSTRAP = 2**31  # rows of a sample, however large the weights


class PriorEstimate(NamedTuple):
    """An estimate with the bounds of its bootstrap interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class PriorPosterior:
    """What scores say of the share of positives among unlabeled rows: a distribution over it.

    Attributes
    ----------
    share : ndarray of shape (n,)
        Shares, ascending.
    probability : ndarray of shape (n,)
        Their probabilities, which sum to 1.
    """

    share: Array
    probability: Array

    def quantile(self, level: float) -> float:
        """Return the share below which it is with probability `level`.

        Parameters
        ----------
        level : float
            In [0, 1].

        Returns
        -------
        share : float
            The quantile, interpolated.
        """
        middle = np.cumsum(self.probability) - self.probability / 2
        return float(np.interp(level, middle, self.share))


POSITIVE_AND_UNLABELED = {
    "scores_positive": ["array-like"],
    "scores_unlabeled": ["array-like"],
    "weight_positive": ["array-like", None],
    "weight_unlabeled": ["array-like", None],
}


@validate_params(
    POSITIVE_AND_UNLABELED
    | {
        "method": [StrOptions({"auto", "bbe", "dedpul", "elkan-noto"})],
        "n_bootstrap": [Interval(Integral, 0, None, closed="left")],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def class_prior(
    scores_positive: ArrayLike, scores_unlabeled: ArrayLike, *, method: str = "auto",
    n_bootstrap: int = 0, confidence_level: float = 0.9, weight_positive: ArrayLike | None = None,
    weight_unlabeled: ArrayLike | None = None, random_state: Any = None,
) -> Any:  # fmt: skip
    r"""Estimate the share π of positives among the unlabeled rows.

    The positives' scores must come from rows that the model was *not* trained on (held out or
    cross-fitted): on its training rows a model scores labeled positives too high, and the
    estimate becomes too small. The labeled positives must be like those among the unlabeled
    rows (selected completely at random). π is the share within the unlabeled rows whichever way
    the samples arose.

    For a threshold c, let :math:`q_P(c)` and :math:`q_U(c)` be the shares of the positives and of
    the unlabeled rows that score at least c. As :math:`q_U = \pi q_P + (1 - \pi) q_N`, the ratio
    :math:`q_U / q_P` is at least π, and equal to it above all negatives. Where the classes overlap
    no such threshold need exist, only an upper bound of π is identified, and every method assumes
    something.

    Parameters
    ----------
    scores_positive : array-like of shape (n_positives,)
        Finite held-out scores of labeled positives, larger for positives.
    scores_unlabeled : array-like of shape (n_unlabeled,)
        Scores of the unlabeled rows, by models of the same kind.
    method : {"auto", "bbe", "dedpul", "elkan-noto"}, default="auto"
        The estimator. All but the last see only the order of the scores.

        - "auto": assumes that some monotone map of the scores makes positives normal with mean 0
          and variance 1, and negatives normal with a smaller mean. The rows are counted in 5 to 20
          bins of equally many positives; the estimate is the median of
          :func:`class_prior_posterior`. In simulations more accurate than "bbe"
          where the classes overlap, slightly less where they hardly do; with much overlap it too
          is on average too large for a small π.
        - "bbe", best bin estimation: the ratio :math:`q_U / q_P` at the threshold that minimises
          its upper confidence bound. Too large where the classes overlap.
        - "dedpul": expectation-maximisation of π given the ratio of the two densities of the
          scores, a histogram made monotone; a simple form of the method.
        - "elkan-noto": :math:`(1 - \bar g) / \bar g` with the mean score :math:`\bar g` of the
          positives. The scores must be calibrated probabilities of "labeled" when both samples
          weigh the same in training, as with ``class_weight="balanced"``:
          :math:`g = f_P / (f_P + f_U)`, which is :math:`1 / (1 + \pi)` for every positive if no
          negative looks like it. Too large where the classes overlap.
    n_bootstrap : int, default=0
        Number of resamples of both samples, for a percentile interval; 0 for none.
    confidence_level : float, default=0.9
        Coverage of that interval, in (0, 1). It shows the spread, not the bias of the method.
    weight_positive, weight_unlabeled : array-like or None, default=None
        Non-negative weights of the rows; a whole number counts as so many rows.
    random_state : int, RandomState instance or None, default=None
        Seed of the bootstrap.

    Returns
    -------
    prior : float or PriorEstimate
        In [0, 1]. With ``n_bootstrap > 0`` a named tuple (estimate, low, high) of floats.

    Raises
    ------
    ValueError
        If scores are not finite or not one-dimensional, a sample is empty or without weight,
        weights are negative, a parameter is out of its range, or "elkan-noto" gets scores of
        positives outside [0, 1].

    References
    ----------
    S. Garg, Y. Wu, A. Smola, S. Balakrishnan, Z. Lipton, "Mixture Proportion Estimation and PU
    Learning: A Modern Approach", NeurIPS 2021, algorithm 1 ("bbe").

    D. Ivanov, "DEDPUL: Difference-of-Estimated-Densities-based Positive-Unlabeled Learning",
    ICMLA 2020.

    C. Elkan, K. Noto, "Learning Classifiers from Only Positive and Unlabeled Data", KDD 2008,
    estimator e1.

    Examples
    --------
    >>> import numpy as np
    >>> from pnsklearn.metrics import class_prior
    >>> rng = np.random.default_rng(0)
    >>> positive = rng.normal(2.5, size=300)
    >>> unlabeled = np.append(rng.normal(2.5, size=1500), rng.normal(size=3500))
    >>> round(class_prior(positive, unlabeled), 2)
    0.3
    >>> prior = class_prior(positive, unlabeled, n_bootstrap=50, random_state=0)
    >>> bool(prior.low < 0.3 < prior.high)
    True
    """
    samples = (
        _check_sample(scores_positive, weight_positive, "positive"),
        _check_sample(scores_unlabeled, weight_unlabeled, "unlabeled"),
    )
    if method == "elkan-noto":
        scores = samples[0][0]
        if scores.min() < 0 or scores.max() > 1:
            raise ValueError(
                "method='elkan-noto' needs probabilities, but scores_positive has values outside "
                "[0, 1]; calibrate the scores or choose another method."
            )
    estimator = METHODS[method]
    estimate = estimator(*samples)
    if n_bootstrap == 0:
        return estimate
    rng = check_random_state(random_state)
    resampled = [
        estimator(*(_resample(sample, rng) for sample in samples)) for _ in range(n_bootstrap)
    ]
    tail = (1 - confidence_level) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return PriorEstimate(estimate, float(low), float(high))


@validate_params(
    POSITIVE_AND_UNLABELED
    | {
        "low": [Interval(Real, 0, 1, closed="both")],
        "high": [Interval(Real, 0, 1, closed="both")],
        "power": [Interval(Real, 0, 1, closed="right")],
    },
    prefer_skip_nested_validation=True,
)
def class_prior_posterior(
    scores_positive: ArrayLike, scores_unlabeled: ArrayLike, *, low: float = 0.0,
    high: float = 1.0, power: float = 1.0,
    weight_positive: ArrayLike | None = None, weight_unlabeled: ArrayLike | None = None,
) -> PriorPosterior:  # fmt: skip
    r"""Return what scores say of the share π of positives among the unlabeled rows.

    As for :func:`class_prior`, the positives' scores must be held out, and the labeled positives
    like those among the unlabeled rows. Beyond that it assumes that some monotone map of the
    scores makes positives normal with mean 0 and variance 1, and negatives normal with a smaller
    mean and a standard deviation of 0.7, 1 or 1.4. The area under the curve A has prior weights
    :math:`(2A - 1)^2`, and π is uniform between `low` and `high`. Without such
    assumptions only an upper bound of π is identified: negatives that look exactly like positives
    cannot be told from them, and are counted.

    Parameters
    ----------
    scores_positive : array-like of shape (n_positives,) or (n_positives, n_views)
        Finite held-out scores of labeled positives, larger for positives. Several columns are the
        scores of several models: their log-likelihoods are averaged, as they are of the same rows.
    scores_unlabeled : array-like of shape (n_unlabeled,) or (n_unlabeled, n_views)
        Scores of the unlabeled rows, by models of the same kind.
    low, high : float, default=0 and 1
        Bounds of π that are known.
    power : float, default=1.0
        Power of the likelihood, in (0, 1]: below 1 where the assumptions hold only roughly.
    weight_positive, weight_unlabeled : array-like or None, default=None
        Non-negative weights of the rows; a whole number counts as so many rows.

    Returns
    -------
    posterior : PriorPosterior
        A grid of shares, `share`, their probabilities, `probability`, and the method `quantile`.

    Raises
    ------
    ValueError
        If scores are not finite, the samples have different numbers of views, `low` is not below
        `high`, or as :func:`class_prior` does.

    Examples
    --------
    >>> import numpy as np
    >>> from pnsklearn.metrics import class_prior_posterior
    >>> rng = np.random.default_rng(0)
    >>> positive = rng.normal(2.5, size=300)
    >>> unlabeled = np.append(rng.normal(2.5, size=1500), rng.normal(size=3500))
    >>> posterior = class_prior_posterior(positive, unlabeled)
    >>> [round(posterior.quantile(level), 2) for level in (0.05, 0.5, 0.95)]
    [0.25, 0.3, 0.36]
    """
    if low >= high:
        raise ValueError(f"low must be below high, got {low!r} and {high!r}.")
    views = [
        np.asarray(s)[:, np.newaxis] if np.ndim(s) == 1 else np.asarray(s)
        for s in (scores_positive, scores_unlabeled)
    ]
    if any(view.ndim != 2 for view in views) or views[0].shape[1] != views[1].shape[1]:
        raise ValueError(
            "scores_positive and scores_unlabeled must be of shape (n_rows,) or (n_rows, n_views) "
            f"with as many views, got {np.shape(scores_positive)} and {np.shape(scores_unlabeled)}."
        )
    evidence = [
        _log_evidence(
            _check_sample(of_P, weight_positive, "positive"),
            _check_sample(of_U, weight_unlabeled, "unlabeled"),
        )
        for of_P, of_U in zip(views[0].T, views[1].T, strict=True)
    ]
    return _posterior(power * np.mean(evidence, axis=0), low, high)


def _check_sample(scores, weight, name):
    """Return (distinct scores, weights) of the rows that have a weight, by ascending score."""
    scores = check_array(scores, ensure_2d=False, dtype=np.float64, input_name=f"scores_{name}")
    if scores.ndim != 1:
        raise ValueError(f"scores_{name} must be of shape (n_rows,), got {scores.shape}.")
    weight = check_weights(weight, scores)
    scores, row = np.unique(scores[weight > 0], return_inverse=True)
    return scores, np.bincount(row, weight[weight > 0])


def _resample(sample, rng):
    """Return a bootstrap sample, in order as the sample is."""
    scores, weight = sample
    size = round(min(max(weight.sum(), 1), LARGEST_BOOTSTRAP))
    counts = rng.multinomial(size, weight / weight.sum())
    return scores[counts > 0], counts[counts > 0].astype(np.float64)


def _share_above(sample, thresholds):
    """Return the weighted share of rows that score at least each threshold."""
    scores, weight = sample
    above = np.append(np.cumsum(weight[::-1])[::-1], 0.0)
    return above[np.searchsorted(scores, thresholds)] / above[0]


def _best_bin(positive, unlabeled):
    """Best bin estimation: argmin_c [q_U(c) + (1 + gamma) slack] / q_P(c)."""
    # Of all thresholds of the same q_P, the largest is a positive's score and has the least q_U.
    thresholds = np.unique(positive[0])
    q_positive = _share_above(positive, thresholds)
    q_unlabeled = _share_above(unlabeled, thresholds)
    slack = sum(
        math.sqrt(math.log(4 / BBE_DELTA) / (2 * weight.sum()))
        for _, weight in (positive, unlabeled)
    )
    best = np.argmin((q_unlabeled + (1 + BBE_GAMMA) * slack) / q_positive)
    return float(min(q_unlabeled[best] / q_positive[best], 1.0))


def _bin_shares(positive, unlabeled, n_bins):
    """Return the shares of both samples in ascending bins of about equally many positives."""
    scores, weight = positive
    below = np.cumsum(weight) / weight.sum()
    ranks = np.searchsorted(below, np.arange(1, n_bins) / n_bins, side="right")
    edges = np.unique(scores[np.minimum(ranks, scores.shape[0] - 1)])
    counts = [
        np.bincount(np.searchsorted(edges, scores, side="right"), weight, edges.shape[0] + 1)
        for scores, weight in (positive, unlabeled)
    ]
    counts_positive, counts_unlabeled = counts[0] + 0.5, counts[1]  # with ties a bin may be empty
    return counts_positive / counts_positive.sum(), counts_unlabeled / counts_unlabeled.sum()


def _binormal(positive, unlabeled):
    """Posterior median of π under a binormal model of the two samples' ranks."""
    return _posterior(_log_evidence(positive, unlabeled)).quantile(0.5)


def _posterior(log_evidence, low=0, high=1):
    """Return the posterior of π, uniform on [low, high] beforehand."""
    share = GRID_PRIOR
    if (low, high) != (0, 1):
        share = np.linspace(low, high, GRID_PRIOR.shape[0])
        log_evidence = np.interp(share, GRID_PRIOR, log_evidence)
    log_weight = log_evidence + np.log(np.gradient(share))  # even in π, whatever the grid
    return PriorPosterior(share, np.exp(log_weight - logsumexp(log_weight)))


def _log_evidence(positive, unlabeled):
    r"""Log-likelihood of each π under a binormal model of the two samples' ranks.

    With t the share of positives below a threshold, the share of unlabeled rows below it is

        D(t) = π t + (1 - π) Φ((Φ⁻¹(t) + b) / σ),    A = Φ(b / sqrt(1 + σ²)).

    The bins' shares of U are taken as normal around the increments d of D. Their variance is that
    of the counts in U, d / n_U, plus that of the counts in P, which move the bins' edges: the slope
    of D above the bin, squared, times p / n_P. A and σ are summed out.
    """
    n_positive, n_unlabeled = positive[1].sum(), unlabeled[1].sum()
    n_bins = int(np.clip(n_positive // 10, 5, 20))
    share, observed = _bin_shares(positive, unlabeled, n_bins)
    quantile = ndtri(np.append(0.0, np.cumsum(share)[:-1]))
    auc, scale = (grid.ravel()[:, None] for grid in np.meshgrid(GRID_AUC, GRID_SCALE))
    shift = ndtri(auc) * np.sqrt(1 + scale**2)
    below = ndtr((quantile + shift) / scale)
    negative = np.diff(below, axis=1, append=1.0)

    prior = GRID_PRIOR[:, None, None]
    expected = prior * share + (1 - prior) * negative
    slope = expected / share
    slope = np.concatenate([slope[..., 1:], slope[..., -1:]], axis=-1)
    variance = expected / n_unlabeled + slope**2 * share / n_positive
    log_likelihood = -0.5 * ((observed - expected) ** 2 / variance + np.log(variance)).sum(axis=-1)
    return logsumexp(log_likelihood, b=(2 * auc[:, 0] - 1) ** 2, axis=-1)


def _density_ratio(positive, unlabeled):
    """Expectation-maximisation of π: the mean posterior min(1, π f_P / f_U) over U."""
    n_bins = max(2, round(math.cbrt(positive[1].sum())))  # the rate of a histogram's bins
    share, observed = _bin_shares(positive, unlabeled, n_bins)
    seen = observed > 0
    share, observed = share[seen], observed[seen]
    ratio = isotonic_regression(share / observed, sample_weight=observed)
    ratio /= observed @ ratio
    prior = 1.0
    for _ in range(EM_MAX_ITER):
        previous, prior = prior, float(observed @ np.minimum(prior * ratio, 1.0))
        if previous - prior < EM_TOL:
            break
    return prior


def _mean_score(positive, unlabeled):
    """Elkan and Noto's e1 for π: the positives' mean score is 1 / (1 + π) without overlap."""
    scores, weight = positive
    mean = float(np.average(scores, weights=weight))
    return min(1 / mean - 1, 1.0) if mean > 0 else 1.0


METHODS = {
    "auto": _binormal,
    "bbe": _best_bin,
    "dedpul": _density_ratio,
    "elkan-noto": _mean_score,
}
