"""The report of a run: the seconds of each stage of `emoray finalize`, and the size of the page.

    python -m emoray.sweep benchmarks/report.yaml     # a hundred trials; or any run that was finalized
    python benchmarks/report.py runs/report

It works on a copy. The first pass has the predictions and nothing else; the second has the pictures of the models'
insides too, as `emoray finalize` has them when it runs again.
"""

import own_token  # noqa: F401

# isort: split
import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emoray import finalize, illustrations, predictions, report, sweep
from emoray.inside import jobs
from emoray.report import importance

STAGES = {
    "predictions, read": (predictions, "collect"),
    "ensemble: methods, folds, intervals": (finalize, "_ensemble"),
    "looking inside": (jobs, "look"),
    "pictures of single images": (illustrations, "write"),
    "importances": (importance, "importances"),
    "page": (report, "write"),
    "model card": (report.model_card, "write"),
}


def watch(spent: dict[str, float]) -> None:
    """From now on each stage adds its seconds to `spent`, without those of a stage within it."""
    inner = [0.0]

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            began = time.perf_counter()
            inner.append(0.0)
            try:
                return function(*arguments)
            finally:
                took = time.perf_counter() - began
                spent[stage] = spent.get(stage, 0.0) + took - inner.pop()
                inner[-1] += took

        return run

    for stage, (module, name) in STAGES.items():
        setattr(module, name, timed(stage, getattr(module, name)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the folder of a finalized run")
    arguments = parser.parse_args()
    spent: dict[str, float] = {}
    watch(spent)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        shutil.copytree(arguments.run, folder)
        shutil.rmtree(folder / "report")
        for name in ("predictions cached", "predictions and pictures cached"):
            spent.clear()
            began = time.perf_counter()
            sweep.finalize_again(folder, plain=True)
            whole = time.perf_counter() - began
            told = {stage: round(spent.get(stage, 0.0), 2) for stage in STAGES}
            told |= {"start of Ray and the rest": round(whole - sum(spent.values()), 2), "whole": round(whole, 2)}
            size = (folder / "report.html").stat().st_size / 1e6
            print(f"{name}: {json.dumps(told)}; report.html {size:.2f} MB; {os.cpu_count()} CPUs")


if __name__ == "__main__":
    main()
