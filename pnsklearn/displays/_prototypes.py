"""The rules of a SMaLLClassifier: their coefficients, or where they fire in a plane."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.utils._optional_dependencies import check_matplotlib_support

from pnsklearn._small._estimator import SMaLLClassifier
from pnsklearn._small._rules import read_columns
from pnsklearn._typing import Array

GRID_SIZE = 300  # points along each side of the decision map
LINE_STYLES: tuple[Any, ...] = (
    "solid",
    "dashed",
    "dashdot",
    "dotted",
)


class PrototypeDisplay:
    """The rules of a `SMaLLClassifier`, as a table of coefficients or as a decision map.

    Best made with `from_estimator`.

    Parameters
    ----------
    coef : ndarray of shape (n_rules, n_terms)
        Coefficients of the terms that any rule reads, in the original units.
    intercept : ndarray of shape (n_rules,)
        Intercepts.
    term_names : list of str of length n_terms
        Names of the terms.
    union : label
        The class of the rows on which any rule fires.
    title : str, default=""
        Title.
    effect : ndarray of shape (n_rules, n_terms) or None, default=None
        Coefficients in comparable units, for the colours; only the signs are shown by default.
    coverage, precision : ndarray of shape (n_rules,) or None, default=None
        Share of the training rows on which each rule fires, and share of the union among these.
    grid : tuple (x, y, scores) or None, default=None
        Values along both axes and the scores of the rules, of shape (n_y, n_x, n_rules). Where
        given, the decision map is drawn and not the table.
    axis_names : tuple of str, default=("", "")
        Names of the two features of the grid.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes with the picture.
    figure_ : matplotlib Figure
        The figure of the axes.
    image_ : matplotlib AxesImage
        The colours.
    texts_ : list of matplotlib Text
        The numbers in the table, row by row; empty for the decision map.
    lines_ : list of matplotlib QuadContourSet
        The boundaries of the rules that have one within the decision map; empty for the table.

    See Also
    --------
    pnsklearn.SMaLLClassifier.rules : The same as text.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from pnsklearn import SMaLLClassifier
    >>> from pnsklearn.displays import PrototypeDisplay
    >>> data = load_breast_cancer()
    >>> model = SMaLLClassifier(n_prototypes=2, n_nonzero=1, random_state=0)
    >>> _ = model.fit(data.data, data.target)
    >>> names = data.feature_names
    >>> display = PrototypeDisplay.from_estimator(model, data.data, feature_names=names)
    >>> [label.get_text() for label in display.ax_.get_xticklabels()]
    ['worst radius', 'worst concave points', 'intercept']
    """

    def __init__(
        self,
        coef: Array,
        intercept: Array,
        *,
        term_names: Sequence[str],
        union: Any,
        title: str = "",
        effect: Array | None = None,
        coverage: Array | None = None,
        precision: Array | None = None,
        grid: tuple[Array, Array, Array] | None = None,
        axis_names: tuple[str, str] = ("", ""),
    ):
        self.coef = coef
        self.intercept = intercept
        self.term_names = term_names
        self.union = union
        self.title = title
        self.effect = effect
        self.coverage = coverage
        self.precision = precision
        self.grid = grid
        self.axis_names = axis_names

    @classmethod
    def from_estimator(
        cls,
        estimator: SMaLLClassifier,
        X: Any = None,
        *,
        feature_names: Sequence[str] | None = None,
        features: Sequence[str | int] | None = None,
        colorbar: bool = True,
        ax: Any = None,
        **kwargs: Any,
    ) -> "PrototypeDisplay":
        """Plot a fitted classifier.

        Parameters
        ----------
        estimator : SMaLLClassifier
            A fitted classifier.
        X : {array-like, sparse matrix} of shape (n_samples, n_features), default=None
            Samples. Their standard deviations make the coefficients comparable: a colour is then
            the change of the rule's score by one of them. Without X it is the sign only.
        feature_names : list of str of length n_features, default=None
            Names; by default those seen in `fit`, else "x0", "x1", ...
        features : tuple of two names or indices, default=None
            Draws where the rules fire in the plane of these two features, over their range in X
            and with all others held at their medians in X. By default the table is drawn.
        colorbar : bool, default=True
            Whether to add a colour bar.
        ax : matplotlib Axes, default=None
            Where to plot; a new figure by default.
        **kwargs : dict
            Passed to `ax.imshow`.

        Returns
        -------
        display : PrototypeDisplay
            The display.

        Raises
        ------
        TypeError
            If `estimator` is no SMaLLClassifier.
        ValueError
            If names do not fit, or `features` comes without X or is no pair of features.
        """
        if not isinstance(estimator, SMaLLClassifier):
            raise TypeError(
                f"estimator must be a SMaLLClassifier, got a {type(estimator).__name__}. Of a "
                "pipeline or a search, pass the classifier inside, and X as that one sees it."
            )
        names = estimator._term_names(estimator._names(feature_names))
        pair = None if features is None else _feature_pair(features, names)
        if pair is not None and X is None:
            raise ValueError("features needs X, whose rows show the range of each feature.")
        if X is not None:
            X = estimator._check_X(X)

        rules = estimator._rules().used_terms()
        term_names = [names[i] for i in rules.feature]
        if rules.threshold is not None:
            term_names = [
                f"{name} > {t:.4g}" for name, t in zip(term_names, rules.threshold, strict=True)
            ]
        title = f"{estimator.positive_class_} if any rule's score is positive"
        if pair is not None and not np.isin(rules.feature, pair).all():
            title += "\n(other features at their medians)"
        return cls(
            rules.coef,
            rules.intercept,
            term_names=term_names,
            union=estimator.positive_class_,
            title=title,
            effect=None if X is None else rules.coef * rules.values(X).std(axis=1),
            coverage=estimator.coverage_,
            precision=estimator.precision_,
            grid=None if pair is None else _grid(rules, X, *pair),
            axis_names=("", "") if pair is None else (names[pair[0]], names[pair[1]]),
        ).plot(ax, colorbar=colorbar, **kwargs)

    def plot(self, ax: Any = None, *, colorbar: bool = True, **kwargs: Any) -> "PrototypeDisplay":
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot; a new figure by default.
        colorbar : bool, default=True
            Whether to add a colour bar.
        **kwargs : dict
            Passed to `ax.imshow`.

        Returns
        -------
        display : PrototypeDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            n_rules, n_terms = self.coef.shape
            size = (3.5 + 1.1 * (n_terms + 1), 1.8 + 0.8 * n_rules)
            _, ax = plt.subplots(figsize=size if self.grid is None else None, layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        self.texts_: list = []
        self.lines_: list = []
        if self.grid is None:
            self._plot_table(colorbar, kwargs)
        else:
            self._plot_map(*self.grid, colorbar, kwargs)
        ax.set_title(self.title, parse_math=False)
        return self

    def _plot_table(self, colorbar, kwargs):
        """Draw the coefficients, and their intercept in a last column without a colour."""
        ax, numbers = self.ax_, np.column_stack([self.coef, self.intercept])
        colors = np.sign(self.coef) / 2 if self.effect is None else self.effect
        limit = 1.0 if self.effect is None else np.abs(self.effect).max(initial=0.0) or 1.0
        colors = np.where(self.coef == 0, np.nan, colors)
        colors = np.column_stack([colors, np.full(len(colors), np.nan)])
        style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "aspect": "auto"} | kwargs
        self.image_ = ax.imshow(colors, **style)
        for (j, t), number in np.ndenumerate(numbers):
            if number != 0 or t == len(self.term_names):
                strong = abs(np.nan_to_num(colors[j, t])) > 0.6 * limit
                text = f"{number:.4g}"
                color = "white" if strong else "black"
                self.texts_.append(ax.text(t, j, text, ha="center", va="center", color=color))
        labels = [f"Rule {j + 1}{self._firing(j)}" for j in range(len(numbers))]
        ax.set_yticks(range(len(numbers)), labels)
        ticks, names = range(numbers.shape[1]), [*self.term_names, "intercept"]
        style = {"rotation": 30, "ha": "right", "rotation_mode": "anchor", "parse_math": False}
        ax.set_xticks(ticks, names, **style)
        if colorbar and self.effect is not None:
            label = "change of the score\nby one standard deviation"
            self.figure_.colorbar(self.image_, ax=ax, label=label)

    def _firing(self, j):
        """Return how often rule j fires and is right, as lines of its label."""
        if self.coverage is None:
            return ""
        fires = f"\nfires on {100 * self.coverage[j]:.3g} %"
        if self.precision is None or self.coverage[j] == 0:
            return fires
        return f"{fires},\nright on {100 * self.precision[j]:.3g} %"

    def _plot_map(self, x, y, scores, colorbar, kwargs):
        """Draw the probability of the union, and the line where each rule's score is zero."""
        from matplotlib.lines import Line2D

        ax = self.ax_
        style = {"cmap": "RdBu_r", "vmin": 0, "vmax": 1, "alpha": 0.6, "aspect": "auto"} | kwargs
        self.image_ = ax.imshow(
            expit(scores.max(axis=2)), origin="lower", extent=(x[0], x[-1], y[0], y[-1]), **style
        )
        handles = []
        for j in range(scores.shape[2]):
            dash, label, z = LINE_STYLES[j % len(LINE_STYLES)], f"rule {j + 1}", scores[:, :, j]
            if z.min() < 0 < z.max():
                line = ax.contour(x, y, z, levels=[0], colors="black", linestyles=dash)
                self.lines_.append(line)
            else:
                label += " fires throughout" if z.min() >= 0 else " does not fire here"
            handles.append(Line2D([], [], color="black", linestyle=dash, label=label))
        ax.legend(handles=handles)
        for side, name in zip("xy", self.axis_names, strict=True):
            ax.set(**{f"{side}label": name})
            getattr(ax, f"{side}axis").label.set_parse_math(False)
        if colorbar:
            bar = self.figure_.colorbar(self.image_, ax=ax)
            bar.set_label(f"probability of {self.union}", parse_math=False)


