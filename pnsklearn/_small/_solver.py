"""Learn the prototypes: local search from many starts, or relax, round and refit."""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.exceptions import ConvergenceWarning

from pnsklearn._small._elimination import eliminated
from pnsklearn._small._objective import Objective
from pnsklearn._small._reference import solve_reference
from pnsklearn._small._relaxation import lower_bound_at, relax, solve_fista, solve_saddle
from pnsklearn._small._search import Limits, Smoothed, improve
from pnsklearn._typing import Array

# The maximum is smoothed by mu log sum exp(z / mu): far first, so that starts move, then close.
SEARCH_MU = (1.0, 0.3, 0.1)
POLISH_MU = (0.03, 0.01, 0.003)
# The smoothings of the starts' descents, and the share of them that goes on after each.
KEPT = {1.0: 0.7, 0.3: 0.4, 0.1: 0.2, 0.03: 0.1}
# Descents from the best without a part of it that may fail in a row.
N_KICKS, N_KICKS_FEW_ENTRIES, KICK_MU = 5, 10, (0.3, 0.03)
N_TRIED = 4  # features tried in the place of one
EXCHANGE_TOL = 1e-4  # least relative gain of an exchange
REFIT_TOL = 1e-9  # least relative gain of a sweep without exchanges
# Ridge of the intercepts where there are none: infinite, but for the arithmetic.
NO_INTERCEPT_RIDGE = 1e30
LARGEST_PRUNED = 0.1  # larger weights bring more than an exchange must
# Starts, and starts on data of so few entries that they cost nothing.
N_STARTS, N_STARTS_FEW_ENTRIES, FEW_ENTRIES = 10, 30, 10_000
IDLE_INTERCEPT = -30.0  # of a prototype that is never the largest
# Beyond these the starts see a sample of the rows, and the features of the largest gradients.
MAX_SAMPLED_ROWS = 10_000
MAX_SEARCHED_FEATURES = 300
MAX_PRICING_ROUNDS = 5
MAX_REASSIGNMENTS = 8

RELAXED_SOLVERS = {"saddle": solve_saddle, "fista": solve_fista, "reference": solve_reference}


@dataclass(frozen=True)
class Solution:
    """Prototypes in standardised units; `lower_bound` holds for their assignment of the rows.

    `gain` says, of the second of two classes, how much lower than the first's its loss is, and the
    standard error. `multiplier` times the weights of terms that are on or off are integers, or it
    is None.
    """

    coef: Array
    intercept: Array
    objective: float
    n_iter: int
    lower_bound: float = 0.0
    converged: bool = True
    gain: tuple[float, float] | None = None
    multiplier: float | None = None

    @property
    def gap(self) -> float:
        """The distance of the lower bound, relative to the objective."""
        return (self.objective - self.lower_bound) / self.objective


class StoppingCallback:
    """A callback that remembers whether it has asked to stop."""

    def __init__(self, callback: Callable):
        self.callback = callback
        self.stopped = False

    def __call__(self, state: object) -> bool:
        self.stopped = bool(self.callback(state)) or self.stopped
        return self.stopped


def solve(
    objectives: Iterable[Objective], *, solver: str, n_init: int | str, max_iter: int, tol: float,
    start: tuple[int, Array, Array] | None, rng: np.random.RandomState, n_jobs: int | None,
    device: str, callback: Callable, n_rows: float | None = None,
) -> tuple[Objective, Solution]:  # fmt: skip
    """Minimise each objective in turn; return the first, or another that is surely better.

    Parameters
    ----------
    objectives : iterable of Objective
        One for each class to try as the union. The second one's loss has to be lower by more than
        one standard error.
    solver : str
        A key of `RELAXED_SOLVERS`, "auto" or "swap".
    n_init : int or "auto"
        Number of starts.
    max_iter : int
        Most sweeps of a start at one smoothing, or iterations of a relaxed problem.
    tol : float
        Relative duality gap of a relaxed problem.
    start : tuple (union, coef, intercept) or None
        A further start of the search, or the first assignment of the relaxation.
    rng : RandomState
    n_jobs : int or None
        Threads over the starts of the search.
    device : str
        Where relaxed problems are solved.
    callback : callable
        Called with an `Objective` and a `Solution` now and then; returning True stops.
    n_rows : float, default=None
        What the weights were, summed up: for how many rows they stand. None is one for each.

    Returns
    -------
    objective : Objective
    solution : Solution
    """
    found = []
    for objective in objectives:
        on_iteration = StoppingCallback(partial(callback, objective))
        first = None if start is None or start[0] != objective.union else start[1:]
        # Steps of constant features are none: there is nothing to relax.
        if solver in ("auto", "swap") or objective.data.n_features == 0:
            eliminates = solver == "auto" and objective.n_prototypes == 1
            solution = search(
                objective, first, eliminates, n_init=n_init, max_iter=max_iter, rng=rng,
                n_jobs=n_jobs, callback=on_iteration,
            )  # fmt: skip
        else:
            solution = relax_and_round(
                objective, first, RELAXED_SOLVERS[solver], n_init=n_init, max_iter=max_iter,
                tol=tol, rng=rng, device=device, callback=on_iteration,
            )  # fmt: skip
        # F and its bound are those of the rules that are left.
        coef, intercept = objective.without_idle(solution.coef, solution.intercept)
        objective = replace(objective, n_prototypes=len(coef))
        solution = bounded(objective, replace(solution, coef=coef, intercept=intercept))
        found.append((objective, solution))
        if on_iteration.stopped:
            break
    return _surely_best(found, n_rows or len(objective.weight))


