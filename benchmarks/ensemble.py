"""Ensemble weights: emoray beside what a user would pick instead, in one run on one simulated pool.

    python benchmarks/ensemble.py                       # 50 members, 20,000 images, 7 classes: about two minutes
    python benchmarks/ensemble.py --images 2000 --members 20 --trials 100

Beside it run greedy selection as AutoGluon's EnsembleSelection does it (every candidate's mean in full, scikit-learn's
metric, the first best prefix) and Optuna's TPE on the weights. Quality is measured on as many held-out images.
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import optuna
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from emoray import calibration, crossfit, ensemble, metrics
from emoray.blend import softmax

Pool = NDArray[np.float32]
SHARES = np.array([14, 2, 14, 25, 17, 11, 17]) / 100
USER_METRICS = {"accuracy": accuracy_score, "macro_f1": lambda labels, p: f1_score(labels, p, average="macro")}


def simulate(members: int, images: int, seed: int) -> tuple[Pool, NDArray[np.int64]]:
    """Members with shared and individual noise in their log-odds, unequal strength and wrong temperatures."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(SHARES), images, p=SHARES)
    shared = rng.normal(0.0, 1.2, (images, len(SHARES))).astype(np.float32)
    probabilities = np.empty((members, images, len(SHARES)), np.float32)
    for member in probabilities:
        logits = shared + rng.normal(0.0, 0.6, shared.shape).astype(np.float32)
        logits[np.arange(images), labels] += rng.normal(1.9, 0.15)
        member[...] = softmax(np.float32(np.exp(rng.normal(0.3, 0.5))) * logits)
    return probabilities, labels


def as_autogluon(pool: Pool, labels: NDArray[np.int64], metric: str, rounds: int = 50) -> NDArray[np.float64]:
    """Weights by greedy selection, written plainly: mean, renormalise, arg-max and metric for every candidate."""
    score, mean, chosen, history = USER_METRICS[metric], np.zeros(pool.shape[1:]), [], []
    for size in range(rounds):
        values = []
        for member in pool:
            candidate = mean * (size / (size + 1)) + member / (size + 1)
            candidate /= candidate.sum(axis=1)[:, None]
            values.append(score(labels, candidate.argmax(axis=1)))
        chosen.append(int(np.argmax(values)))
        history.append(max(values))
        mean = mean * (size / (size + 1)) + pool[chosen[-1]] / (size + 1)
    chosen = chosen[: int(np.argmax(history)) + 1]
    return np.bincount(chosen, minlength=len(pool)) / len(chosen)


def as_optuna(pool: Pool, labels: NDArray[np.int64], metric: str, trials: int) -> NDArray[np.float64]:
    """Weights by Optuna's default sampler (TPE), one float for each member."""

    def objective(trial: optuna.Trial) -> float:
        weights = np.array([trial.suggest_float(f"weight_{m}", 0.0, 1.0) for m in range(len(pool))])
        return USER_METRICS[metric](labels, np.tensordot(weights, pool, 1).argmax(axis=1))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=trials)
    weights = np.array([study.best_params[f"weight_{m}"] for m in range(len(pool))])
    return weights / weights.sum()


def timed(fit: Callable[[], object]) -> tuple[object, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = fit()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def compare(pool: Pool, labels: NDArray[np.int64], held_out: Pool, held_labels: NDArray[np.int64], options) -> None:
    """One line for each method: seconds, the score it was fitted to, the score on held-out images."""
    metric = options.metric
    fits: dict[str, Callable[[], object]] = {
        name: lambda name=name: getattr(ensemble, name)(pool, labels, metric)
        for name in ("single", "uniform", "greedy", "log_loss", "cma_es", "stacking")
    }
    fits["AutoGluon's greedy"] = lambda: as_autogluon(pool, labels, metric)
    fits[f"Optuna TPE, {options.trials}"] = lambda: as_optuna(pool, labels, metric, options.trials)
    print(f"\n{'method':22}{'wall s':>9}{'CPU s':>9}{'fitted %':>10}{'held out %':>12}{'log-loss':>10}")
    seconds = {}
    for name, fit in fits.items():
        found, wall, cpu = timed(fit)
        blend = ensemble.Blend(name, tuple(found)) if isinstance(found, np.ndarray) else found
        fitted, held = (metrics.scores(y, blend.predict(p)) for p, y in ((pool, labels), (held_out, held_labels)))
        seconds[name] = cpu
        scores = f"{100 * fitted[metric]:10.2f}{100 * held[metric]:12.2f}{held['log_loss']:10.3f}"
        print(f"{name:22}{wall:9.2f}{cpu:9.2f}{scores}")
    theirs = list(seconds)[-2:]
    print(f"CPU time of {theirs[0]} / greedy: {seconds[theirs[0]] / seconds['greedy']:.1f}")
    for name in ("greedy", "log_loss", "cma_es"):
        print(f"CPU time of {theirs[1]} / {name}: {seconds[theirs[1]] / seconds[name]:.1f}")


def honest(raw: Pool, labels: NDArray[np.int64], metric: str, names: tuple[str, ...]) -> None:
    """Time and peak memory of the cross-fitted report, each of its own: to trace memory takes time."""
    methods = {name: getattr(ensemble, name) for name in names}
    report, wall, cpu = timed(lambda: crossfit.evaluate(raw, labels, methods, metric))
    tracemalloc.start()
    crossfit.evaluate(raw, labels, methods, metric)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"\nevaluate, 5 folds, {', '.join(names)}: {wall:.1f} s wall, {cpu:.1f} s CPU")
    print(f"peak memory with the predictions: {1 + peak / raw.nbytes:.2f} times their {raw.nbytes / 1e6:.0f} MB")
    print(f"{'method':12}{'in-sample gain':>16}{'cross-fitted gain over single':>32}{'over uniform':>24}   points")
    for name, entry in report.methods.items():
        one, two = (
            f"{100 * g.estimate:.2f} [{100 * g.low:.2f}, {100 * g.high:.2f}]"
            for g in (entry.gain_over_single, entry.gain_over_uniform)
        )
        print(f"{name:12}{100 * entry.in_sample_gain:16.2f}{one:>32}{two:>24}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=50)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--trials", type=int, default=150, help="of Optuna")
    parser.add_argument("--metric", choices=list(USER_METRICS), default="accuracy")
    parser.add_argument("--auto", action="store_true", help="evaluate `auto` too, which is nested cross-fitting")
    options = parser.parse_args()

    raw, labels = simulate(options.members, 2 * options.images, seed=0)
    half = slice(0, options.images), slice(options.images, None)
    held_raw, raw = np.ascontiguousarray(raw[:, half[1]]), np.ascontiguousarray(raw[:, half[0]])
    held_labels, labels = labels[half[1]], labels[half[0]]
    scales, wall, cpu = timed(lambda: calibration.temperatures(raw, labels))
    print(f"{options.members} members, {options.images} images, {len(SHARES)} classes, metric {options.metric}")
    print(f"temperatures of all members: {wall:.2f} s wall, {cpu:.2f} s CPU")
    pool, held_out = calibration.calibrated(raw, scales), calibration.calibrated(held_raw, scales)
    compare(pool, labels, held_out, held_labels, options)
    del pool, held_out
    names = ("single", "uniform", "greedy", "log_loss", "cma_es", "stacking")
    honest(raw, labels, options.metric, (*names, "auto") if options.auto else names)


if __name__ == "__main__":
    main()
