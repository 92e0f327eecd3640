"""Ensemble methods: calibrated probabilities of the members in, a `Blend` out.

Every function takes `probabilities` float32 (members, n, classes), `labels` (n,) and the name of the `metric` to choose
by (`emoray.metrics.value`; a recall by index of the class). Those that split the images once more also take `groups`
(n,), equal for images that stay together, as copies of each other do. What they score on the data that they were fitted
to flatters them: only `emoray.crossfit.evaluate` says what they gain. Nothing here copies the whole pool.
"""

import numpy as np
from numpy.typing import NDArray

from emoray import crossfit, metrics, solvers
from emoray.blend import Blend, log_ratios
from emoray.settings import Count, NonNegative, NonNegativeCount, Positive

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]
Array = NDArray[np.float64]
MANY = 10_000
"""Images of which half choose a method as well as two thirds do."""


def single(probabilities: Floats, labels: Integers, metric: str) -> Blend:
    """The best member alone: what every ensemble has to beat."""
    return _mean_of("single", _ranking(probabilities, labels, metric)[:1], len(probabilities))


def uniform(probabilities: Floats, labels: Integers, metric: str, *, top_k: Count | None = None) -> Blend:
    """The plain mean of the best `top_k` members; None chooses how many by the metric.

    Source: Breiman 1996, Bagging predictors, for the mean; the baseline that fitted weights rarely beat.
    """
    order = _ranking(probabilities, labels, metric)
    size = top_k or _best_prefix(probabilities, labels, metric, order)
    return _mean_of("uniform", order[:size], len(probabilities))


