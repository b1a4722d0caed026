"""From data and parameters to a solution: the model, its anchor, the problem, the solver."""

import numpy as np
from threadpoolctl import threadpool_limits

from pnsklearn._auprc._selection import ALPHA_GRID, C_GRID, logistic_path, select
from pnsklearn._auprc._solver import (
    LinearModel,
    Solution,
    make_problem,
    margin_in_units,
    solve_exact,
    solve_soap,
    weight_of_equal_rows,
    weighted_std,
)
from pnsklearn._device import get_kernels

EVERY_ROW = slice(None)
# Below this many entries of X, BLAS threads cost the small fits of a cross-validation more than
# they bring, and very much more on a busy machine.
SERIAL_SIZE = 10_000_000
# Below this many positives only strong anchors are tried.
FEW_POSITIVES = 10


class Training:
    """One data set under one set of the estimator's parameters.

    Parameters
    ----------
    X : {ndarray, CSR matrix} of shape (n_samples, n_features)
    positive : bool ndarray of shape (n_samples,)
    weight : ndarray of shape (n_samples,), positive
    params : dict
        The parameters of `AUPRCClassifier`.
    rng : RandomState
    """

    def __init__(self, X, positive, weight, params, rng):
        self.X = X
        self.positive = positive
        self.weight = weight
        self.params = params
        self.rng = rng
        # SOAP's batches for a linear model are too small for a GPU to be of use.
        on_cpu = params["module"] is None and params["solver"].startswith("soap-")
        self.device = "cpu" if on_cpu else params["device"]
        self.kernels = get_kernels("auprc", self.device)

    def model(self, rows=EVERY_ROW):
        """Return the model on some rows."""
        X = self.X[rows]
        if self.params["module"] is None:
            return LinearModel(self.kernels, self.kernels.as_array(X, self.device))
        from pnsklearn._auprc._module import ModuleModel

        return ModuleModel(self.params["module"], X, self.device, self.kernels)

    def fit_anchors(self, rows=EVERY_ROW, Cs=C_GRID):
        """Return the candidate anchors: logistic regressions, or one cross-entropy fit."""
        if self.params["module"] is None:
            if self.params["anchor"] == "zero":
                return [np.zeros(self.X.shape[1])]
            return logistic_path(self.X[rows], self.positive[rows], self.weight[rows], Cs)
        from pnsklearn._auprc._module import fit_cross_entropy

        model = self.model(rows)
        if self.params["anchor"] == "zero":
            return [model.get()]
        return [
            fit_cross_entropy(
                model, self.positive[rows], self.weight[rows], rng=self.rng, **self.epochs()
            )
        ]

    def epochs(self):
        """Return the parameters of a stochastic solver."""
        return {name: self.params[name] for name in ("batch_size", "learning_rate", "n_epochs")}

    def alphas(self):
        """Return the strengths to choose from, the safest first."""
        grid = ALPHA_GRID if self.params["anchor"] == "logistic" else ALPHA_GRID[1:]
        return grid[:2] if self.positive.sum() < FEW_POSITIVES else grid

    def choose(self, splits):
        """Return (anchor or start, alpha).

        `splits` is None when alpha is a number, and empty when the data cannot be split.
        """
        if not splits:
            alpha = float(self.params["alpha"]) if splits is None else self.alphas()[0]
            return self.fit_anchors(Cs=[1.0])[0], alpha
        with threadpool_limits(1 if self.X.size < SERIAL_SIZE else None, user_api="blas"):
            return self._cross_validate(splits)

    def _cross_validate(self, splits):
        best, alpha = select(
            self.positive,
            self.weight,
            splits,
            alphas=self.alphas(),
            fit_anchors=self.fit_anchors,
            solve=lambda rows, anchor, alpha, start: (
                self.solve(self.problem(anchor, alpha, rows), start).theta
            ),
            scores=lambda theta, rows: self.kernels.to_numpy(self.model(rows).scores(theta)),
        )
        # The path is warm-started, so that C is reached as it was on the splits.
        return self.fit_anchors(Cs=C_GRID[: best + 1])[-1], alpha

    def problem(self, anchor, alpha, rows=EVERY_ROW):
        """Return the objective on some rows; its margin is in units of the anchor's scores."""
        model, weight, positive = self.model(rows), self.weight[rows], self.positive[rows]
        anchored = self.params["anchor"] == "logistic"
        unit = 1.0
        if anchored:
            unit = weighted_std(self.kernels.to_numpy(model.scores(anchor)), weight)
        return make_problem(
            self.kernels,
            model,
            positive,
            weight,
            loss=self.params["loss"],
            margin=margin_in_units(self.params["loss"], self.params["margin"], unit),
            prior=self.params["prior"],
            equal_weight=weight_of_equal_rows(self.X[rows][positive], weight[positive]),
            anchor=anchor if anchored else None,
            alpha=alpha,
            device=self.device,
        )

    def solve(self, problem, start, on_iteration=None):
        """Return the Solution of a problem from `start`."""
        params = self.params
        if np.isinf(problem.alpha):
            value = problem.evaluate(problem.anchor).value
            return Solution(problem.anchor, 1 - value, value, n_iter=1, converged=True)
        if params["solver"] in ("lbfgs", "trust-ncg"):
            return solve_exact(
                problem,
                start,
                solver=params["solver"],
                tol=params["tol"],
                max_iter=params["max_iter"],
                on_iteration=on_iteration,
            )
        return solve_soap(
            problem,
            start,
            use_adam=params["solver"] == "soap-adam",
            gamma=params["gamma"],
            rng=self.rng,
            on_iteration=on_iteration,
            **self.epochs(),
        )


def usable_splits(splits, kept, positive):
    """Return the splits over the kept rows that have both classes on both sides.

    Parameters
    ----------
    splits : iterable of (train, test) index arrays over all rows
    kept : bool ndarray of shape (n_rows,)
        Rows that `positive` is about.
    positive : bool ndarray of shape (n_kept,)
    """
    position = np.cumsum(kept) - 1
    mapped = [tuple(position[side[kept[side]]] for side in split) for split in splits]
    return [
        split
        for split in mapped
        if all(positive[side].any() and not positive[side].all() for side in split)
    ]
