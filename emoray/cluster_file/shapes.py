"""Data against a model of it: Ray's JSON schema, and botocore's shapes of what EC2 takes. Pure; notes problems."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StringShape, StructureShape
from jsonschema.exceptions import ValidationError

from emoray.problems import Problems

MOST_NAMED = 12
"""EC2 knows over a thousand instance types: of so many, only those close to what was written are named."""

_TYPES = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "boolean": (bool,),
    "float": (int, float),
    "double": (int, float),
}
_WORDS = {"string": "text", "integer": "a whole number", "long": "a whole number", "boolean": "true or false"}
_JSON_WORDS = {"object": "a mapping", "array": "a list", "number": "a number"} | _WORDS


def meant(written: Any, allowed: Iterable[Any]) -> str | None:
    """The closest of what is allowed, where one is close."""
    close = difflib.get_close_matches(str(written), sorted(str(name) for name in allowed), n=1, cutoff=0.6)
    return close[0] if close else None


def unknown(written: Any, allowed: Iterable[Any]) -> str:
    """What is allowed where `written` is not: the closest, and the others where they are few."""
    names = sorted(str(name) for name in allowed)
    close = meant(written, names)
    listed = ", ".join(names) if len(names) <= MOST_NAMED else ""
    if close:
        return f"did you mean '{close}'?" + (f" (allowed: {listed})" if listed else "")
    return f"allowed: {listed}" if listed else f"none of the {len(names)} that are allowed is close to it"


def keys(written: Mapping[Any, Any], allowed: Iterable[str], place: str, problems: Problems) -> None:
    """Note the keys of a mapping that are not among the allowed ones."""
    allowed = list(allowed)
    for key in written:
        if key not in allowed:
            problems.add(f"{place}.{key}" if place else str(key), f"there is no key '{key}': {unknown(key, allowed)}")


def path(parts: Iterable[Any]) -> str:
    """A place in a tree, written as in `a.b[1].c`."""
    told = ""
    for part in parts:
        told += f"[{part}]" if isinstance(part, int) else f".{part}" if told else str(part)
    return told


def reason(error: ValidationError) -> str:
    """What a JSON schema refuses, with the value and what is allowed."""
    if error.validator == "type":
        kinds = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
        words = [_JSON_WORDS.get(str(kind), str(kind)) for kind in kinds]
        return f"{error.instance!r} is not allowed: it must be {' or '.join(words)}"
    if error.validator == "minimum":
        return f"{error.instance!r} is not allowed: it must be at least {error.validator_value}"
    if error.validator == "enum":
        return f"{error.instance!r} is not allowed: {unknown(error.instance, error.validator_value)}"
    return str(error.message)


@lru_cache
def regions() -> Sequence[str]:
    """The regions of all of AWS, from botocore's files."""
    partitions = Loader().load_data("endpoints")["partitions"]
    return tuple(region for partition in partitions for region in partition["regions"])


@lru_cache
def service(name: str) -> ServiceModel:
    """botocore's model of an AWS service, from its files."""
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


@lru_cache
def services() -> Sequence[str]:
    """The names of the AWS services that botocore knows."""
    return tuple(Loader().list_available_services("service-2"))


def by_shape(value: Any, shape: Shape, place: str, problems: Problems) -> None:
    """Note what is wrong with an argument of an AWS call: names at any depth, kinds of values, what is missing."""
    match shape:
        case StructureShape():
            _structure(value, shape, place, problems)
        case ListShape():
            if _is(value, list, "a list", place, problems):
                for number, entry in enumerate(value):
                    by_shape(entry, shape.member, f"{place}[{number}]", problems)
        case MapShape():
            if _is(value, Mapping, "a mapping", place, problems):
                for key, entry in value.items():
                    by_shape(entry, shape.value, f"{place}.{key}", problems)
        case StringShape() if shape.enum and isinstance(value, str):
            if value not in shape.enum:
                problems.add(place, f"'{value}' is not allowed: {unknown(value, shape.enum)}")
        case _ if shape.type_name in _TYPES:
            allowed = _TYPES[shape.type_name]
            if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
                word = _WORDS.get(shape.type_name, "a number")
                problems.add(place, f"{value!r} is not allowed: it must be {word}")


def _structure(value: Any, shape: StructureShape, place: str, problems: Problems) -> None:
    if not _is(value, Mapping, "a mapping", place, problems):
        return
    keys(value, shape.members, place, problems)
    for name in shape.required_members:
        if name not in value:
            problems.add(f"{place}.{name}", "it is missing")
    for name, entry in value.items():
        if name in shape.members:
            by_shape(entry, shape.members[name], f"{place}.{name}", problems)


def _is(value: Any, kind: type, word: str, place: str, problems: Problems) -> bool:
    if isinstance(value, kind):
        return True
    problems.add(place, f"{value!r} is not allowed: it must be {word}")
    return False
