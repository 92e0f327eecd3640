"""What a run says in the end: which classifier to use, what each method gains, and the scores on test.

The one rule: which of them to use is decided by cross-fitted gains on the selection split. Test is scored once, for
what was decided and for the best single member beside it, and decides nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoray import bootstrap, calibration, crossfit, metrics
from emoray.bootstrap import Interval
from emoray.data import Split
from emoray.label_issues import find

ENSEMBLE, SINGLE = "ensemble", "best_single"
MOST_PICTURES = 24
"""Mistakes and label issues that are told one by one."""
Pool = NDArray[np.float32]


def recommended(fitted: crossfit.Report, method: str, use: str) -> str:
    """`ENSEMBLE` where its cross-fitted gain over the best single member is surely positive, or where `use` asks.

    Surely: the whole 95 % interval. A gain that may be chance is not worth running several models for.
    """
    if use != "auto":
        return ENSEMBLE if use == "ensemble" else SINGLE
    surely = fitted.methods[method].gain_over_single.low > 0
    return ENSEMBLE if surely and not _is_single(fitted, method) else SINGLE


def _is_single(fitted: crossfit.Report, method: str) -> bool:
    """Whether what a method was fitted to is the best single model alone."""
    used = fitted.methods[method].blend.used
    return len(used) == 1 and used == fitted.methods["single"].blend.used


def ensemble(
    fitted: crossfit.Report, method: str, use: str, identities: Sequence[Mapping[str, Any]], metric: str
) -> dict[str, Any]:
    """The content of ensemble.json about choice and fit; `identities` are those of the candidates.

    `picked` is the method that was fitted in the end, which `auto` chooses; `selection` of a candidate is what the best
    single model was chosen by; `better` is told where nobody asked for a single model.
    """
    chosen = recommended(fitted, method, use)
    shares = _weights(fitted, method)
    told = [
        {**identity, "weight": weight, "temperature": temperature, "selection": score}
        for identity, weight, temperature, score in zip(
            identities, shares, fitted.temperatures, fitted.members, strict=True
        )
    ]
    final = method if chosen == ENSEMBLE else "single"
    blend, weights = fitted.methods[final].blend, _weights(fitted, final)
    return {
        "metric": metric,
        "method": method,
        "picked": fitted.methods[method].blend.method,
        "recommended": chosen,
        "use": use,
        "blend": blend.to_json(),
        "members": [{**told[m], "weight": weights[m]} for m in blend.used],
        "candidates": told,
        "methods": {name: _entry(entry) for name, entry in fitted.methods.items()},
        "better": None if use == "single" else surely_better(fitted, final),
        "selection_images": fitted.images,
        "folds": fitted.folds,
    }


def surely_better(fitted: crossfit.Report, used: str) -> dict[str, Any] | None:
    """The method with the largest cross-fitted gain over the `used` one, of those whose gain is surely positive.

    Surely: the lower bound of its interval, at a level corrected for the number of methods that are compared.
    """
    others = [name for name in fitted.methods if name != used]
    level = 1.0 - 0.05 / len(others)
    gains = {name: fitted.gain(name, used, level) for name in others}
    sure = [name for name in others if gains[name].low > 0 and (name == "single" or not _is_single(fitted, name))]
    if not sure:
        return None
    best = max(sure, key=lambda name: gains[name].estimate)
    return {"method": best, "gain": vars(gains[best]), "level": level}


def _weights(fitted: crossfit.Report, method: str) -> Sequence[float | None]:
    """Each candidate's part; None for those of a stack, which has no weights."""
    return fitted.methods[method].blend.weights or [None] * len(fitted.temperatures)


def _entry(entry: crossfit.Entry) -> dict[str, Any]:
    return {
        "in_sample": entry.in_sample,
        "in_sample_gain": entry.in_sample_gain,
        "cross_fitted": entry.cross_fitted,
        "gain_over_single": vars(entry.gain_over_single),
        "gain_over_uniform": vars(entry.gain_over_uniform),
        "blend": entry.blend.to_json(),
    }


def members(
    pool: Pool,
    labels: np.ndarray,
    identities: Sequence[Mapping[str, Any]],
    seed: int,
    groups: np.ndarray | None = None,
) -> dict[str, Any]:
    """The candidates beside each other on the selection split: scores, calibration, and how often they agree.

    `pool` is (members, n, classes) as the members gave it. What temperatures do is told cross-fitted, with images of
    one group in one fold.
    """
    fold_of = crossfit.stratified_folds(labels, 5, seed, groups)
    predicted = pool.argmax(axis=2)
    agreement = np.array([(predicted == one).mean(axis=1) for one in predicted])
    others = (agreement.sum(axis=1) - 1) / max(1, len(pool) - 1)
    listed = []
    for m, (identity, member) in enumerate(zip(identities, pool, strict=True)):
        scaled = calibration.cross_fitted(member, labels, fold_of)
        listed.append(
            {
                "name": identity["name"],
                "study": identity["study"],
                **metrics.scores(labels, member),
                "before": _calibration(labels, member),
                "after": _calibration(labels, scaled),
                "disagreement": float(1 - others[m]) if len(pool) > 1 else None,
            }
        )
    return {"listed": listed, "agreement": agreement.tolist()}


