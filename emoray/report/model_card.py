"""The model card: what a classifier is, what it was made of, how good it is for whom, and what it must not be used for.

After Mitchell et al. 2019, "Model cards for model reporting". The one rule: it says only what the run folder holds.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from emoray import advice
from emoray.report import gallery, tables
from emoray.report.answer import answer, plain, signed
from emoray.report.charts import title
from emoray.report.run import Run, interval, read
from emoray.run_folder import RunFolder, write_text
from emoray.storage import AnyPath

HERE = Path(__file__).parent
LICENCES = {
    "mobilenet": "Apache-2.0",
    "mobilenet_v2": "Apache-2.0",
    "inception_v3": "Apache-2.0",
    "efficientnet_b0": "Apache-2.0",
    "resnet50": "MIT",
    "vgg16": "CC BY 4.0",
}
"""Of the ImageNet weights, as keras.io/api/applications names their sources."""


def write(run_folder: AnyPath) -> AnyPath:
    """Writes `model_card.md` into a finalized run folder and returns its path."""
    folder = RunFolder(run_folder)
    write_text(folder.model_card, markdown(read(folder.path)))
    return folder.model_card


def markdown(run: Run) -> str:
    """The card as Markdown."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "cell": _cell,
        "decimals": plain,
        "signed": signed,
        "metric": title,
        "range": _range,
        "gain": _gain,
    }
    test = run.ensemble.get("test") or {}
    used = str(run.ensemble.get("recommended") or "ensemble")
    splits, classes = tables.class_counts(run.manifest)
    members = run.ensemble.get("members") or []
    trials = {trial.name: trial for trial in run.trials}
    return environment.get_template("model_card.md").render(
        run=run,
        answer=answer(run),
        scores={name: found for name, value in (test.get(used) or {}).items() if (found := interval(value))},
        test=test,
        used=used,
        alone=advice.alone(run.ensemble),
        left_out=tables.left_out_checkpoints(run),
        calibration=test.get("calibration") or {},
        confusion=tables.confusion(test, run.ensemble.get("classes") or run.manifest.get("classes") or ()),
        label_doubts=gallery.label_doubts(run),
        splits=splits,
        classes=classes,
        members=[(member, trials.get(str(member.get("trial")))) for member in members],
        as_json=partial(json.dumps, sort_keys=True),
        seed=(yaml.safe_load(run.sweep) or {}).get("seed"),
        pretrained=_pretrained(members, trials),
    )


def _pretrained(members: Sequence[Any], trials: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(model, weights, licence) of the members that start from trained weights."""
    found = []
    for member in members:
        model = (getattr(trials.get(str(member.get("trial"))), "settings", {}) or {}).get("model") or {}
        if weights := model.get("weights"):
            licence = LICENCES.get(str(model.get("name")), "not known")
            found.append((str(model["name"]), str(weights), licence if weights == "imagenet" else "of that file"))
    return list(dict.fromkeys(found))


def _cell(value: object) -> str:
    """A text in a Markdown table, where a bar or a line's end would break it, and as text and never as markup."""
    text = str(value).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("`", "'")
    return text.replace("<", "&lt;").replace("*", "\\*").replace("[", "\\[")


def _range(value: object) -> str:
    found = interval(value)
    return f"{plain(found.estimate)} ({plain(found.low)} to {plain(found.high)})" if found else "–"


def _gain(value: object) -> str:
    found = interval(value)
    return f"{signed(found.estimate)} ({signed(found.low)} to {signed(found.high)})" if found else "–"
