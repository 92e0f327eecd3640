"""Whether a search can be done as a sweep file asks: algorithms, schedulers and first settings against the spaces."""

import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from emoray import checks, notation, pins, registry, space
from emoray.problems import Problems
from emoray.text import counted

AnyStudy = TypeVar("AnyStudy", bound=Any)


def check(search: Any, studies: Sequence[Any], problems: Problems) -> None:
    """Note what the algorithm or the scheduler of `search` (SearchSettings) cannot do with the studies' spaces."""
    if search.algorithm is not None:
        for study in studies:
            for reason in _unfit(search.algorithm, study.space):
                problems.add("search.algorithm", f"{reason.replace('SPACE', f'the space of {study.name}')}")
        if search.algorithm.get("sampler") == "gp" and importlib.util.find_spec("torch") is None:
            problems.add(
                "search.algorithm.sampler",
                "gp needs the package torch, which is not installed: pip install 'emoray[gp]', or use tpe",
            )
    if search.scheduler is not None and search.scheduler["name"] == "pbt":
        for study in studies:
            drawn = [place for place, _ in space.samplers(study.space["model"], "model")]
            if drawn:
                problems.add(
                    "search.scheduler",
                    f"pbt cannot take the space of {study.name}: {', '.join(drawn)} is drawn, and weights can only be "
                    "taken over between equal models; give it one value, or make a study of each",
                )


def with_first(
    studies: Sequence[AnyStudy], first: Sequence[Mapping[str, Any]], train_keys: Sequence[str], problems: Problems
) -> tuple[AnyStudy, ...]:
    """The studies with the settings that `search.first` names for them."""
    found: dict[str, list[Mapping[str, Any]]] = {study.name: [] for study in studies}
    for i, entry in enumerate(first if studies else ()):  # without a study there is nothing to hold them against
        place = f"search.first[{i}]"
        named = entry.get("study", entry.get("name"))
        study = next((study for study in studies if study.name == named), None)
        if study is None:
            hint = registry.suggestion(str(named), list(found)) if named is not None else f"one of {', '.join(found)}"
            problems.add(place, f"name the study that it is for with 'study: ...': {hint}")
            continue
        model = {key: value for key, value in entry.items() if key not in (*train_keys, "study", "name")}
        train = {key: value for key, value in entry.items() if key in train_keys}
        try:
            found[study.name].append(dict(pins.pinned(study.space, train | ({"model": model} if model else {}))))
        except ValueError as error:
            if not problems.below("models", "train"):  # else the space is not what is meant
                problems.add(place, str(error))
    for study in studies:
        if (named := len(found[study.name])) > study.trials:
            has = counted(study.trials, "trial")
            problems.add("search.first", f"{named} settings are for {study.name}, which has {has}: give it more trials")
    return tuple(dataclasses.replace(study, first=tuple(found[study.name])) for study in studies)


def tracking(written: Any, problems: Problems, components: checks.Components) -> Mapping[str, Any]:
    """The tracking server that a file names, noted where its client is not installed."""
    if notation.is_sampler(written):
        problems.add("tracking", "nothing can be drawn here: it is one value for the whole sweep")
        return {"name": "none"}
    named = checks.component("tracking", written, "tracking", problems, components)
    if named and named["name"] == "mlflow" and importlib.util.find_spec("mlflow") is None:
        problems.add("tracking", "mlflow is not installed: pip install 'emoray[mlflow]'")
    return named


def _unfit(algorithm: Mapping[str, Any], searched: space.Tree) -> Iterator[str]:
    """Why an algorithm cannot take a space, with SPACE for its name."""
    if algorithm["name"] == "grid":
        if places := space.continuous(searched):
            yield (
                f"grid cannot take SPACE: {', '.join(places)} is continuous; use choice, randint or quniform there, "
                "or another algorithm"
            )
    elif algorithm.get("sampler") == "cmaes":
        if places := space.choices(searched):
            yield f"cmaes cannot take SPACE: {', '.join(places)} is a choice, and it draws numbers alone; use tpe"
        elif len(list(space.samplers(searched))) < 2:
            yield "cmaes cannot take SPACE: it needs two numbers or more to draw; use tpe"
    elif algorithm.get("sampler") == "gp" and (places := space.nested(searched)):
        yield f"gp cannot take SPACE: {', '.join(places)} exists only in an option of a choice; use tpe"