def _calibration(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    return {
        "log_loss": metrics.log_loss(labels, probabilities),
        "ece": metrics.ece(labels, probabilities),
        "brier": metrics.brier(labels, probabilities),
    }


def test(
    fitted: crossfit.Report, told: Mapping[str, Any], pool: Pool, split: Split, classes: Sequence[str], seed: int
) -> dict[str, Any]:
    """The scores of what was chosen, on images that nothing was chosen on; `told` is what `ensemble` gave."""
    labels = split.labels
    both = {ENSEMBLE: fitted.predict(told["method"], pool), SINGLE: fitted.predict("single", pool)}
    best = fitted.methods["single"].blend.used[0]
    shown, raw = both[told["recommended"]], pool[best]
    return {
        "images": len(labels),
        SINGLE: {"trial": told["candidates"][best]["name"], **_scores(labels, both[SINGLE], seed)},
        ENSEMBLE: _scores(labels, both[ENSEMBLE], seed),
        "gain": {metric: vars(_gain(metric, labels, both, seed)) for metric in metrics.METRICS},
        "confusion": metrics.confusion(labels, shown.argmax(1), len(classes)).tolist(),
        "calibration": {
            "ece_before": metrics.ece(labels, raw),
            "ece_after": metrics.ece(labels, shown),
            "brier_before": metrics.brier(labels, raw),
            "brier_after": metrics.brier(labels, shown),
            "log_loss_before": metrics.log_loss(labels, raw),
            "log_loss_after": metrics.log_loss(labels, shown),
            "bins": _reliability(labels, shown),
        },
        "mistakes": mistakes(labels, shown, split, classes),
    }


def _scores(labels: np.ndarray, probabilities: np.ndarray, seed: int) -> dict[str, Any]:
    return {
        metric: vars(bootstrap.score_interval(labels, probabilities, metric, seed=seed)) for metric in metrics.METRICS
    }


def _gain(metric: str, labels: np.ndarray, both: Mapping[str, np.ndarray], seed: int) -> Interval:
    """How much better the ensemble is, with the paired bootstrap interval; positive is better for every metric."""
    draws = bootstrap.resampled(metric, labels, np.stack([both[SINGLE], both[ENSEMBLE]]), seed)
    low, high = np.nanpercentile(draws[:, 1] - draws[:, 0], [2.5, 97.5])
    estimate = metrics.value(metric, labels, both[ENSEMBLE]) - metrics.value(metric, labels, both[SINGLE])
    return Interval(estimate, float(low), float(high))


def _reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> list[list[float]]:
    """[mean confidence, accuracy, images] of bins of equal mass."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(bins, len(labels)))
    return [[float(confidence[part].mean()), float(right[part].mean()), len(part)] for part in parts]


def mistakes(labels: np.ndarray, probabilities: np.ndarray, split: Split, classes: Sequence[str]) -> list[Any]:
    """The most confident mistakes: `index` in the split, where the image came from, label and prediction."""
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST_PICTURES]
    return [
        {
            "index": int(i),
            "file": str(split.files[i]),
            "row": int(split.rows[i]),
            "label": classes[labels[i]],
            "predicted": classes[predicted[i]],
            "confidence": float(confidence[i]),
        }
        for i in worst
    ]


def labels_in_doubt(split: Split, out_of_fold: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """The selection images whose label is likely wrong, by predictions that were fitted to neither of them."""
    found = find(split.labels, out_of_fold)
    pairs: dict[tuple[int, int], int] = {}
    for issue in found.issues:
        pairs[issue.given, issue.suggested] = pairs.get((issue.given, issue.suggested), 0) + 1
    return {
        "images": len(split.labels),
        "count": len(found.issues),
        "share": found.share,
        "pairs": [
            {"given": classes[given], "suggested": classes[suggested], "images": count}
            for (given, suggested), count in sorted(pairs.items(), key=lambda item: -item[1])[:10]
        ],
        "surest": [
            {
                "index": issue.image,
                "file": str(split.files[issue.image]),
                "row": int(split.rows[issue.image]),
                "given": classes[issue.given],
                "suggested": classes[issue.suggested],
                "margin": issue.margin,
            }
            for issue in found.issues[:MOST_PICTURES]
        ],
    }
