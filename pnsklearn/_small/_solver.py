"""Learn the prototypes: local search from many starts, or relax, round and refit."""

import warnings
from dataclasses import replace
from functools import partial

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning

from pnsklearn._small._problem import EXCHANGE_TOL, Problem, Solution
from pnsklearn._small._reference import solve_reference
from pnsklearn._small._relaxation import solve_fista, solve_saddle

# The maximum is smoothed by mu log sum exp(z / mu): far first, so that starts move, then close.
SEARCH_MU = (1.0, 0.3, 0.1)
POLISH_MU = (0.03, 0.01, 0.003)
ROUNDED_MU = (0.3, 0.1, 0.03, 0.01, 0.003)
NEGLIGIBLE = 0.1  # weights below this may bring less than that
# Starts, and starts where a table is so small that they cost nothing.
N_STARTS, N_SMALL_STARTS, SMALL_TABLE = 10, 30, 10_000
# Intercept of a prototype that is free: never the largest.
IDLE = -30.0
# Beyond these the starts see a sample of the rows, and the features of the largest gradients.
MAX_ROWS = 10_000
MAX_FEATURES = 300
PRICING_ROUNDS = 5
MAX_REASSIGNMENTS = 8
# Relaxation of a start of the search: more precision does not change the start.
START_TOL, START_ITER = 5e-3, 300

RELAXED_SOLVERS = {
    "saddle": solve_saddle,
    "fista": solve_fista,
    "reference": solve_reference,
}


class Watch:
    """A callback that remembers whether it has asked to stop."""

    def __init__(self, callback):
        self.callback = callback
        self.stopped = False

    def __call__(self, state):
        self.stopped = bool(self.callback(state)) or self.stopped
        return self.stopped


def scattered(XT, n_groups, rng):
    """Split the rows as if by chance, but equal rows alike, so that a weight is a repetition."""
    along = XT.T @ rng.standard_normal(XT.shape[0])
    return (np.modf(1000 * np.abs(along))[0] * n_groups).astype(np.int64)


def sliced(XT, sign, weight, n_groups, rng):
    """Split the rows along a random direction, into groups of equal weight of the positives."""
    along = XT.T @ rng.standard_normal(XT.shape[0])
    # Not quite at the n-ths, where the rounding of the weights would decide.
    positive, cuts = sign > 0, 0.997 * np.arange(1, n_groups) / n_groups
    levels = np.quantile(along[positive], cuts, method="inverted_cdf", weights=weight[positive])
    return np.searchsorted(levels, along)


