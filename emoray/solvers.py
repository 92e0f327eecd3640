"""The three optimisations behind the ensemble methods, on plain arrays: they know no metric and no member.

They run on one BLAS thread: their products are small, and threads that wait for each other beside other work cost ten
times what they save.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize
from threadpoolctl import threadpool_limits

Array = NDArray[np.float64]
_one_thread = threadpool_limits.wrap(limits=1, user_api="blas")


@_one_thread
def mixture_weights(likelihoods: NDArray[np.floating], pull: float) -> Array:
    """Weights w (members,) on the simplex that minimise -sum_i log(w . likelihoods[:, i]) - pull * mean(log w).

    `likelihoods` (members, n) are each member's probabilities of the labels, above 0. The problem is convex, and once
    (1 + pull / n) * sum(w) is added its minimum over w >= 0 alone lies on the simplex: a few Newton steps, each a
    non-negative least-squares problem of the size of the pool (Kim, Carbonetto, Stephens & Anitescu 2020, A fast
    algorithm for maximum likelihood estimation of mixture proportions using sequential quadratic programming).
    """
    members, n = likelihoods.shape
    likelihoods = likelihoods.astype(np.float64, copy=False)
    prior = pull / n / members

    def loss(weights: Array) -> float:
        if prior and not (weights > 0).all():
            return np.inf
        return float(
            -np.log(weights @ likelihoods).mean()
            - (prior * np.log(weights).sum() if prior else 0.0)
            + (1.0 + prior * members) * weights.sum()
        )

    weights = np.full(members, 1.0 / members)
    best = loss(weights)
    for _ in range(100):
        inverse = 1.0 / (weights @ likelihoods)
        gradient = 1.0 + prior * members - likelihoods @ inverse / n
        hessian = np.zeros((members, members))
        for start in range(0, n, 512):  # in blocks: all shares at once would be a second copy of the likelihoods
            shares = likelihoods[:, start : start + 512] * inverse[start : start + 512]
            hessian += shares @ shares.T / n
        if prior:
            gradient -= prior / weights
            hessian[np.diag_indices(members)] += prior / weights**2
        if -gradient.min() < 1e-7 and abs(gradient @ weights) < 1e-7 and (not prior or abs(gradient).max() < 1e-7):
            break  # the optimum: the loss is within 1e-7 of the lowest possible
        direction = _newton_target(weights, gradient, hessian) - weights
        size = 0.99 if prior and not (direction + weights > 0).all() else 1.0
        while (
            size > 1e-9 and not (value := loss(weights + size * direction)) <= best + 1e-4 * size * gradient @ direction
        ):
            size /= 2
        if size <= 1e-9 or best - value < 1e-12:
            break
        weights, best = weights + size * direction, value
    return weights / weights.sum()


def _newton_target(weights: Array, gradient: Array, hessian: Array) -> Array:
    """The lowest point over w >= 0 of the quadratic model at `weights`."""
    damped = hessian + 1e-9 * np.trace(hessian) * np.eye(len(weights))  # equal members make it singular
    factor = linalg.cholesky(damped, lower=True)
    target, _ = optimize.nnls(factor.T, linalg.solve_triangular(factor, damped @ weights - gradient, lower=True))
    return target


@_one_thread
def cma_es(objective: Callable[[Array], Array], start: Array, sigma: float, evaluations: int, seed: int) -> Array:
    """The best point found by CMA-ES: minimises `objective`, which takes (points, d) and gives (points,).

    Source: Hansen 2016, The CMA evolution strategy: a tutorial (weighted recombination, cumulative step size, rank-one
    and rank-mu updates; its default constants and names).
    """
    d, rng = len(start), np.random.default_rng(seed)
    population = 4 + int(3 * np.log(d))
    raw = np.log((population + 1) / 2) - np.log(np.arange(1, population // 2 + 1))
    weights = raw / raw.sum()
    mu = 1.0 / (weights**2).sum()
    c_sigma, c_c = (mu + 2) / (d + mu + 5), (4 + mu / d) / (d + 4 + 2 * mu / d)
    damping = 1 + 2 * max(0.0, ((mu - 1) / (d + 1)) ** 0.5 - 1) + c_sigma
    c_1 = 2 / ((d + 1.3) ** 2 + mu)
    c_mu = min(1 - c_1, 2 * (mu - 2 + 1 / mu) / ((d + 2) ** 2 + mu))
    expected_norm = d**0.5 * (1 - 1 / (4 * d) + 1 / (21 * d**2))

    mean, covariance = np.array(start, np.float64), np.eye(d)
    path_sigma, path_c = np.zeros(d), np.zeros(d)
    best, best_value = mean, float(objective(mean[None])[0])
    for generation in range(1, max(1, evaluations // population) + 1):
        eigenvalues, basis = np.linalg.eigh(covariance)
        root = np.sqrt(np.maximum(eigenvalues, 1e-20))
        steps = (rng.standard_normal((population, d)) * root) @ basis.T
        points = mean + sigma * steps
        values = objective(points)
        order = np.argsort(values, kind="stable")
        if values[order[0]] < best_value:
            best, best_value = points[order[0]], float(values[order[0]])
        chosen = steps[order[: len(weights)]]
        step = weights @ chosen
        mean = mean + sigma * step
        path_sigma = (1 - c_sigma) * path_sigma
        path_sigma += (c_sigma * (2 - c_sigma) * mu) ** 0.5 * ((step @ basis) / root) @ basis.T
        length = float(np.linalg.norm(path_sigma)) / (1 - (1 - c_sigma) ** (2 * generation)) ** 0.5
        stalled = (
            length >= (1.4 + 2 / (d + 1)) * expected_norm
        )  # steps in one line: the rank-one update would overshoot
        path_c = (1 - c_c) * path_c + (0.0 if stalled else (c_c * (2 - c_c) * mu) ** 0.5) * step
        decay = 1 - c_1 - c_mu + (c_1 * c_c * (2 - c_c) if stalled else 0.0)
        covariance = decay * covariance + c_1 * np.outer(path_c, path_c) + c_mu * (chosen.T * weights) @ chosen
        sigma *= np.exp(min(1.0, c_sigma / damping * (np.linalg.norm(path_sigma) / expected_norm - 1)))
    return best


@_one_thread
def softmax_regression(
    features: NDArray[np.float32],
    offset: NDArray[np.float32],
    labels: NDArray[np.integer],
    penalty: float,
    use: NDArray[np.bool_],
    start: Array,
) -> Array:
    """Coefficients and intercept (features + 1, classes) of a ridge-penalised multinomial regression around `offset`.

    Minimises the mean log-loss of softmax(offset + features @ coefficients + intercept) over the images where `use`,
    plus penalty / 2 times the squares; so a strong penalty gives back `offset` (n, classes). By L-BFGS from `start`.
    The images that are not used are masked rather than left out, since leaving them out copies `features`.
    """
    mask = (use / use.sum()).astype(np.float32)[:, None]
    rows = np.arange(len(labels))

    def loss(flat: Array) -> tuple[float, Array]:
        theta = flat.reshape(start.shape)
        logits = features @ theta[:-1].astype(np.float32)
        logits += offset
        logits += theta[-1].astype(np.float32)
        logits -= logits.max(axis=1, keepdims=True)
        of_label = logits[rows, labels]
        np.exp(logits, out=logits)
        total = logits.sum(axis=1, keepdims=True)
        losses = (np.log(total[:, 0]) - of_label) * mask[:, 0]
        logits *= mask / total
        logits[rows, labels] -= mask[:, 0]
        gradient = np.vstack([features.T @ logits, logits.sum(axis=0)]) + penalty * theta
        return float(losses.sum(dtype=np.float64) + penalty / 2 * (theta**2).sum()), gradient.ravel()

    options = {"maxiter": 200, "ftol": 1e-5, "gtol": 1e-5}  # far below the sampling error of the loss
    return optimize.minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(start.shape)
