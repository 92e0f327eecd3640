"""A synthetic but valid run folder: the files that a sweep leaves behind, without running one.

The curves are made up from a formula and a seed, so that pages and readers can be tested on 2 or 200 trials in no time.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emoray import pictures

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
MODELS = ("simple_cnn", "resnet34", "mobilenet_v2", "lenet", "vgg", "efficientnet_b0", "densenet121", "vit", "convnext")
EVIL = "<script>alert(1)</script>"
LONG = "class_with_an_exceedingly_long_name_that_has_nowhere_to_break_" * 2
METRICS = ("accuracy", "macro_f1", "balanced_accuracy", "log_loss")
ERROR = """Traceback (most recent call last):
  File "loop.py", line 41, in epoch
ValueError: loss became <nan> in epoch 3
"""


def build(
    folder: Path,
    *,
    studies: int = 3,
    trials: int = 24,
    epochs: int = 30,
    classes: Sequence[str] = EMOTIONS,
    ensemble: bool = True,
    test: bool = True,
    gain: float = 0.021,
    seed: int = 0,
) -> Path:
    """Writes a run of `trials` trials in `studies` studies into `folder` and returns it.

    `ensemble=False` is a sweep that was not finalized; `test=False` one without a test split; `gain` is the ensemble's
    gain on test, whose interval reaches 0.012 to both sides.
    """
    random = np.random.default_rng(seed)
    (folder / "data").mkdir(parents=True)
    (folder / "sweep.yaml").write_text(
        "name: synthetic\nseed: 0\ndata: {path: faces.csv}\nmodels: [{name: simple_cnn}]\n"
    )
    rows = [_trial(folder, random, i, MODELS[i % studies], epochs, classes) for i in range(trials)]
    _table(folder / "trials.csv", rows)
    _data(folder / "data", random, classes, test)
    if ensemble:
        good = sorted((r for r in rows if r["score"] != ""), key=lambda r: -float(str(r["score"])))
        members = _leaderboard(folder, good)
        result = _ensemble(random, members, classes)
        if test:
            result["test"] = _test(random, str(good[0]["trial"]), classes, gain)
        (folder / "ensemble.json").write_text(json.dumps(result))
        _pictures(folder / "report", random, classes, result)
    return folder


def _trial(
    folder: Path, random: np.random.Generator, index: int, model: str, epochs: int, classes: Sequence[str]
) -> dict[str, object]:
    """One trial's folder and its row of trials.csv; every ninth trial fails, every third is stopped."""
    name = f"{model}-{index:03d}"
    settings = _settings(random, index, model, epochs)
    status = "failed" if index % 9 == 7 else "stopped" if index % 3 == 1 else "finished"
    ran = (
        2 if status == "failed" else int(random.integers(3, max(4, epochs * 2 // 3))) if status == "stopped" else epochs
    )
    place = folder / "trials" / name
    place.mkdir(parents=True)
    (place / "settings.json").write_text(
        json.dumps({"trial": name, "study": model, "settings": settings, "signature": f"{index:08x}"})
    )
    history = _history(random, settings, ran, classes)
    _table(place / "history.csv", history)
    best = max(history, key=lambda row: row["macro_f1"])
    row: dict[str, object] = {"trial": name, "study": model, "model": model, "status": status, "reason": ""}
    row |= {"signature": f"{index:08x}", "epochs": ran, "best_epoch": best["epoch"], "score": best["macro_f1"]}
    row |= {metric: best[metric] for metric in METRICS}
    if status == "failed":
        row |= {"reason": "ValueError: loss became <nan> in epoch 3", "best_epoch": "", "score": ""}
        row |= dict.fromkeys(METRICS, "")
        (place / "error.txt").write_text(ERROR)
    elif status == "stopped":
        row["reason"] = "asha" if index % 2 else "patience: no better for 5 epochs"
    row |= {"seconds": sum(r["seconds"] for r in history), "images_per_second": best["images_per_second"]}
    return row | {"parameters": 120_000 * (1 + index % 5), "settings": json.dumps(settings)}


def _settings(random: np.random.Generator, index: int, model: str, epochs: int) -> dict[str, object]:
    rate = round(float(10 ** random.uniform(-4, -1)), 6)
    optimizer = {"name": "adamw", "learning_rate": rate, "weight_decay": round(float(10 ** random.uniform(-5, -2)), 7)}
    if index % 2:
        optimizer = {"name": "sgd", "learning_rate": rate, "momentum": 0.9, "nesterov": True}
    return {
        "model": {
            "name": model,
            "width": int(random.choice([32, 48, 64])),
            "dropout": round(random.uniform(0.1, 0.5), 3),
        },
        "epochs": epochs,
        "batch_size": int(random.choice([64, 128])),
        "optimizer": optimizer,
        "schedule": {"name": "cosine", "warmup_epochs": 3} if index % 3 else {"name": "step", "factor": 0.5},
        "loss": {"name": "cross_entropy", "label_smoothing": round(random.uniform(0, 0.1), 3)},
        "class_weight": {"name": str(random.choice(["none", "sqrt", "balanced"]))},
        "augment": [{"name": "flip"}, {"name": "rotate", "degrees": 10.0}],
        "early_stopping": {"name": "patience", "epochs": 5},
        "seed": int(random.integers(2**31)),
    }


def _history(
    random: np.random.Generator, settings: dict[str, object], epochs: int, classes: Sequence[str]
) -> list[dict[str, float]]:
    optimizer = settings["optimizer"]
    assert isinstance(optimizer, dict)
    distance = abs(np.log10(optimizer["learning_rate"]) + 2.5)
    limit, pace = 0.68 - 0.09 * distance + random.normal(0, 0.015), random.uniform(0.08, 0.3)
    history = []
    for epoch in range(1, epochs + 1):
        score = float(limit * (1 - np.exp(-pace * epoch) * 0.8) + random.normal(0, 0.006))
        row: dict[str, float] = {"epoch": epoch, "seconds": 11.5 + random.random(), "images_per_second": 2400.0}
        row |= {"data_wait": 0.01, "learning_rate": optimizer["learning_rate"], "train_loss": 1.9 - 1.5 * score}
        row |= {"train_accuracy": score + 0.004 * epoch, "accuracy": score + 0.03, "macro_f1": score}
        row |= {"balanced_accuracy": score - 0.005, "log_loss": 2.1 - 1.7 * score + 0.004 * epoch}
        history.append(row | {f"recall_{name}": score for name in classes})
    return history


def _data(folder: Path, random: np.random.Generator, classes: Sequence[str], test: bool) -> None:
    splits = {"train": 28709, "validation": 3230, "selection": 359} | ({"test": 3589} if test else {})
    share = random.dirichlet(np.full(len(classes), 4.0))
    counts = {split: [max(1, int(n * part)) for part in share] for split, n in splits.items()}
    manifest = {
        "fingerprint": "5f1c",
        "source": "faces.csv",
        "format": "kaggle_csv",
        "image_shape": [48, 48, 1],
        "classes": list(classes),
        "splits": {
            split: {"images": sum(n), "classes": dict(zip(classes, n, strict=True))} for split, n in counts.items()
        },
        "quarantined": {"undecodable": 2, "blank": 11},
        "duplicates": {"images": 1853, "groups": 1236, "conflicting_labels": 57},
        "leaks": {"validation": 321, "selection": 12, "test": 340, "dropped_from_train": 0},
        "seconds": 14.2,
        "versions": {"emoray": "0.1.0"},
        "folder": "cache/5f1c",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    bad = [{"file": "faces.csv", "row": 7 * i, "reason": "undecodable" if i < 2 else "blank"} for i in range(13)]
    _table(folder / "quarantine.csv", bad)


def _leaderboard(folder: Path, good: list[dict[str, object]]) -> list[dict[str, object]]:
    weights = [0.41, 0.27, 0.2, 0.12][: len(good)]
    rows: list[dict[str, object]] = []
    for rank, trial in enumerate(good[:8], start=1):
        score = float(str(trial["macro_f1"])) - 0.004
        row: dict[str, object] = {
            "rank": rank,
            "trial": trial["trial"],
            "study": trial["study"],
            "model": trial["model"],
        }
        row |= {"score": trial["score"], "selection_accuracy": score + 0.03, "selection_macro_f1": score}
        row |= {"selection_log_loss": 1.02, "weight": weights[rank - 1] if rank <= len(weights) else 0.0}
        row |= {"temperature": 1.1 + 0.1 * rank, "parameters": trial["parameters"], "epochs": trial["epochs"]}
        rows.append(row | {"seconds": trial["seconds"]})
    _table(folder / "leaderboard.csv", rows)
    return [row for row in rows if row["weight"]]


def _ensemble(
    random: np.random.Generator, members: list[dict[str, object]], classes: Sequence[str]
) -> dict[str, object]:
    methods = {}
    for name in ("uniform", "greedy", "log_loss", "stacking"):
        gain = 0.0 if name == "uniform" else random.uniform(0.0, 0.02)
        methods[name] = {
            "in_sample": 0.69 + 1.5 * gain,
            "cross_fitted": 0.68 + gain,
            "gain_over_single": _interval(0.01 + gain, 0.014),
            "gain_over_uniform": _interval(gain, 0.009),
            "in_sample_gain": 0.02 + 1.5 * gain,
        }
    keys = ("trial", "model", "weight", "temperature")
    return {
        "metric": "macro_f1",
        "method": "log_loss",
        "recommended": "ensemble",
        "use": "auto",
        "members": [{key: member[key] for key in keys} for member in members],
        "candidates": [
            {"name": member["trial"]} | {key: member[key] for key in (*keys, "study")} for member in members
        ],
        "left_out": [{"name": "vgg-007", "reason": "trials/vgg-007/checkpoint/best.npz is damaged or cut off"}],
        "comparison": _comparison(random, members),
        "label_issues": _label_issues(classes),
        "classes": list(classes),
        "methods": methods,
        "selection_images": 359,
    }


def _comparison(random: np.random.Generator, members: list[dict[str, object]]) -> dict[str, object]:
    n = len(members)
    agreement = np.clip(random.uniform(0.6, 0.9, (n, n)), 0, 1)
    agreement = (agreement + agreement.T) / 2
    np.fill_diagonal(agreement, 1.0)
    listed = []
    for member, row in zip(members, agreement, strict=True):
        before = {"log_loss": 1.1, "ece": 0.09, "brier": 0.5}
        scores = {"accuracy": 0.6 + random.uniform(0, 0.05), "macro_f1": 0.55 + random.uniform(0, 0.05)}
        told = {"name": member["trial"], "study": member["study"], **scores, "log_loss": 1.1, "before": before}
        after = {key: 0.9 * value for key, value in before.items()}
        listed.append(told | {"after": after, "disagreement": float(1 - (row.sum() - 1) / max(1, n - 1))})
    return {"listed": listed, "agreement": agreement.tolist()}


def _label_issues(classes: Sequence[str]) -> dict[str, object]:
    issue = {"index": 0, "file": "faces.csv", "row": 3, "given": classes[0], "suggested": classes[-1], "margin": 0.6}
    pairs = [{"given": classes[0], "suggested": classes[-1], "images": 2}]
    return {"images": 359, "count": 2, "share": 0.08, "pairs": pairs, "surest": [issue, issue]}


def _pictures(folder: Path, random: np.random.Generator, classes: Sequence[str], ensemble: dict[str, object]) -> None:
    """What finalize draws: the pictures of single images, and what is inside of each candidate's architecture."""
    small = pictures.uri(random.integers(0, 256, (12, 12, 1), dtype=np.uint8))
    strip = pictures.uri(random.integers(0, 256, (16, 150, 3), dtype=np.uint8))
    folder.mkdir()
    test = ensemble.get("test")
    told: dict[str, object] = {"label_issues": [small] * 2, "examples": {name: [small] * 8 for name in classes}}
    told["mistakes"] = [small] * len(test["mistakes"]) if isinstance(test, dict) else []
    (folder / "pictures.json").write_text(json.dumps(told))
    candidates = ensemble["candidates"]
    assert isinstance(candidates, list)
    for candidate in candidates:
        stage = {"path": "stage1/relu", "size": [24, 24], "channels": 16, "strip": strip}
        seen = {"picture": strip, "row": 3, "predicted": classes[0], "confidence": 0.8}
        listed = [
            {"name": name, "row": 1, "right_share": 0.5, "image": small, "stages": [stage] * 3}
            | ({"right": seen} if i else {})
            | {"wrong": seen, "average": {"picture": strip, "images": 48}}
            for i, name in enumerate(classes)
        ]
        inside = {"key": "1", "study": candidate["study"], "name": candidate["trial"], "model": candidate["model"]}
        inside |= {"method": "LayerCAM", "stage": {"path": "stage3/relu", "size": [6, 6]}, "classes": listed}
        inside |= {"dead": [{"path": "stem/conv", "filters": 16, "dead": 3}], "dead_images": 256}
        inside["filters"] = {"picture": strip, "shown": 16, "filters": 16, "size": [3, 3]}
        (folder / candidate["study"]).mkdir(exist_ok=True)
        (folder / candidate["study"] / "inside.json").write_text(json.dumps(inside))


def _test(random: np.random.Generator, single: str, classes: Sequence[str], gain: float) -> dict[str, object]:
    n = len(classes)
    confusion = random.integers(4, 40, (n, n)) + np.diag(random.integers(150, 420, n))
    confidence = np.linspace(0.2, 0.98, 10)
    bins = [[float(c), float(c - 0.06 * (1 - c)), int(300 * c) + 40] for c in confidence]
    bad = {"row": 12, "file": "faces.csv", "label": classes[0], "predicted": classes[-1], "confidence": 0.97}
    return {
        "images": int(confusion.sum()),
        "best_single": {"trial": single} | {metric: _interval(0.671, 0.015) for metric in METRICS},
        "ensemble": {metric: _interval(0.671 + gain, 0.015) for metric in METRICS},
        "gain": {metric: _interval(gain, 0.012) for metric in METRICS},
        "confusion": confusion.tolist(),
        "calibration": {
            "ece_before": 0.081, "ece_after": 0.019, "brier_before": 0.47, "brier_after": 0.44, "bins": bins,
        },
        "mistakes": [bad],
    }  # fmt: skip


def _interval(estimate: float, half: float) -> dict[str, float]:
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half}


def _table(path: Path, rows: Sequence[dict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
