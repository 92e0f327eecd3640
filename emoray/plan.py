"""What a sweep will do, told before it does it: `--dry-run` and the first lines of every sweep."""

import itertools
import math
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from emoray import forecast, notation, overview, ownership, placement, runs, space, storage, trials, weights
from emoray.config import Sweep
from emoray.data import splits
from emoray.data.plan import Source
from emoray.errors import UserError
from emoray.placement import Cluster
from emoray.run_folder import RunFolder
from emoray.studies import Studies
from emoray.study_settings import Study
from emoray.text import counted
from emoray.trial_state import FAILED

_ASKED_AT_ONCE = 8
_MOST_VALUES = 1000
"""Of a range, as many as image sizes may have."""
_MODES = {"memory": "shared in memory", "stream": "streamed by Ray Data"}


def describe(sweep: Sweep, machine: Cluster, source: Source) -> str:
    """The plan for a source of data as text. Raises UserError where the resources do not suffice."""
    image_bytes = training_bytes(sweep, source)
    mode = placement.mode(sweep, image_bytes, machine)
    slots = placement.slots(sweep, machine, mode)
    size = f"{sweep.data.image_size}x{sweep.data.image_size} {sweep.data.channels}"
    count = f"{source.images:,} images" if source.images else f"about {source.estimate:,} images"
    limited = f", at most {sweep.data.limit:,} of them to train on" if sweep.data.limit else ""
    scheduler, algorithm = sweep.search.scheduler, sweep.search.algorithm
    keep = sweep.finalize.keep
    best = f"best {keep} checkpoints" if keep > 1 else "best checkpoint"
    best_trials = f"best {keep}" if keep > 1 else "best trial"
    price = sweep.search.price_per_hour
    lines = [
        f"sweep      {sweep.name}, seed {sweep.seed}, into {sweep.storage}/",
        f"data       {source.name} ({source.format}): {count}, used as {size}, {_MODES[mode]}" + limited,
        f"split      {_split(sweep)}",
        f"search     {_component(algorithm)}, early stopping by {_component(scheduler)}, on {sweep.search.metric}",
        *(_study(sweep, study, mode) for study in sweep.studies),
        *_shares(sweep),
        f"at most    {_most(sweep)}",
        f"resources  {machine.cpus:g} CPUs and {machine.gpus:g} GPUs: {at_once(sweep, machine, slots, mode)}",
        f"{'disk' if isinstance(storage.at(sweep.storage), Path) else 'bucket':<11}"
        f"checkpoints of the {best_trials}, of the best of each study and of {counted(slots, 'running trial')} are "
        "kept, and what finished trials would go on from" + _limit(sweep),
        *([] if price is None else [f"money      at {price:g} an hour; --measure tells how much"]),
        f"finalize   {best}, ensemble by {_component(sweep.finalize.ensemble)}",
        *doubts(sweep, machine, slots, mode, image_bytes),
    ]
    return "\n".join(lines)


def doubts(sweep: Sweep, machine: Cluster, slots: int, mode: str, image_bytes: float) -> list[str]:
    """What can be done but is hardly meant, a line each."""
    return [f"doubtful   {doubt}" for doubt in forecast.doubts(sweep, slots, mode, image_bytes, machine)]


def going_on(sweep: Sweep, folder: RunFolder, retry_failed: bool) -> str:
    """What resuming a run would do with its trials, and how many would come. Nothing is written.

    The data have been compared before. Raises UserError where the run cannot be resumed now.
    """
    ownership.check_free(folder.path)
    table = trials.restore(folder, sweep.components, trials.Unwritten)
    data = "the data unchanged" if folder.manifest.exists() else "no data read yet"
    told = f"{folder.path}/: {overview.standing(Studies(sweep, table, retry_failed))}; {data}"
    return "\n".join(f"resume     {line}" for line in (told, *runs.changed(folder, sweep)))


def check_failed(folder: RunFolder) -> None:
    """Raises UserError where no trial of a run has failed: there is none to run again."""
    if not any(trial.status == FAILED for trial in trials.restore(folder)):
        raise UserError(f"--retry-failed: no trial of {folder.path}/ has failed, so there is none to run again")