def greedy(
    probabilities: Floats,
    labels: Integers,
    metric: str,
    *,
    rounds: Count = 50,
    bags: Count = 1,
    sorted_start: NonNegativeCount = 5,
    seed: NonNegativeCount = 0,
) -> Blend:
    """Adds the member that helps the metric most, again and again, with replacement.

    Starts from the best prefix of the `sorted_start` best members, adds until there are `rounds`, and keeps the best
    moment. With several `bags` each sees a random half of the members, and their weights are averaged.
    Source: Caruana, Niculescu-Mizil, Crew & Ksikes 2004, Ensemble selection from libraries of models.
    """
    members, rng = len(probabilities), np.random.default_rng(seed)
    order = _ranking(probabilities, labels, metric)
    weights = np.zeros(members)
    for _ in range(bags):
        bag = order
        if bags > 1:
            bag = order[np.sort(rng.permutation(members)[: (members + 1) // 2])]
        chosen = _select(probabilities, labels, metric, bag, rounds, sorted_start)
        weights += np.bincount(chosen, minlength=members) / len(chosen) / bags
    return _blend("greedy", weights)


def log_loss(probabilities: Floats, labels: Integers, metric: str, *, pull: NonNegative = 0.0) -> Blend:
    """The weights with the lowest log-loss, whatever the metric: convex, solved exactly, slow to over-fit.

    `pull` draws the weights to uniform as hard as this many images would of which each member alone knows an equal part
    (a Dirichlet prior); without it most weights are exactly 0.
    Source: Stone 1961, The opinion pool; Smyth & Wolpert 1999, Linearly combining density estimators via stacking.
    """
    return _blend("log_loss", solvers.mixture_weights(_of_label(probabilities, labels), pull))


def cma_es(
    probabilities: Floats,
    labels: Integers,
    metric: str,
    *,
    evaluations: Count = 1000,
    sigma: Positive = 0.5,
    seed: NonNegativeCount = 0,
) -> Blend:
    """Searches the logarithms of the weights for the metric itself, by CMA-ES from uniform: over-fits small data.

    Source: Purucker & Beel 2023, CMA-ES for post hoc ensembling in AutoML.
    """
    start = np.zeros(len(probabilities))
    if len(start) == 1:
        return _blend("cma_es", np.ones(1))
    logs = solvers.cma_es(
        lambda points: -_values(probabilities, labels, metric, _simplex(points)), start, sigma, evaluations, seed
    )
    return _blend("cma_es", _simplex(logs[None])[0])


def stacking(
    probabilities: Floats,
    labels: Integers,
    metric: str,
    groups: Integers | None = None,
    *,
    penalty: Positive | None = None,
    top_k: Count = 16,
) -> Blend:
    """A multinomial regression on the log-probabilities of the `top_k` best members: wants thousands of images.

    The ridge `penalty`, on the mean log-loss, draws it to the geometric mean of those members, so that few images do
    little harm; None chooses it by log-loss over three folds.
    Source: Wolpert 1992, Stacked generalization; Ting & Witten 1999, Issues in stacked generalization.
    """
    members, n, classes = probabilities.shape
    chosen = _ranking(probabilities, labels, metric)[:top_k]
    features = np.empty((n, len(chosen) * classes), np.float32)
    offset = np.zeros((n, classes), np.float32)
    for position, m in enumerate(chosen):
        ratios = log_ratios(probabilities[m])
        features[:, position * classes : (position + 1) * classes] = ratios
        offset += ratios / np.float32(len(chosen))
    theta = _ridge_path(features, offset, labels, penalty, groups)
    coefficients = np.zeros((members, classes, classes))
    coefficients[chosen] = theta[:-1].reshape(len(chosen), classes, classes) + np.eye(classes) / len(chosen)
    matrices = tuple(tuple(tuple(map(float, row)) for row in matrix) for matrix in coefficients)
    return Blend("stacking", coefficients=matrices, intercept=tuple(map(float, theta[-1])))


def auto(
    probabilities: Floats,
    labels: Integers,
    metric: str,
    groups: Integers | None = None,
    *,
    folds: Count = 3,
    seed: NonNegativeCount = 0,
) -> Blend:
    """The uniform mean, unless another method's cross-fitted gain over it is surely positive: then the best of those.

    Surely: the lower bound of its 95 % interval, at a level corrected for the number of methods that are compared.
    Of `MANY` images or more two folds are enough, in less time and memory.
    """
    different = len(labels if groups is None else np.unique(groups))
    if different < 2 or folds < 2:
        return uniform(probabilities, labels, metric)
    methods = {"uniform": uniform, "single": single, "greedy": greedy, "log_loss": log_loss, "stacking": stacking}
    folds = 2 if len(labels) >= MANY else folds
    best = crossfit.best_over_uniform(probabilities, labels, methods, metric, folds=folds, seed=seed, groups=groups)
    return crossfit.fit(methods[best], probabilities, labels, metric, groups)


def _blend(method: str, weights: Array) -> Blend:
    return Blend(method, tuple(float(w) for w in weights / weights.sum()))


def _mean_of(method: str, chosen: Integers, members: int) -> Blend:
    return _blend(method, np.bincount(chosen, minlength=members).astype(np.float64))


def _of_label(probabilities: Floats, labels: Integers) -> Array:
    """Each member's probability of the label, (members, n), floored."""
    found = probabilities[:, np.arange(len(labels)), labels].astype(np.float64)
    return np.maximum(found, metrics.FLOOR, out=found)


def _ranking(probabilities: Floats, labels: Integers, metric: str) -> NDArray[np.intp]:
    """Members from best to worst by the metric; equal ones by log-loss."""
    values = [metrics.value(metric, labels, member) for member in probabilities]
    losses = [metrics.log_loss(labels, member) for member in probabilities]
    return np.lexsort((np.array(losses), -np.nan_to_num(values, nan=-np.inf)))


def _best_prefix(probabilities: Floats, labels: Integers, metric: str, order: Integers) -> int:
    """How many of the first members of `order` give the best mean; the most of equals, since means are steadier."""
    total = np.zeros(probabilities.shape[1:], np.float32)
    values = []
    for size, m in enumerate(order, start=1):
        total += probabilities[m]
        values.append(metrics.value(metric, labels, total / np.float32(size)))
    return _last_best(values) + 1


def _last_best(values: list[float]) -> int:
    reverse = np.nan_to_num(values[::-1], nan=-np.inf)
    return len(values) - 1 - int(reverse.argmax())


def _select(
    probabilities: Floats, labels: Integers, metric: str, order: Integers, rounds: int, sorted_start: int
) -> list[int]:
    """The members that greedy selection takes from `order` (sorted, best first), one entry for each time taken."""
    size = _best_prefix(probabilities, labels, metric, order[: min(max(1, sorted_start), rounds)])
    chosen = [int(m) for m in order[:size]]
    total = probabilities[chosen[0]].astype(np.float32)
    for m in chosen[1:]:
        total += probabilities[m]
    history = [metrics.value(metric, labels, total / np.float32(size))]
    while len(chosen) < rounds:
        values = _values_after(total, len(chosen), probabilities, labels, metric, order)
        equals = np.flatnonzero(values == values.max())
        if len(equals) > 1 and metric != "log_loss":
            by_loss = _values_after(total, len(chosen), probabilities, labels, "log_loss", order[equals])
            equals = equals[by_loss.argmax() :]
        chosen.append(int(order[equals[0]]))
        history.append(float(values[equals[0]]))
        total += probabilities[chosen[-1]]
    return chosen[: size + _last_best(history)]


def _values_after(
    total: Floats, size: int, probabilities: Floats, labels: Integers, metric: str, candidates: Integers
) -> Array:
    """The metric's value with each of `candidates` added to the `total` of `size` members.

    A member adds at most 1 to a class, so images whose two highest classes lie further apart keep their prediction:
    with every round fewer are left to look at. NaN (a recall without images) counts as the worst value.
    """
    if metric == "log_loss":
        so_far = total[np.arange(len(labels)), labels]
        sums = (so_far + _of_label(probabilities[m][None], labels)[0] for m in candidates)
        return np.array([np.log(np.maximum(s / (size + 1), metrics.FLOOR)).mean() for s in sums])
    classes = total.shape[1]
    highest = np.partition(total, -2, axis=1) if classes > 1 else np.full((len(total), 2), -np.inf)
    open_rows = np.flatnonzero(highest[:, -1] - highest[:, -2] <= 1.001)
    settled = np.ones(len(labels), bool)
    settled[open_rows] = False
    base = metrics.confusion(labels[settled], total[settled].argmax(axis=1), classes)
    open_total, open_labels = total[open_rows], labels[open_rows]
    counts = np.empty((len(candidates), classes, classes), np.int64)
    for position, m in enumerate(candidates):
        predicted = (open_total + probabilities[m][open_rows]).argmax(axis=1)
        counts[position] = base + metrics.confusion(open_labels, predicted, classes)
    return np.nan_to_num(metrics.from_confusion(metric, counts), nan=-np.inf)


def _values(probabilities: Floats, labels: Integers, metric: str, weights: Array) -> Array:
    """The metric's value of many weightings (points, members) at once, (points,); NaN counts as the worst."""
    members, n, classes = probabilities.shape
    if metric == "log_loss":
        return np.log(np.maximum(weights @ _of_label(probabilities, labels), metrics.FLOOR)).mean(axis=1)
    flat = probabilities.reshape(members, n * classes)
    counts = np.zeros((len(weights), classes, classes), np.int64)
    offsets = np.arange(len(weights))[:, None] * classes**2
    for start in range(0, n, 2048):  # blocks that stay in the cache
        stop = min(start + 2048, n)
        blended = weights.astype(np.float32) @ flat[:, start * classes : stop * classes]
        predicted = blended.reshape(len(weights), stop - start, classes).argmax(axis=2)
        cells = offsets + labels[start:stop] * classes + predicted
        counts += np.bincount(cells.ravel(), minlength=counts.size).reshape(counts.shape)
    return np.nan_to_num(metrics.from_confusion(metric, counts), nan=-np.inf)


def _simplex(points: Array) -> Array:
    shares = np.exp(points - points.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def _ridge_path(
    features: Floats, offset: Floats, labels: Integers, penalty: float | None, groups: Integers | None
) -> Array:
    """The regression at `penalty`, or at the best of 10, 1, ... 0.001 by cross-validated log-loss."""
    everything = np.ones(len(labels), bool)
    zero = np.zeros((features.shape[1] + 1, offset.shape[1]))
    if penalty is None:
        penalty = _choose_penalty(features, offset, labels, zero, groups)
    return solvers.softmax_regression(features, offset, labels, penalty, everything, zero)


def _choose_penalty(features: Floats, offset: Floats, labels: Integers, zero: Array, groups: Integers | None) -> float:
    fold_of = crossfit.stratified_folds(labels, min(3, len(labels)), 0, groups)
    thetas = [zero] * (fold_of.max() + 1 if len(labels) < 5000 else 1)  # of thousands of images one fold is enough
    best, lowest = 10.0, np.inf
    for penalty in (10.0, 1.0, 0.1, 0.01, 0.001) if fold_of.max() > 0 else ():
        total = 0.0
        for fold, theta in enumerate(thetas):  # from strong to weak, each from the last: a warm start
            theta = thetas[fold] = solvers.softmax_regression(features, offset, labels, penalty, fold_of != fold, theta)
            out = fold_of == fold
            logits = offset[out] + features[out] @ theta[:-1].astype(np.float32) + theta[-1]
            total -= (logits[np.arange(len(logits)), labels[out]] - np.logaddexp.reduce(logits, axis=1)).sum()
        if total >= lowest:
            break
        best, lowest = penalty, total
    return best
