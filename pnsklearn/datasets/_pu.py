"""Hide the labels of a labeled set, so that only some positives are known."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import _safe_indexing, check_array, check_random_state, indexable
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from pnsklearn._pu_trend._labels import positive_label
from pnsklearn._typing import Array


@validate_params(
    {
        "X": ["array-like", "sparse matrix"],
        "y": ["array-like"],
        "label_frequency": [None, Interval(Real, 0, 1, closed="right")],
        "n_labeled": [None, Interval(Integral, 1, None, closed="left")],
        "scenario": [StrOptions({"single", "case-control"})],
        "bias": [Interval(Real, None, None, closed="neither")],
        "pos_label": [None, Real, str, "boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_pu(
    X: Any, y: ArrayLike, *, label_frequency: Any = None, n_labeled: int | None = None,
    scenario: str = "single", bias: float = 0.0, pos_label: Any = None, random_state: Any = None,
) -> tuple[Any, Array, Array]:  # fmt: skip
    r"""Make a positive-unlabeled problem of a labeled one.

    Some positives are labeled; the label of all other rows is hidden.

    - ``scenario="single"``: all rows are kept. Positives that are not labeled and all negatives
      are the unlabeled rows, so that these have a smaller share of positives than the population.
    - ``scenario="case-control"``: the labeled positives are a sample of their own, and the
      unlabeled rows keep the share of positives of `y`. For that, negatives are left out at
      random in the same proportion as positives were labeled. No row is in both samples.

    With a `bias` b, positives are drawn one after the other with weights :math:`e^{b z}`, where z
    is the score of a logistic regression of y on X, standardised over the positives. In the
    case-control scenario this draw must not change the unlabeled positives: it is made within a
    random part of the positives, the labeled ones' number plus half of the rest, and only the
    other part goes into the unlabeled sample.

    Parameters
    ----------
    X : {array-like, sparse matrix, frame} of shape (n_samples, n_features)
        The samples. With a `bias` they must be numeric and finite.
    y : array-like of shape (n_samples,)
        Their true labels.
    label_frequency : float in (0, 1] or None, default=None
        Share of the positives that become labeled, rounded to whole rows, at least one. Give this
        or `n_labeled`.
    n_labeled : int or None, default=None
        Number of the positives that become labeled.
    scenario : {"single", "case-control"}, default="single"
        How the two samples arise, see above.
    bias : float, default=0.0
        0 labels positives completely at random, > 0 prefers the easy ones, far from the negatives,
        < 0 those near the border or beyond.
    pos_label : int, float, bool, str or None, default=None
        The positive label, all others are negative. None: 1 beside 0 or -1, and True beside False;
        other labels must be named.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    X_pu : {ndarray, sparse matrix, frame} of shape (n_kept, n_features)
        The rows that are kept, in their order, of the type of `X`.
    s : ndarray of shape (n_kept,)
        1 for labeled positives, 0 for unlabeled rows.
    y_true : ndarray of shape (n_kept,)
        1 for positives, 0 for negatives: what is hidden.

    Raises
    ------
    ValueError
        If not exactly one of `label_frequency` and `n_labeled` is given, there are too few
        positives or no negatives, `pos_label` is needed, or a parameter is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from pnsklearn.datasets import make_pu
    >>> X, y = np.arange(40).reshape(20, 2), np.repeat([0, 1], 10)
    >>> _, s, y_true = make_pu(X, y, n_labeled=4, random_state=0)
    >>> len(s), int(s.sum()), float(y_true[s == 0].mean())
    (20, 4, 0.375)

    The unlabeled rows keep the share of positives, one half, in the other scenario.

    >>> _, s, y_true = make_pu(X, y, n_labeled=4, scenario="case-control", random_state=0)
    >>> len(s), int(s.sum()), float(y_true[s == 0].mean())
    (16, 4, 0.5)
    """
    if (label_frequency is None) == (n_labeled is None):
        raise ValueError("Give exactly one of label_frequency and n_labeled.")
    X, y = indexable(X, y)
    positive = _positives(y, pos_label)
    positives, negatives = np.flatnonzero(positive), np.flatnonzero(~positive)
    if n_labeled is None:
        n_labeled = max(round(label_frequency * positives.shape[0]), 1)
    # In the single scenario all positives may be labeled; in the other, one at least is not.
    most = positives.shape[0] - (scenario == "case-control")
    if n_labeled > most:
        raise ValueError(
            f"{n_labeled} positives cannot be labeled, at most {most} of the "
            f"{positives.shape[0]} can in the scenario {scenario!r}."
        )

    rng = check_random_state(random_state)
    easiness = _easiness(X, positive) if bias else np.zeros(positives.shape[0])
    # The n largest of log weight + Gumbel noise are n draws without replacement by weight.
    noise = rng.gumbel(size=positives.shape[0])
    if scenario == "single":
        kept = np.arange(positive.shape[0])
        pool = np.arange(positives.shape[0])
    else:
        spare = (positives.shape[0] - n_labeled) // 2 if bias else 0
        order = rng.permutation(positives.shape[0])
        pool, rest = order[: n_labeled + spare], order[n_labeled + spare :]
        n_negatives = max(round(negatives.shape[0] * rest.shape[0] / positives.shape[0]), 1)
        kept = np.concatenate([positives[rest], rng.permutation(negatives)[:n_negatives]])
    drawn = pool[np.argsort(-(bias * easiness + noise)[pool])[:n_labeled]]
    labeled = positives[drawn]
    kept = np.union1d(kept, labeled)
    s = np.isin(kept, labeled).astype(np.int64)
    return _safe_indexing(X, kept), s, positive[kept].astype(np.int64)


def _positives(y, pos_label):
    """Return the boolean positives of `y`, of which there must be some, and some negatives."""
    y = check_array(y, ensure_2d=False, dtype=None, input_name="y")
    if y.ndim != 1:
        raise ValueError(f"y must be of shape (n_samples,), got {y.shape}.")
    if pos_label is None:
        classes = np.unique(y)
        if classes.shape[0] != 2:
            raise ValueError(
                f"y has {classes.shape[0]} values; give pos_label to say which one is positive, "
                "and see that there are others."
            )
        pos_label = positive_label(classes, None)[1]
    positive = y == pos_label
    if positive.all() or not positive.any():
        raise ValueError(
            f"y must hold positives, {pos_label!r}, and negatives; it holds only one of them."
        )
    return positive


def _easiness(X, positive):
    """Return the positives' standardised log odds in a logistic regression on the true labels."""
    model = make_pipeline(StandardScaler(with_mean=False), LogisticRegression(max_iter=1000))
    model.fit(X, positive)
    score = model.decision_function(X)[positive]
    spread = score.std()
    return (score - score.mean()) / spread if spread > 0 else np.zeros_like(score)