def measured(sweep: Sweep, costs: Mapping[str, forecast.Measured], slots: int) -> str:
    """The rest of the plan, from what was measured. Raises UserError where the disk does not suffice."""
    needed, taken = forecast.disk(sweep, costs, slots)
    place = storage.at(sweep.storage)
    free = shutil.disk_usage(_existing(place)).free if isinstance(place, Path) else math.inf  # a bucket has no end
    forecast.check_disk(sweep, needed, free)
    likely, most = forecast.hours(sweep, costs, slots)
    workers = {study.name: study.resources.workers for study in sweep.studies}
    lines = [
        f"measured   {name}: {cost.epoch_seconds:,.1f} s an epoch, {cost.images_per_second:,.0f} images/s, "
        f"{cost.parameters:,} parameters, in the middle of its space"
        + (f"; for {workers[name]} workers, reckoned from one" if workers[name] > 1 else "")
        for name, cost in costs.items()
    ]
    lines.append(f"disk       {forecast.size(needed)} of checkpoints at least, {forecast.size(taken)} at most")
    lines.append(f"time       about {_hours(likely)}, {_hours(most)} at most, for {slots} at once and the trials alone")
    if (price := sweep.search.price_per_hour) is not None:
        lines.append(f"money      about {likely * price:,.2f}, {most * price:,.2f} at most, at {price:g} an hour")
    return "\n".join(lines)


def at_once(sweep: Sweep, machine: Cluster, slots: int, mode: str) -> str:
    """How many trials run at once, and what bounds them."""
    total = forecast.total(sweep)
    told = f"{counted(min(slots, total), 'trial')} at once"
    if total < slots:
        return f"{told}, since there are no more"
    if slots == sweep.search.max_concurrent:
        return f"{told}, by search.max_concurrent"
    taken = {study.name: placement.takes(study.resources, machine, mode) for study in sweep.studies}
    largest = max(taken, key=lambda name: (taken[name].gpus, taken[name].cpus))
    gpus, cpus = taken[largest].gpus, taken[largest].cpus
    kind, wanted = ("GPU", gpus) if gpus and machine.gpus // gpus == slots else ("CPU", cpus)
    of = f" of {largest}" if len({study.resources for study in sweep.studies}) > 1 else ""
    return f"{told}, since a trial{of} takes {wanted:g} {kind}{'s' if wanted > 1 else ''}"


def check_weights(sweep: Sweep) -> None:
    """Raises UserError for pretrained weights that cannot be had: before the sweep starts, not in its first trial."""
    if missing := list(unbuildable(sweep)):
        listed = [f"  {study.name}: {reason}" for study, reason in missing]
        raise UserError("\n".join(["pretrained weights are missing:", *listed]))


def unbuildable(sweep: Sweep) -> Iterator[tuple[Study, str]]:
    """The studies with models that cannot be built for want of their weights, or at their sizes, each with why."""
    wanted = [(study, built) for study in sweep.studies for built in _built(study.space["model"])]
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:  # a server that is not reached is waited for
        told = pool.map(_unbuildable, [built for _, built in wanted])
        missing = {(study.name, why): study for (study, _), why in zip(wanted, told, strict=True) if why}
    for (_, why), study in missing.items():
        yield study, why


def training_bytes(sweep: Sweep, source: Source) -> float:
    """About what the images to train on will take; how many there are, is known when all have been read."""
    data, split = sweep.data, sweep.data.split
    share = splits.training_share(split.validation, split.selection, split.test)
    images = min(share * (source.images or source.estimate or 0), data.limit or math.inf)
    return images * data.image_size**2 * (3 if data.channels == "rgb" else 1)


