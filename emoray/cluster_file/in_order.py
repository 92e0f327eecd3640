"""The parts of a cluster file that are in order, so that one mistake does not hide the others. Pure; notes problems.

A value of a wrong kind is taken away, a misspelt key is read as the one that was likely meant; every check runs on
what is left, and says nothing of what is wrong only because of what was taken.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft7Validator
from jsonschema.exceptions import ValidationError

from emoray.cluster_file import shapes
from emoray.problems import Problems

_MOST_ROUNDS = 10
"""Under a key that is read as another there may be such keys again."""
_EMPTY: Mapping[str, Callable[[], Any]] = {"object": dict, "array": list, "string": str}


@dataclass
class OfParts(Problems):
    """What is wrong with a file, but not what follows from what has been told already."""

    taken: set[str] = field(default_factory=set)
    """Places whose values are of a wrong kind, or are missing."""

    def add(self, place: str, message: str, word: str = "") -> None:
        """Note what is wrong at a place, unless it holds, or stands in, something that was taken away."""
        if not any(_holds(place, one) or _holds(one, place) for one in self.taken):
            super().add(place, message, word)

    def take(self, place: str, message: str) -> None:
        """Note what is wrong at a place whose value is of no use to any other check."""
        self.add(place, message)
        self.taken.add(place)

    def lacks(self, places: Iterable[str]) -> bool:
        """Whether one of these values, or an entry of such a list, was taken away."""
        return any(taken == place or taken.startswith(f"{place}[") for place in places for taken in self.taken)


def parts(config: Mapping[str, Any], schema: Mapping[str, Any], lines: dict[str, int], problems: OfParts) -> Any:
    """What a JSON schema of draft 7 finds in order of a tree; notes all the rest, and adds lines of what keys meant."""
    tree = _with_text_keys(config, "", problems)
    for _ in range(_MOST_ROUNDS):
        before = len(problems.noted), len(problems.taken)
        # Misspelt keys first: what one of them meant is not missing.
        errors = sorted(
            Draft7Validator(schema).iter_errors(tree), key=lambda one: one.validator != "additionalProperties"
        )
        renamed = [one for error in errors for one in _mend(tree, error, problems)]
        for written, meant in renamed:
            below = {at: line for at, line in lines.items() if _holds(written, at)}
            lines |= {meant + at[len(written) :]: line for at, line in below.items()}
        if not renamed and before == (len(problems.noted), len(problems.taken)):
            break
    return tree


def _holds(place: str, other: str) -> bool:
    return other == place or other.startswith((f"{place}.", f"{place}["))


def _with_text_keys(tree: Any, place: str, problems: OfParts) -> Any:
    """A copy in which nothing is shared; to Ray `no:` and `1:` are no text, of which its schema cannot say anything."""
    if isinstance(tree, list):
        return [_with_text_keys(value, f"{place}[{number}]", problems) for number, value in enumerate(tree)]
    if not isinstance(tree, Mapping):
        return tree
    kept = {}
    for key, value in tree.items():
        at = f"{place}.{key}" if place else str(key)
        if isinstance(key, str):
            kept[key] = _with_text_keys(value, at, problems)
        else:
            problems.add(at, f"to Ray the key {key!r} is no text: put it in quotes")
    return kept


def _mend(tree: Any, error: ValidationError, problems: OfParts) -> list[tuple[str, str]]:
    """Note an error of the schema and take it out of the tree; returns places of keys that are now read as others."""
    place = shapes.path(error.absolute_path)
    below = f"{place}." if place else ""
    known = error.schema.get("properties", {})
    renamed = []
    match error.validator:
        case "additionalProperties":
            shapes.keys(error.instance, known, place, problems)
            for key in [key for key in error.instance if key not in known]:
                value, meant = error.instance.pop(key), shapes.meant(key, known)
                if meant and meant not in error.instance:
                    error.instance[meant] = value
                    renamed.append((below + key, below + meant))
        case "required":
            for key in error.validator_value:
                if key not in error.instance:
                    problems.take(below + key, "it is missing")
                    if (kind := known.get(key, {}).get("type")) in _EMPTY:
                        error.instance[key] = _EMPTY[kind]()
        case _:
            problems.take(place, shapes.reason(error))
            _remove(tree, list(error.absolute_path))
    return renamed


def _remove(tree: Any, path: list[Any]) -> None:
    """Take a value away; in a list, where the numbers of the others have to stay, leave nothing in its place."""
    for key in path[:-1]:
        tree = tree[key]
    if isinstance(tree, list):
        tree[path[-1]] = ""
    else:
        tree.pop(path[-1], None)  # of which two things may be wrong
