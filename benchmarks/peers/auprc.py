"""The peers of AUPRCClassifier: the definition pair by pair, LibAUC, LightGBM."""

import numba
import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split


@numba.njit
def _pairs(scores, positive, t, smooth):
    n = scores.shape[0]
    gradient = np.zeros(n)
    value = 0.0
    for i in np.flatnonzero(positive):
        P = N = slope_P = slope_N = 0.0
        for j in range(n):
            level, slope = _level(scores[i] - scores[j], t, smooth)
            if positive[j]:
                P += 1.0 if smooth and scores[j] == scores[i] else level
                slope_P += slope
            else:
                N += level
                slope_N += slope
        value += P / (P + N)
        of_P, of_N = N / (P + N) ** 2, -P / (P + N) ** 2
        gradient[i] += of_P * slope_P + of_N * slope_N
        for j in range(n):
            slope = _level(scores[i] - scores[j], t, smooth)[1]
            gradient[j] -= (of_P if positive[j] else of_N) * slope
    n_positive = positive.sum()
    return value / n_positive, gradient / n_positive


@numba.njit
def _level(d, t, smooth):
    """Return l(d) and its slope, t the half width of the step or the margin of the hinge."""
    if not smooth:
        return max(t - d, 0.0) ** 2, -2.0 * max(t - d, 0.0)
    a, b, c = max(t - d, 0.0), max(-d, 0.0), max(-t - d, 0.0)
    return (a * a - 2 * b * b + c * c) / (2 * t * t), (2 * b - a - c) / (t * t)


def by_pairs(scores, y, loss, margin):
    """Return value and gradient by a double loop; the margin is in standard deviations."""
    return _pairs(scores, y == 1, margin * scores.std(), loss == "smooth")


def tuned_logistic(n_folds, **settings):
    """Return logistic regression with a penalty chosen by average precision."""
    return LogisticRegressionCV(
        Cs=np.logspace(-4, 4, 9), cv=n_folds, scoring="average_precision", max_iter=1000,
        l1_ratios=(0,), use_legacy_attributes=False, **settings,
    )  # fmt: skip


def lightgbm():
    """Return LightGBM at its defaults."""
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_jobs=1, random_state=0, verbose=-1)


def libauc_coef(X, y, learning_rate, seed, n_epochs=60):
    """Return the coefficients of a linear model by LibAUC's APLoss and SOAP.

    The settings are those of the AUPRC recipes in its repository: start from cross-entropy,
    probabilities, margin 0.6, gamma 0.1, batches of 64 with half of them positive, Adam, 60 epochs,
    the rate divided by 10 after one half and three quarters. Batches are sliced from a tensor,
    which is faster than its DataLoader with DualSampler.
    """
    import torch
    from libauc.losses import APLoss
    from libauc.optimizers import SOAP

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    start = LogisticRegression().fit(X, y)
    layer = torch.nn.Linear(X.shape[1], 1)
    layer.load_state_dict(
        {"weight": torch.tensor(start.coef_), "bias": torch.tensor(start.intercept_)}
    )
    data, target = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
    loss = APLoss(data_len=len(y), margin=0.6, gamma=0.1, device="cpu")
    optimizer = SOAP(
        layer.parameters(), lr=learning_rate, mode="adam", weight_decay=1e-5, verbose=False,
        device="cpu",
    )  # fmt: skip
    for epoch in range(n_epochs):
        if epoch in (n_epochs // 2, 3 * n_epochs // 4):
            optimizer.param_groups[0]["lr"] /= 10
        for rows in balanced_batches(y, 64, rng):
            index = torch.from_numpy(rows)
            optimizer.zero_grad()
            loss(torch.sigmoid(layer(data[index])), target[index], index).backward()
            optimizer.step()
    return layer.weight.detach().numpy()[0].astype(np.float64)


def balanced_batches(y, batch_size, rng):
    """Return an epoch of batches, half of each positive; the rarer class is repeated."""
    half = batch_size // 2
    pools = [np.flatnonzero(y == label) for label in (1, 0)]
    n_batches = max(1, *(len(pool) // half for pool in pools))
    columns = []
    for pool in pools:
        repeats = -(-n_batches * half // len(pool))
        rows = np.concatenate([rng.permutation(pool) for _ in range(repeats)])
        columns.append(rows[: n_batches * half].reshape(n_batches, half))
    return np.hstack(columns)


class LibAUC(ClassifierMixin, BaseEstimator):
    """LibAUC's linear model; the learning rate is chosen by average precision on a quarter."""

    def __init__(self, n_epochs=60, rates=(1e-3, 1e-1), random_state=None):
        self.n_epochs = n_epochs
        self.rates = rates
        self.random_state = random_state

    def fit(self, X, y):
        """Fit the coefficients."""
        part, held_out = train_test_split(
            np.arange(len(y)), test_size=0.25, stratify=y, random_state=self.random_state
        )

        def precision(rate):
            coef = libauc_coef(X[part], y[part], rate, self.random_state, self.n_epochs)
            return average_precision_score(y[held_out], X[held_out] @ coef)

        self.classes_ = np.unique(y)
        best = max(self.rates, key=precision)
        self.coef_ = libauc_coef(X, y, best, self.random_state, self.n_epochs)
        return self

    def predict_proba(self, X):
        """Return sigmoids of the scores, which rank; they are not calibrated."""
        positive = expit(X @ self.coef_)
        return np.column_stack([1 - positive, positive])