def _feature_pair(features, names):
    """Return the indices of two features given by name or index."""
    if np.shape(features) != (2,):
        raise ValueError(f"features must be two names or indices; got {features!r}.")
    pair = []
    for feature in features:
        known = names if isinstance(feature, str) else range(len(names))
        if feature not in known:
            raise ValueError(f"features has {feature!r}, which is not a feature of the estimator.")
        pair.append(known.index(feature))
    if pair[0] == pair[1]:
        raise ValueError(f"features must be two different features; got {features!r}.")
    return pair


def _grid(rules, X, first, second):
    """Return (x, y, scores) in the plane of two features, the others at their medians."""
    columns = np.union1d(rules.feature, [first, second])
    values = read_columns(X, columns)
    rows = np.tile(np.median(values, axis=1), (GRID_SIZE**2, 1))
    sides = []
    for column in np.searchsorted(columns, [first, second]):
        low, high = values[column].min(), values[column].max()
        margin = 0.05 * (high - low) or 0.5
        sides.append((column, np.linspace(low - margin, high + margin, GRID_SIZE)))
    (column_x, x), (column_y, y) = sides
    rows[:, column_x] = np.tile(x, GRID_SIZE)
    rows[:, column_y] = np.repeat(y, GRID_SIZE)
    rules = replace(rules, feature=np.searchsorted(columns, rules.feature))
    return x, y, rules.scores(rows).reshape(GRID_SIZE, GRID_SIZE, -1)
