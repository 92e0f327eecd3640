"""Imports run downwards, in the direction of the data, and heavy libraries stay where they belong."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "emoray"
LAYERS = [
    ["errors", "settings", "warp", "pixels", "text", "quiet"],
    ["s3"],
    ["storage", "weights"],
    [
        "space",
        "notation",
        "registry",
        "metrics",
        "strict_yaml",
        "run_folder",
        "intact",
        "blend",
        "label_issues",
        "versions",
        "advice",
        "shares",
        "readings",
    ],
    ["problems", "pins"],
    ["sampler_checks"],
    ["checks", "search_checks", "train_checks", "overrides", "class_names"],
    ["calibration", "solvers", "bootstrap", "crossfit", "algorithms", "schedulers", "schedules", "stopping"],
    ["losses", "optimizers", "models", "augment", "class_weights", "ensemble"],
    ["study_settings"],
    ["config", "placement", "growth", "orphans", "termination"],
    ["data"],
    ["trial_state"],
    ["ownership"],
    ["trials", "runs", "population"],
    ["trial"],
    ["rounds", "retention", "forecast", "remaining"],
    ["studies", "cluster", "candidates", "held_out", "inference", "tasks", "verdict", "pictures"],
    ["overview", "leaderboard"],
    ["tracking"],
    ["plan", "display", "closing", "listing", "search", "report", "measuring", "cluster_file", "spot", "drain"],
    ["preflight"],
    ["predictions"],
    ["inside", "illustrations"],
    ["finalize", "predict"],
    ["sweep", "catalogue", "sheets"],
    ["cli"],
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
RAY = {"data", "trial", "search", "measuring", "tracking", "cluster", "cluster_file", "drain", "tasks", "orphans"}
RAY |= {"termination"}
KERAS = {"losses", "optimizers", "models", "trial", "inference", "inside"}
FILES = sorted(file for file in PACKAGE.rglob("*.py") if file.relative_to(PACKAGE).parts != ("__init__.py",))


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(file: Path) -> list[tuple[int, str]]:
    """Line and dotted name of everything that a file imports, inside functions too."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}:{node.lineno} imports relatively"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_run_downwards(file: Path) -> None:
    assert room(file) in RANK, f"{file.name} has no place among the layers"
    for line, name in imported(file):
        parts = name.split(".")
        if parts[0] != "emoray" or len(parts) < 2 or parts[1] not in RANK:
            continue
        if room(file) == "sweep" and parts[1] == "cli":
            continue  # `python -m emoray.sweep` is the command line's `sweep`
        same = parts[1] == room(file)
        assert same or RANK[parts[1]] <= RANK[room(file)], f"{file}:{line} imports {name}, which is above it"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_heavy_libraries_stay_in_their_rooms(file: Path) -> None:
    for line, name in imported(file):
        top = name.split(".")[0]
        if top == "ray":
            assert room(file) in RAY, f"{file}:{line} imports Ray"
        if top in ("keras", "tensorflow"):
            assert room(file) in KERAS, f"{file}:{line} imports {top}"
        assert not name.startswith(("tf_keras", "tensorflow.keras")), f"{file}:{line}: Keras 3 is `keras`"
        assert top not in ("pickle", "cloudpickle", "joblib", "dill"), f"{file}:{line}: nothing of ours is a pickle"