def _built(model: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of what decides which file of weights a model needs, and whether it can be built at all."""
    keys = [key for key in ("weights", "image_size", "alpha") if key in model]
    if "weights" not in keys or any(model[key] is None for key in keys[1:]):  # None: what it was set to is refused
        return
    frozen = max(space.ends(model.get("frozen_epochs", 0)), default=0)
    for values in itertools.product(*(_values(model[key]) for key in keys)):
        yield {"name": model["name"], **dict(zip(keys, values, strict=True)), "frozen_epochs": frozen}


def _values(tree: space.Tree) -> list[Any]:
    """What a setting may be; of a range that cannot be counted its ends and its middle."""
    if isinstance(tree, space.Choice):
        return [value for option in tree.options for value in _values(option)]
    if isinstance(tree, space.Range) and (counted := tree.values()) is not None:
        return list(counted[:_MOST_VALUES])
    if isinstance(tree, space.SAMPLERS):
        return [*space.ends(tree), space.draw(tree, lambda _, sampler: space.at(sampler, 0.5))]
    return [tree]


def _unbuildable(model: Mapping[str, Any]) -> str:
    """Why a model cannot be built; empty where it can."""
    try:
        weights.check(model)
    except UserError as error:
        return str(error).removeprefix("models: ")
    return ""


def _draws(study: Study) -> Iterator[str]:
    """What is drawn in a study, a line each; what is fixed stands in the run folder's sweep.yaml."""
    for place, sampler in dict(space.samplers(study.space)).items():
        if isinstance(sampler, space.Choice):
            yield f"{place}: {', '.join(sampler.labels())}"
        else:
            ((name, ends),) = notation.written(sampler).items()
            yield f"{place}: {name} {', '.join(f'{end:g}' for end in ends)}"


def _study(sweep: Sweep, study: Study, mode: str) -> str:
    resources = study.resources
    several = f"{resources.fewest} to {resources.workers}" if resources.fewest else f"{resources.workers}"
    takes = f"{several} workers of " if resources.workers > 1 else ""
    takes += f"{resources.cpus_per_worker:g} CPU"
    takes += f" + {resources.gpus_per_worker:g} GPU" if resources.gpus_per_worker else ""
    takes += f" + {resources.data_cpus:g} CPU for data" if mode == "stream" else ""
    lines = [
        f"study      {study.name}: {counted(study.trials, 'trial')} of up to {counted(study.epochs, 'epoch')}, "
        f"{takes} each, from a space of {forecast.settings(space.size(study.space))}",
        *(f"             {line}" for line in _draws(study)),
    ]
    if judged := _judged(sweep, study):
        lines.insert(1, f"           {judged}")
    if study.first:
        lines.insert(1, f"           {len(study.first)} of them with settings from search.first")
    return "\n".join(lines)


def _judged(sweep: Sweep, study: Study) -> str:
    """When the scheduler judges a study's trials."""
    scheduler = sweep.search.scheduler
    brackets = forecast.judged(sweep, study)
    if not any(brackets):
        return ""
    if scheduler["name"] == "median":
        return f"judged after each epoch from {brackets[0][0]}"
    listed = ["; ".join(", ".join(str(epoch) for epoch in bracket) or "never" for bracket in brackets)]
    verb = "wait for each other and are compared" if scheduler["name"] == "pbt" else "judged"
    return f"{verb} after epochs {listed[0]}"


def _shares(sweep: Sweep) -> Iterator[str]:
    """How the better studies get more trials, where they do."""
    rounds = forecast.share_rounds(sweep)
    if rounds:
        later = [f"{counted(trials, 'trial')} for the best {studies}" for trials, studies in rounds[1:] if trials]
        then = f", then {', '.join(later)}" if later else ", and none is left for the better ones"
        yield f"share      {counted(rounds[0][0], 'trial')} for all {rounds[0][1]} studies in proportion{then}"


def _most(sweep: Sweep) -> str:
    each = forecast.at_most(sweep, lambda study: study.epochs)
    likely = [forecast.expected_epochs(sweep, study) for study in sweep.studies]
    told = f"{counted(len(each), 'trial')}, {counted(round(sum(each)), 'epoch')}"
    total = None if None in likely else sum(epochs for epochs in likely if epochs is not None)
    if total is not None and round(total) < sum(each):
        name = sweep.search.scheduler["name"]
        why = [*([name] if name != "none" else []), *(["equal shares"] if forecast.share_rounds(sweep) else [])]
        told += f"; about {total:,.0f} epochs are expected with {' and '.join(why)}"
    return told


def _limit(sweep: Sweep) -> str:
    limit = sweep.search.storage_limit
    return "; --measure tells how much" if limit is None else f", within {forecast.size(limit)}"


def _hours(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{hours * 60:,.0f} minutes"


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.absolute().parent)


def _split(sweep: Sweep) -> str:
    split = sweep.data.split
    return f"validation {split.validation}, selection {split.selection:g}, test {split.test}"


def _component(settings: object) -> str:
    assert isinstance(settings, dict)
    unused = ("name", "multivariate") if settings.get("sampler") in ("cmaes", "gp") else ("name",)
    rest = ", ".join(f"{key} {value}" for key, value in settings.items() if key not in unused and value is not None)
    return f"{settings['name']} ({rest})" if rest else settings["name"]