def clustered(XT, sign, weight, n_groups, rng):
    """Split the positives by k-means, from the groups along a random direction."""
    from sklearn.cluster import KMeans  # costly to import

    assignment = sliced(XT, sign, weight, n_groups, rng)
    positives = np.flatnonzero(sign > 0)
    X, groups, weight = XT.T[positives], assignment[positives], weight[positives]
    shares = weight * (groups == np.unique(groups)[:, np.newaxis])
    centers = (shares / shares.sum(axis=1, keepdims=True)) @ X
    means = KMeans(len(centers), init=centers.astype(X.dtype), n_init=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than groups
        assignment[positives] = means.fit(X, sample_weight=weight).labels_
    return assignment


def search(problem, *, start=None, relaxed=None, n_init, rng, n_jobs, max_iter, callback):
    """Minimise F by exchanges of features from several starts.

    Parameters
    ----------
    problem : Problem
    start : tuple (coef, intercept) or None
        A further start.
    relaxed : callable or None
        Called with a `Table`, returns the relaxation's start (coef, intercept).
    n_init : int or "auto"
        Number of random starts; one prototype needs only one.
    rng : RandomState
    n_jobs : int or None
        Threads over the starts.
    max_iter : int
        Most sweeps of one start at one smoothing.
    callback : Watch
        Called with a `Solution` after each start; returning True stops.

    Returns
    -------
    Solution
    """
    features = _working_set(problem, start)
    rows = _sample(problem, rng)
    table = problem.table(features, rows)
    n_groups = problem.n_prototypes

    def random_start(number, seed):
        rng, XT = np.random.RandomState(seed), table.XT
        if number % 2 == 0:
            return table.grown(scattered(XT, n_groups, rng), SEARCH_MU[0])
        groups = sliced(XT, table.sign, table.weight, n_groups, rng)
        return table.grown(groups, SEARCH_MU[0])

    if n_init == "auto":
        n_init = N_SMALL_STARTS if table.XT.size <= SMALL_TABLE else N_STARTS
    seeds = rng.randint(2**31 - 1, size=int(n_init) if n_groups > 1 else 1)
    starts = [partial(random_start, *numbered) for numbered in enumerate(seeds)]
    if relaxed is not None:
        starts.append(partial(relaxed, table))
    if start is not None:
        starts.append(lambda: (start[0][:, features], start[1]))

    def run(make):
        if callback.stopped:
            return None
        return table.improved(*make(), SEARCH_MU + POLISH_MU[:1], max_sweeps=max_iter)

    best = None
    n_jobs = min(effective_n_jobs(n_jobs), len(starts))
    runs = Parallel(n_jobs, require="sharedmem", return_as="generator")(
        delayed(run)(make) for make in starts
    )
    for found in runs:
        if found is None or callback.stopped:
            continue
        if best is None or found[0] < best[0] * (1 - 1e-9):
            best = found
        callback(problem.bounded(_widened(problem, features, *best)))
    return _on_everything(problem, table, features, rows, best, max_iter, callback)


def _on_everything(problem, table, features, rows, best, max_iter, callback):
    """Continue from the best start on all rows, and with all features within reach."""
    if not isinstance(rows, slice):  # after a stop too: a sample is not the data
        table = problem.table(features)
        best = table.improved(*best[1:3], SEARCH_MU[1:], max_sweeps=max_iter)
        callback(problem.bounded(_widened(problem, features, *best)))
    for _ in range(PRICING_ROUNDS):
        if len(features) == problem.data.n_features or callback.stopped:
            break
        solution = _widened(problem, features, *best)
        used = np.flatnonzero(solution.coef.any(axis=0))
        wanted = np.abs(_slopes(problem, solution)).max(axis=0)
        wanted[used] = np.inf
        new = np.sort(np.argsort(-wanted, kind="stable")[:MAX_FEATURES])
        table = problem.table(new)
        trial = table.improved(
            solution.coef[:, new], solution.intercept, SEARCH_MU[1:], max_sweeps=max_iter
        )
        if trial[0] >= best[0] * (1 - EXCHANGE_TOL):
            break
        features, best = new, trial
        callback(problem.bounded(_widened(problem, features, *best)))
    used = np.flatnonzero(best[1].any(axis=0))
    final = _pruned(problem.table(features[used]), best[1][:, used], best[2], max_iter)
    return _widened(problem, features[used], *final[:3], best[3] + final[3])


def _pruned(table, coef, intercept, max_iter):
    """Return (F, coef, intercept, sweeps) after the last refits, without terms that bring nothing.

    A term must bring what an exchange must; one that a sample of the rows suggested may not.
    """
    busy = np.unique((coef @ table.XT + intercept[:, np.newaxis]).argmax(axis=0))
    best = table.improved(coef[busy], intercept[busy], POLISH_MU, max_sweeps=max_iter, n_tried=0)
    if table.problem.n_nonzero >= table.problem.data.n_features:
        return best  # nothing was to be selected
    for term in np.argsort(np.abs(best[1]), axis=None, kind="stable"):
        size = np.abs(best[1].flat[term])
        if size >= NEGLIGIBLE:
            break
        trial = best[1].copy()
        trial.flat[term] = 0.0
        if size > 0:
            without = table.improved(trial, best[2], POLISH_MU[-1:], max_sweeps=max_iter, n_tried=0)
            if without[0] <= best[0] * (1 + EXCHANGE_TOL):
                best = *without[:3], best[3] + without[3]
    return best


def _widened(problem, features, objective, coef, intercept, n_iter):
    """Return the Solution over all features of a solution over some."""
    wide = np.zeros((coef.shape[0], problem.data.n_features))
    wide[:, features] = coef
    return Solution(wide, intercept, objective, n_iter)


def _slopes(problem, solution):
    """Return the gradient of F in all weights: what each feature would bring, to first order."""
    Z = problem.margins(solution.coef, solution.intercept)
    wrong = expit(-problem.sign * Z.max(axis=0))
    R = np.where(Z == Z.max(axis=0), -problem.weight * problem.sign * wrong, 0.0)
    return problem.data.pull_back(R.T) + problem.lam * solution.coef


def _working_set(problem, start=None):
    """Return the features to start with: all, or those of the largest gradient at no features.

    Those of a given start are among them.
    """
    n_features = problem.data.n_features
    if n_features <= MAX_FEATURES:
        return np.arange(n_features)
    share = problem.weight @ (problem.sign > 0) if problem.fit_intercept else 0.5
    residual = problem.weight * (share - (problem.sign > 0))
    slopes = np.abs(problem.data.pull_back(residual[:, np.newaxis])[0])
    if start is not None:
        slopes[start[0].any(axis=0)] = np.inf
    return np.sort(np.argsort(-slopes, kind="stable")[:MAX_FEATURES])


def _sample(problem, rng):
    """Return the rows of the starts: all, or some with a fair share of each class."""
    n_rows = problem.sign.shape[0]
    if n_rows <= MAX_ROWS:
        return slice(None)
    rows = []
    for side in (problem.sign > 0, problem.sign < 0):
        members = np.flatnonzero(side)
        size = max(round(MAX_ROWS * len(members) / n_rows), min(len(members), MAX_ROWS // 10))
        rows.append(rng.permutation(members)[:size])
    return np.sort(np.concatenate(rows))


def relax_and_round(problem, relaxation, solve, *, max_iter, tol, callback):
    """Minimise F as the paper does: relax, reassign until nothing changes, round, refit.

    Parameters
    ----------
    problem : Problem
    relaxation : Relaxation
        Of the problem, with the first prototype of each positive.
    solve : callable
        `solve_saddle`, `solve_fista` or `solve_reference`.
    max_iter, tol : int, float
        Most iterations, and relative duality gap, of each relaxed problem.
    callback : Watch
        Called with each state of the relaxed solver; returning True stops.

    Returns
    -------
    Solution
    """

    def on_iteration(state):
        coef = rounded(state.W, state.eps, problem.n_nonzero)
        return callback(Solution(coef, state.b, state.upper, state.n_iter, max(state.lower, 0.0)))

    solved, n_iter = settle(relaxation, solve, max_iter, tol, Watch(on_iteration))
    coef = rounded(solved.W, solved.eps, problem.n_nonzero)
    used = np.flatnonzero(coef.any(axis=0))
    table = problem.table(used)
    # From the relaxed weights, and from next to nothing: far out, a step may find no way back.
    refits = [
        table.improved(start, intercept, ROUNDED_MU, max_sweeps=max_iter, n_tried=0)
        for start, intercept in (
            (coef[:, used], solved.b),
            (1e-9 * np.sign(coef[:, used]), relaxation.origin(None)[1]),
        )
    ]
    objective, refitted, intercept, _ = min(refits, key=lambda refit: refit[0])
    solution = _widened(problem, used, objective, refitted, intercept, n_iter)
    return replace(solution, converged=solved.converged or callback.stopped)


def settle(relaxation, solve, max_iter, tol, callback):
    """Solve and reassign each positive to its largest prototype until none moves.

    Returns the last RelaxedSolution and the number of all iterations.
    """
    n_iter, solved = 0, None
    for _ in range(MAX_REASSIGNMENTS):
        solved = solve(relaxation, start=solved, max_iter=max_iter, tol=tol, callback=callback)
        n_iter += solved.n_iter
        if callback.stopped or not solved.converged:
            break
        margins = relaxation.kernels.to_numpy(relaxation.margins(solved.W, solved.b))
        assignment = margins.argmax(axis=0)
        if not ((assignment != relaxation.assignment) & (relaxation.sign > 0)).any():
            break
        relaxation = replace(relaxation, assignment=assignment)
    return solved, n_iter


def rounded(W, eps, n_nonzero):
    """Keep each row's largest `n_nonzero` eps; ties by the larger weight, then the lower index."""
    coef = np.zeros_like(W)
    for row, weights, shares in zip(coef, W, eps, strict=True):
        kept = np.lexsort((-np.abs(weights), -shares))[:n_nonzero]
        row[kept] = weights[kept]
    return coef


def first_assignment(XT, sign, weight, n_groups, init, rng):
    """Split the positives into as many groups as there are prototypes."""
    if init == "random":
        return scattered(XT, n_groups, rng)
    return clustered(XT, sign, weight, n_groups, rng)


def solve(data, positive, weight, params, kernels, *, unions, start, rng, callback):
    """Minimise F with one class as the union, or each in turn, and keep the lower one.

    Parameters
    ----------
    data : Data
    positive : ndarray of shape (n_rows,)
        Whether a row is of ``classes_[1]``.
    weight : ndarray of shape (n_rows,)
        Positive weights.
    params : dict
        The estimator's settings.
    kernels : module
        `_kernels` or `_torch`, for the relaxed problems.
    unions : iterable of int
        Indices of the classes to try as the union; the first wins ties.
    start : tuple (union, coef, intercept) or None
        A further start of the search, or the first assignment of the relaxation.
    rng : RandomState
    callback : callable
        Called with a `Problem` and a `Solution` now and then; returning True stops.

    Returns
    -------
    problem : Problem
    solution : Solution
    """
    best = None
    for union in unions:
        problem = Problem(
            union,
            data,
            np.where(positive, 1.0, -1.0) * (1 if union else -1),
            weight / weight.sum(),
            params["n_prototypes"],
            min(params["n_nonzero"], data.n_features),
            1 / (params["C"] * weight.sum()),
            params["fit_intercept"],
        )
        watch = Watch(partial(callback, problem))
        own_start = None if start is None or start[0] != union else start[1:]
        solution = solve_problem(problem, params, kernels, own_start, rng, watch)
        # F and its bound are those of the rules that are left.
        coef, intercept = problem.without_idle(solution.coef, solution.intercept)
        problem = replace(problem, n_prototypes=len(coef))
        solution = problem.bounded(replace(solution, coef=coef, intercept=intercept))
        if best is None or solution.objective < best[1].objective:
            best = problem, solution
        if watch.stopped:
            break
    return best


def solve_problem(problem, params, kernels, start, rng, callback):
    """Minimise F with the solver that `params` names; see `solve`, `callback` is a `Watch`."""
    max_iter, device, solver = params["max_iter"], params["device"], params["solver"]
    if problem.data.n_features == 0:
        solver = "swap"  # thresholds of constant features: there is nothing to relax
    if solver in ("auto", "swap"):

        def relaxed(table):
            rows, one_group = (table.XT, table.sign, table.weight), np.zeros(table.sign.shape, int)
            relaxation = problem.relaxation(*rows, one_group, kernels, device)
            unwatched = Watch(lambda state: callback.stopped)
            solved, _ = settle(relaxation, solve_fista, START_ITER, START_TOL, unwatched)
            return rounded(solved.W, solved.eps, problem.n_nonzero), solved.b

        return search(
            problem,
            start=start,
            # With more prototypes its start is not better than others, and costs more.
            relaxed=relaxed if solver == "auto" and problem.n_prototypes == 1 else None,
            n_init=params["n_init"],
            rng=rng,
            n_jobs=params["n_jobs"],
            max_iter=max_iter,
            callback=callback,
        )

    rows, n_groups = (problem.scaled(), problem.sign, problem.weight), problem.n_prototypes
    best = None
    for _ in range(1 if params["n_init"] == "auto" or start is not None else params["n_init"]):
        if start is None:
            assignment = first_assignment(*rows, n_groups, params["init"], rng)
        else:
            assignment = problem.margins(*start).argmax(axis=0)
        relaxation = problem.relaxation(*rows, assignment, kernels, device)
        solution = relax_and_round(
            problem, relaxation, RELAXED_SOLVERS[solver], max_iter=max_iter, tol=params["tol"],
            callback=callback,
        )  # fmt: skip
        if best is None or solution.objective < best.objective:
            best = solution
        if callback.stopped:
            break
    return best


def certified(problem, solution, params, kernels):
    """Return the solution with the lower bound of the relaxation at its assignment."""
    assignment = problem.margins(solution.coef, solution.intercept).argmax(axis=0)
    relaxation = problem.relaxation(
        problem.scaled(), problem.sign, problem.weight, assignment, kernels, params["device"]
    )
    solved = solve_fista(relaxation, max_iter=params["max_iter"], tol=params["tol"])
    return replace(solution, lower_bound=max(solved.lower, 0.0), converged=solved.converged)
