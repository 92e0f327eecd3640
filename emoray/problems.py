"""What is wrong with a sweep file, and how that is put: one sentence with the place, the value and what is allowed."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from emoray import registry
from emoray.errors import UserError
from emoray.text import counted

_MESSAGES = {
    "less_than": "it must be below {lt}",
    "less_than_equal": "it must be at most {le}",
    "greater_than": "it must be above {gt}",
    "greater_than_equal": "it must be at least {ge}",
    "int_type": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "float_type": "it must be a number",
    "bool_type": "it must be true or false",
    "string_type": "it must be text",
    "list_type": "it must be a list",
    "dict_type": "it must be a mapping",
    "too_short": "it must have {min_length} entries or more",
    "none_required": "it may be left out",
}


_FEWEST_BARE = 10**6
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass
class Problems:
    """What is wrong with a file: one line a problem, with the place, the value and what is allowed."""

    lines: Mapping[str, int] = field(default_factory=dict)
    noted: dict[str, int] = field(default_factory=dict)
    """Each problem once, with its line."""
    places: set[str] = field(default_factory=set)
    text: Sequence[str] = ()
    """The file's own lines, for what is wrong within a long value."""

    def add(self, place: str, message: str, word: str = "") -> None:
        """Note what is wrong at a place; of one that goes over several lines, at the first with `word` in it."""
        line = self._line(place, word)
        self.places.add(place)
        text = f"line {line}: {place}: {message}" if line else f"{place}: {message}"
        self.noted.setdefault(text.replace("\n", "\\n").replace("\r", "\\r"), line or sys.maxsize)

    def _line(self, place: str, word: str) -> int:
        line = self.lines.get(place, 0)
        if not word or not line:
            return line
        end = min((other for other in self.lines.values() if other > line), default=len(self.text) + 1)
        return next((at for at in range(line, end) if word in self.text[at - 1]), line)

    def below(self, *places: str) -> bool:
        """Whether anything is wrong at these places or below them."""
        return any(place.startswith(places) for place in self.places)

    def nearest(self, *places: str) -> str:
        """The first of some places that the file has; the first where it has none."""
        return next((place for place in places if place in self.lines), places[0])

    def catch(self, place: str, check: Callable[..., object], *arguments: Any) -> None:
        """Note what `check` refuses at `place`, or at the place below it that the refusal opens with."""
        try:
            check(*arguments)
        except UserError as error:
            at, colon, told = str(error).partition(": ")
            self.add(*((at, told) if colon and at.startswith(place) else (place, str(error))))

    @property
    def found(self) -> list[str]:
        """In the order of the file's lines, those without a line (from the command line) last."""
        return sorted(self.noted, key=lambda text: self.noted[text])

    def refuse(self, file: object) -> None:
        """Raise UserError that lists all that is wrong with `file`, where anything is."""
        if self.found:
            raise UserError(listed(file, self.found))


def listed(file: object, found: Sequence[str]) -> str:
    """What is wrong with a file, a line each."""
    return "\n".join([f"{file} has {counted(len(found), 'problem')}:", *(f"  {line}" for line in found)])


def matches(pattern: str, allowed: str | Sequence[str]) -> AfterValidator:
    """For text that must match `pattern` as a whole; `allowed` says so in words, or lists what does."""

    def check(written: str) -> str:
        if not re.fullmatch(pattern, written):
            told = allowed if isinstance(allowed, str) else registry.suggestion(written, allowed)
            raise PydanticCustomError("pattern", "{allowed}", {"allowed": told})
        return written

    return AfterValidator(check)


def _bytes(written: Any) -> Any:
    if isinstance(written, int) and 0 < written < _FEWEST_BARE:
        raise PydanticCustomError("bytes", "{allowed}", {"allowed": "a number alone is bytes; write a size as 20 GB"})
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([KMGT]?B)", written) if isinstance(written, str) else None
    if isinstance(written, str) and not found:
        raise PydanticCustomError("bytes", "{allowed}", {"allowed": "it must be bytes, or a size such as 20 GB"})
    return int(float(found[1]) * _UNITS[found[2]]) if found else written


Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=1)]
"""A number of bytes; a file may write `20 GB`."""


def distinct() -> AfterValidator:
    """For a list in which nothing stands twice."""

    def check(written: list[str]) -> list[str]:
        if twice := [one for i, one in enumerate(written) if one in written[:i]]:
            raise PydanticCustomError("twice", "{allowed}", {"allowed": f"'{twice[0]}' stands in it twice"})
        return written

    return AfterValidator(check)


def ascending(allowed: str) -> AfterValidator:
    """For two numbers, the first of which is not above the second; `allowed` says so in words."""

    def check(written: list[int]) -> list[int]:
        if len(written) != 2 or written[0] > written[1]:
            raise PydanticCustomError("range", "{allowed}", {"allowed": allowed})
        return written

    return AfterValidator(check)


def explain(error: ValidationError, written: Any) -> Iterator[tuple[str, Any, str]]:
    """What pydantic refused of `written`: the place in it, what stands there, and what is allowed, in one sentence."""
    refused: dict[str, tuple[Any, dict[str, None]]] = {}
    for item in error.errors(include_url=False):
        at, part = _part(written, item["loc"])
        refused.setdefault(at, (part, {}))[1][_reason(item)] = None
    if "" in refused:  # no alternative takes the whole, though one of them may take most of it
        refused = {"": (written, {reason: None for _, reasons in refused.values() for reason in reasons})}
    for at, (part, reasons) in refused.items():
        if len(reasons) > 1:
            reasons.pop("it may be left out", None)
        yield at, part, ", or ".join(reasons)


def _part(written: Any, place: Sequence[int | str]) -> tuple[str, Any]:
    """Where pydantic's `place` leads in `written`: in words of a sweep file, and what stands there."""
    at = ""
    for key in place:  # which names the alternatives that were tried, too
        if isinstance(written, Mapping) and key in written:
            at, written = f"{at}.{key}", written[key]
        elif isinstance(written, list) and isinstance(key, int):
            at, written = f"{at}[{key}]", written[key]
    return at, written


def _reason(item: Any) -> str:
    if item["type"] == "literal_error":
        return f"allowed: {item['ctx']['expected'].replace(' or ', ', ')}"
    if item["type"] in _MESSAGES:
        bounds = {k: f"{v:.15g}" for k, v in item.get("ctx", {}).items() if _is_number(v)}
        return _MESSAGES[item["type"]].format(**bounds)
    return str(item["msg"][:1].lower() + item["msg"][1:])


def _is_number(thing: Any) -> bool:
    return isinstance(thing, int | float)