def _surely_best(found, n_rows):
    """Return the first pair, or the second where its loss is lower by one standard error."""
    first, *others = found
    for objective, solution in others:
        losses = [o.losses(s.coef, s.intercept) for o, s in (first, (objective, solution))]
        gains, weight = losses[0] - losses[1], objective.weight
        gain = weight @ gains
        error = np.sqrt(weight @ (gains - gain) ** 2 / n_rows)
        if gain > error:
            return objective, replace(solution, gain=(float(gain), float(error)))
    return first


def certified(
    objective: Objective, solution: Solution, *, max_iter: int, tol: float, device: str
) -> Solution:
    """Return the solution with the lower bound of the relaxation at its assignment."""
    assignment = objective.margins(solution.coef, solution.intercept).argmax(axis=0)
    relaxation = relax(objective, objective.data.transposed(), assignment, device)
    solved = solve_fista(relaxation, max_iter=max_iter, tol=tol)
    return replace(solution, lower_bound=max(solved.lower, 0.0), converged=solved.converged)


def bounded(objective: Objective, solution: Solution) -> Solution:
    """Return the solution with F, and the lower bound that its own dual answer gives."""
    Z = objective.margins(solution.coef, solution.intercept)
    value = objective.value(solution.coef, Z)
    return replace(solution, objective=value, lower_bound=lower_bound_at(objective, Z))


# The search


def search(
    objective: Objective, start: tuple[Array, Array] | None, eliminates: bool, *,
    n_init: int | str, max_iter: int, rng: np.random.RandomState, n_jobs: int | None,
    callback: StoppingCallback,
) -> Solution:  # fmt: skip
    """Minimise F by exchanges of features from several starts; arguments as in `solve`.

    `eliminates` says whether the features left of all are a start too. One prototype needs only
    one random start. The starts' descents are told apart as mu falls, and only the best go on. The
    callback is called after each part of one.
    """
    features = _searched_features(objective, start)
    rows = sampled_rows(objective.sign > 0, rng)
    block = objective.block(features, rows)
    if n_init == "auto":
        n_init = N_STARTS_FEW_ENTRIES if block.data.XT.size <= FEW_ENTRIES else N_STARTS
    seeds = rng.randint(2**31 - 1, size=int(n_init) if objective.n_prototypes > 1 else 1)
    starts: list[Callable] = [partial(_random_start, block, *pair) for pair in enumerate(seeds)]
    if eliminates and len(features):
        starts.append(partial(eliminated, block))
    if start is not None:
        starts.append(lambda: (start[0][:, features], start[1]))

    best, n_jobs = None, min(effective_n_jobs(n_jobs), len(starts))
    for mu, kept in KEPT.items() if objective.n_prototypes > 1 else [(SEARCH_MU[0], 1.0)]:

        def run(make, mu=mu):
            return None if callback.stopped else _follow(block, make(), mu, max_iter)

        tracks = []
        runs = Parallel(n_jobs, require="sharedmem", return_as="generator")(
            delayed(run)(make) for make in starts
        )
        for track in runs:
            if track is None or (callback.stopped and best is not None):
                continue
            tracks.append(track)
            if best is None or track.best.objective < best.objective * (1 - 1e-9):
                best = track.best
            callback(bounded(objective, _widened(objective, features, best)))
        n_kept = len(tracks) if block.data.XT.size <= FEW_ENTRIES else kept * len(seeds)
        starts = [partial(_same, track) for track in _leaders(tracks, n_kept)]
    if not callback.stopped:
        best = _kicked(block, best, rng, max_iter)
        callback(bounded(objective, _widened(objective, features, best)))
    return _on_everything(objective, block, features, rows, best, max_iter, callback)


