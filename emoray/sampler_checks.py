"""Checking values and samplers of a sweep file against types: each option of a choice and both ends of a range."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from emoray import notation, registry, space
from emoray.problems import Problems, explain


def value(written: Any, wanted: Any, place: str, problems: Problems, default: Any = None) -> Any:
    """`written` as the type `wanted`, or the problem noted and `default`, so that the check can go on with it.

    Nothing is converted but a whole number to a float.
    """
    try:
        return registry.adapter(wanted).validate_python(written)
    except ValidationError as error:
        for at, part, allowed in explain(error, written):
            problems.add(f"{place}{at}", f"{notation.shown(part)} is not allowed: {allowed}")
    return default


def sampled(written: Any, wanted: Any, place: str, problems: Problems) -> space.Tree:
    """`written` with its samplers parsed, each option and end of them checked against the type `wanted`.

    None where anything of it is refused.
    """
    before = len(problems.noted)
    if notation.is_sampler(written):
        sampler = parsed(written, place, problems)
        if isinstance(sampler, space.Choice):
            at = f"{place}.choice"
            options = [sampled(o, wanted, f"{at}[{i}]", problems) for i, o in enumerate(sampler.options)]
            return choice(options, at, before, problems)
        if isinstance(sampler, space.Range) and not sampler.integer and _only_whole(wanted, sampler):
            ((name, ends),) = written.items()
            whole = {"uniform": "randint", "loguniform": "lograndint", "quniform": "qrandint"}[name]
            shown = ", ".join(f"{end:g}" for end in ends)
            problems.add(place, f"{name} draws fractions and it must be a whole number: use {{{whole}: [{shown}]}}")
        elif sampler is not None:
            _ends(sampler, wanted, place, problems)
        return sampler if len(problems.noted) == before else None
    if isinstance(written, list | dict) and holds_sampler(written):
        tree = _parse_inner(written, place, problems)
        for corner in space.corners(tree) if len(problems.noted) == before else ():
            value(corner, wanted, place, problems)
        return tree if len(problems.noted) == before else None
    if meant := misspelt(written):
        noted = Problems()
        value(written, wanted, place, noted)
        if noted.found:
            problems.add(place, meant)
            return None
    return value(written, wanted, place, problems)


def parsed(written: Mapping[str, Any], place: str, problems: Problems) -> space.Sampler | None:
    """The sampler that is written, or what is wrong with it noted."""
    try:
        return notation.sampler(written)
    except ValueError as error:
        problems.add(f"{place}.{next(iter(written))}", str(error))
        return None


def choice(options: Sequence[space.Tree], place: str, before: int, problems: Problems) -> space.Choice | None:
    """A choice among checked options; None where one is refused, or stands twice and would count as other settings."""
    seen: set[str] = set()
    for i, option in enumerate(options if len(problems.noted) == before else ()):
        written = json.dumps(notation.written(option), sort_keys=True)
        if written in seen:
            problems.add(f"{place}[{i}]", f"{notation.shown(notation.written(option))} stands in it twice")
        seen.add(written)
    return space.Choice(tuple(options)) if len(problems.noted) == before else None


def _ends(sampler: space.Range | space.Normal, wanted: Any, place: str, problems: Problems) -> None:
    """Both ends of a sampler against a type; those of a normal distribution stand nowhere in the file."""
    if isinstance(sampler, space.Range):
        for end in (sampler.low, sampler.high):
            value(sampler.rounded(end), wanted, place, problems)
        return
    noted = Problems()
    for end in (sampler.low, sampler.high):
        value(float(f"{end:.6g}"), wanted, "", noted)
    for told in noted.found:
        problems.add(place, f"{told.removeprefix(': ')} (an end of {{normal: [{sampler.mean:g}, {sampler.sd:g}]}})")


def misspelt(written: Any) -> str:
    """What to say of a mapping that looks like a sampler with a slip of the hand; empty for any other."""
    if not isinstance(written, Mapping) or notation.is_sampler(written):
        return ""
    if known := [key for key in written if key in notation.NAMES]:
        beside = ", ".join(f"'{key}'" for key in written if key != known[0])
        return f"a sampler stands alone: {beside} cannot stand beside '{known[0]}'"
    if len(written) != 1 or not isinstance(next(iter(written.values())), list):
        return ""
    (name,) = written
    told = registry.suggestion(name, notation.NAMES)
    return f"there is no sampler '{name}': {told}" if told.startswith("did you mean") else ""


def holds_sampler(tree: Any) -> bool:
    """Whether a sampler stands anywhere in a piece of a sweep file."""
    if notation.is_sampler(tree):
        return True
    inner = tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list) else ()
    return any(holds_sampler(child) for child in inner)


def _parse_inner(tree: Any, place: str, problems: Problems) -> space.Tree:
    if notation.is_sampler(tree):
        sampler = parsed(tree, place, problems)
        if isinstance(sampler, space.Choice):
            return space.Choice(tuple(_parse_inner(o, place, problems) for o in sampler.options))
        return sampler
    if isinstance(tree, Mapping):
        return {key: _parse_inner(child, f"{place}.{key}", problems) for key, child in tree.items()}
    if isinstance(tree, list):
        return [_parse_inner(child, f"{place}[{i}]", problems) for i, child in enumerate(tree)]
    return tree


def _only_whole(wanted: Any, sampler: space.Range) -> bool:
    """Whether a type takes no number with a fraction from within a range."""
    middle = (sampler.low + sampler.high) / 2
    try:
        registry.adapter(wanted).validate_python(middle if middle % 1 else middle + (sampler.high - middle) / 3.1)
    except ValidationError as error:
        return any(item["type"] in ("int_type", "int_from_float") for item in error.errors())
    return False