def _kicked(block, best, rng, max_iter):
    """Return the best of descents from the best so far, without a rule or half of its features.

    They end after some in a row that found nothing better.
    """
    n_kicks = N_KICKS_FEW_ENTRIES if block.data.XT.size <= FEW_ENTRIES else N_KICKS
    rng, failures = np.random.RandomState(rng.randint(2**31 - 1)), 0
    while failures < n_kicks and np.count_nonzero(best.coef) > 1:
        coef, intercept = best.coef.copy(), best.intercept.copy()
        if 1 < len(coef) and failures < len(coef):
            coef[failures] = 0.0
        else:
            used = np.flatnonzero(coef)
            coef.flat[rng.permutation(used)[: (len(used) + 1) // 2]] = 0.0
        found = descend(block, (coef, intercept), KICK_MU, max_iter)
        failures += 1
        if found.objective < best.objective * (1 - EXCHANGE_TOL):
            best, failures = replace(found, n_iter=best.n_iter + found.n_iter), 0
    return best


class Track(NamedTuple):
    """Where a descent is, and the best that it has met."""

    last: Solution
    best: Solution


def _same(track):
    return track


def _leaders(tracks, n_kept):
    """Return the tracks of the lowest objectives, one of each choice of features."""
    leaders: dict = {}
    for track in sorted(tracks, key=lambda track: track.best.objective):
        chosen = sorted(tuple(np.flatnonzero(row)) for row in track.last.coef)
        leaders.setdefault(tuple(chosen), track)
    return list(leaders.values())[: math.ceil(n_kept)]


def _state(block, coef, intercept, n_iter=0):
    value = block.value(coef, block.margins(coef, intercept))
    return Solution(coef, intercept, value, n_iter)


def _follow(block, track, mu, max_sweeps, n_tried=N_TRIED):
    """Return the track, or one from given prototypes, after sweeps with the smoothing mu."""
    if not isinstance(track, Track):
        start = _state(block, *track)
        track = Track(start, start)
    last, best = track
    coef, intercept = last.coef.copy(), last.intercept.copy()
    limits = Limits(block.n_nonzero, n_tried, max_sweeps, EXCHANGE_TOL if n_tried else REFIT_TOL)
    n_sweeps = _improve(block, block.weight, coef, intercept, mu, limits)
    if not block.fit_intercept:
        intercept[:] = 0.0  # the ridge leaves some 1e-30
    last = _state(block, coef, intercept, last.n_iter + n_sweeps)
    return Track(last, min(best, last, key=lambda state: state.objective))


def descend(
    block: Objective, start: tuple[Array, Array], schedule: Sequence[float], max_sweeps: int,
    n_tried: int = N_TRIED,
) -> Solution:  # fmt: skip
    """Return the best prototypes met while mu falls along `schedule`, exchanging features.

    With ``n_tried=0`` the features stay as they are.
    """
    track: Any = start
    # Of a single prototype there is no maximum to be smoothed.
    for mu in schedule if len(start[0]) > 1 else schedule[:1]:
        track = _follow(block, track, mu, max_sweeps, n_tried)
    return replace(track.best, n_iter=track.last.n_iter)


def _improve(block, weight, coef, intercept, mu, limits):
    """Improve the prototypes in place; return the number of sweeps."""
    ridge = 0.0 if block.fit_intercept else NO_INTERCEPT_RIDGE
    smoothed = Smoothed(block.lam, ridge, mu)
    return improve(block.data.XT, block.sign, weight, coef, intercept, smoothed, limits)


def _random_start(block, number, seed):
    """Return greedy prototypes for a random split of the rows, of one kind or the other."""
    rng, XT, n_groups = np.random.RandomState(seed), block.data.XT, block.n_prototypes
    if number % 2 == 0:
        return greedy(block, groups_by_hash(XT, n_groups, rng))
    return greedy(block, groups_along_line(XT, block.sign, block.weight, n_groups, rng))


def greedy(block, assignment):
    """Return a prototype per group of positives, selected forward against all negatives."""
    n_features, n_prototypes = len(block.data.XT), block.n_prototypes
    coef, intercept = np.zeros((n_prototypes, n_features)), np.zeros(n_prototypes)
    # One sweep over empty slots is a forward selection.
    limits = Limits(block.n_nonzero, 1, 1, EXCHANGE_TOL)
    for j in range(n_prototypes):
        weight = np.where((block.sign > 0) & (assignment != j), 0.0, block.weight)
        if block.n_nonzero >= n_features:
            coef[j, block.data.XT.any(axis=1)] = 1e-9  # nothing is to be selected
        _improve(block, weight, coef[j : j + 1], intercept[j : j + 1], SEARCH_MU[0], limits)
    return coef, intercept


def _on_everything(objective, block, features, rows, best, max_iter, callback):
    """Continue from the best start on all rows, and with all features within reach."""
    if not isinstance(rows, slice):  # after a stop too: a sample is not the data
        block = objective.block(features)
        best = descend(block, (best.coef, best.intercept), SEARCH_MU[1:], max_iter)
        callback(bounded(objective, _widened(objective, features, best)))
    for _ in range(MAX_PRICING_ROUNDS):
        if len(features) == objective.data.n_features or callback.stopped:
            break
        solution = _widened(objective, features, best)
        used = np.flatnonzero(solution.coef.any(axis=0))
        wanted = np.abs(objective.coef_gradient(solution.coef, solution.intercept)).max(axis=0)
        wanted[used] = np.inf
        new = np.sort(np.argsort(-wanted, kind="stable")[:MAX_SEARCHED_FEATURES])
        start = solution.coef[:, new], solution.intercept
        trial = descend(objective.block(new), start, SEARCH_MU[1:], max_iter)
        if trial.objective >= best.objective * (1 - EXCHANGE_TOL):
            break
        features, best = new, trial
        callback(bounded(objective, _widened(objective, features, best)))
    used = np.flatnonzero(best.coef.any(axis=0))
    selects = objective.n_nonzero < objective.data.n_features
    block = objective.block(features[used])
    final = _pruned(block, best.coef[:, used], best.intercept, selects, max_iter)
    final = replace(final, n_iter=best.n_iter + final.n_iter)
    return _widened(objective, features[used], final)


def _pruned(block, coef, intercept, selects, max_iter):
    """Return the solution after the last refits, and, if it selects, without terms of no use.

    A term must bring what an exchange must; one that a sample of the rows suggested may not.
    """
    busy = np.unique(block.margins(coef, intercept).argmax(axis=0))
    refit = partial(descend, block, max_sweeps=max_iter, n_tried=0)
    best = refit((coef[busy], intercept[busy]), POLISH_MU)
    if not selects:
        return best
    for term in np.argsort(np.abs(best.coef), axis=None, kind="stable"):
        size = np.abs(best.coef.flat[term])
        if size >= LARGEST_PRUNED:
            break
        trial = best.coef.copy()
        trial.flat[term] = 0.0
        if size > 0:
            without = refit((trial, best.intercept), POLISH_MU[-1:])
            if without.objective <= best.objective * (1 + EXCHANGE_TOL):
                best = replace(without, n_iter=best.n_iter + without.n_iter)
    return best


def _widened(objective, features, solution):
    """Return the Solution over all features of a solution over some."""
    coef = np.zeros((solution.coef.shape[0], objective.data.n_features))
    coef[:, features] = solution.coef
    return replace(solution, coef=coef)


def _searched_features(objective, start=None):
    """Return the features to start with: all, or those of the largest gradient at no features.

    Those of a given start are among them.
    """
    n_features, positive = objective.data.n_features, objective.sign > 0
    if n_features <= MAX_SEARCHED_FEATURES:
        return np.arange(n_features)
    share = objective.weight @ positive if objective.fit_intercept else 0.5
    residual = objective.weight * (share - positive)
    slopes = np.abs(objective.data.pull_back(residual[:, np.newaxis])[0])
    if start is not None:
        slopes[start[0].any(axis=0)] = np.inf
    return np.sort(np.argsort(-slopes, kind="stable")[:MAX_SEARCHED_FEATURES])


def sampled_rows(positive: Array, rng: np.random.RandomState) -> Array | slice:
    """Return the rows of the starts: all, or some with a fair share of each class."""
    n_rows = positive.shape[0]
    if n_rows <= MAX_SAMPLED_ROWS:
        return slice(None)
    rows = []
    for side in (positive, ~positive):
        members = np.flatnonzero(side)
        share = round(MAX_SAMPLED_ROWS * len(members) / n_rows)
        size = max(share, min(len(members), MAX_SAMPLED_ROWS // 10))
        rows.append(rng.permutation(members)[:size])
    return np.sort(np.concatenate(rows))


# Relax, round and refit


def relax_and_round(
    objective: Objective, start: tuple[Array, Array] | None, solve: Callable, *,
    n_init: int | str, max_iter: int, tol: float, rng: np.random.RandomState, device: str,
    callback: StoppingCallback,
) -> Solution:  # fmt: skip
    """Minimise F as the paper does: relax, reassign until nothing changes, round, refit.

    `solve` is one of `RELAXED_SOLVERS`. The callback is called with each of its states. Other
    arguments as in `solve` of this module.
    """

    def on_iteration(state):
        coef = rounded(state.W, state.eps, objective.n_nonzero)
        return callback(Solution(coef, state.b, state.upper, state.n_iter, max(state.lower, 0.0)))

    XT, solutions = objective.data.transposed(), []
    for _ in range(1 if n_init == "auto" or start is not None else int(n_init)):
        if start is None:
            sign, weight, n_groups = objective.sign, objective.weight, objective.n_prototypes
            assignment = groups_by_k_means(XT, sign, weight, n_groups, rng)
        else:
            assignment = objective.margins(*start).argmax(axis=0)
        relaxation = relax(objective, XT, assignment, device)
        relaxed, n_iter = solve_and_reassign(
            relaxation, solve, max_iter, tol, StoppingCallback(on_iteration)
        )
        solution = _refitted(objective, relaxed, relaxation.origin()[1], max_iter)
        converged = relaxed.converged or callback.stopped
        solutions.append(replace(solution, n_iter=n_iter, converged=converged))
        if callback.stopped:
            break
    return min(solutions, key=lambda solution: solution.objective)


def _refitted(objective, relaxed, origin, max_iter):
    """Return the rounded solution of a relaxation, refitted with its features."""
    coef = rounded(relaxed.W, relaxed.eps, objective.n_nonzero)
    used = np.flatnonzero(coef.any(axis=0))
    block, coef = objective.block(used), coef[:, used]
    # From the relaxed weights, and from next to nothing: far out, a step may find no way back.
    starts = (coef, relaxed.b), (1e-9 * np.sign(coef), origin)
    refits = [
        descend(block, start, SEARCH_MU[1:] + POLISH_MU, max_iter, n_tried=0) for start in starts
    ]
    return _widened(objective, used, min(refits, key=lambda refit: refit.objective))


def solve_and_reassign(relaxation, solve, max_iter, tol, callback):
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
    kept = np.lexsort((-np.abs(W), -eps), axis=1)[:, :n_nonzero]
    coef = np.zeros_like(W)
    np.put_along_axis(coef, kept, np.take_along_axis(W, kept, axis=1), axis=1)
    return coef


# First groups of the rows


def groups_by_hash(XT, n_groups, rng):
    """Split the rows as if by chance, but equal rows alike, so that a weight is a repetition."""
    along = XT.T @ rng.standard_normal(XT.shape[0])
    return (np.modf(1000 * np.abs(along))[0] * n_groups).astype(np.int64)


def groups_along_line(XT, sign, weight, n_groups, rng):
    """Split the rows along a random direction, into groups of equal weight of the positives."""
    along = XT.T @ rng.standard_normal(XT.shape[0])
    # Not quite at the n-ths, where the rounding of the weights would decide.
    positive, cuts = sign > 0, 0.997 * np.arange(1, n_groups) / n_groups
    levels = np.quantile(along[positive], cuts, method="inverted_cdf", weights=weight[positive])
    return np.searchsorted(levels, along)


def groups_by_k_means(XT, sign, weight, n_groups, rng):
    """Split the positives by k-means, from the groups along a random direction."""
    from sklearn.cluster import KMeans  # costly to import

    assignment = groups_along_line(XT, sign, weight, n_groups, rng)
    positives = np.flatnonzero(sign > 0)
    X, groups, weight = XT.T[positives], assignment[positives], weight[positives]
    shares = weight * (groups == np.unique(groups)[:, np.newaxis])
    centers = (shares / shares.sum(axis=1, keepdims=True)) @ X
    means = KMeans(len(centers), init=centers.astype(X.dtype), n_init=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than groups
        assignment[positives] = means.fit(X, sample_weight=weight).labels_
    return assignment
