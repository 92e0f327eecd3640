"""What is wrong with a sweep file, and how that is put: one sentence with the place, the value and what is allowed."""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

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
    "none_required": "it may be left out",
}


_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass
class Problems:
    """What is wrong with a file: one line a problem, with the place, the value and what is allowed."""

    lines: Mapping[str, int] = field(default_factory=dict)
    noted: dict[str, int] = field(default_factory=dict)
    """Each problem once, with its line."""

    def add(self, place: str, message: str) -> None:
        line = self.lines.get(place, 0)
        text = f"line {line}: {place}: {message}" if line else f"{place}: {message}"
        self.noted.setdefault(text, line or sys.maxsize)

    @property
    def found(self) -> list[str]:
        """In the order of the file's lines, those without a line (from the command line) last."""
        return sorted(self.noted, key=lambda text: self.noted[text])


def matches(pattern: str, allowed: str) -> AfterValidator:
    """For text that must match `pattern` as a whole; `allowed` says so in words."""

    def check(written: str) -> str:
        if not re.fullmatch(pattern, written):
            raise PydanticCustomError("pattern", "{allowed}", {"allowed": allowed})
        return written

    return AfterValidator(check)


def _bytes(written: Any) -> Any:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([KMGT]?B)", written) if isinstance(written, str) else None
    if isinstance(written, str) and not found:
        raise PydanticCustomError("bytes", "{allowed}", {"allowed": "it must be bytes, or a size such as 20 GB"})
    return int(float(found[1]) * _UNITS[found[2]]) if found else written


Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=1)]
"""A number of bytes; a file may write `20 GB`."""


def ascending(allowed: str) -> AfterValidator:
    """For two numbers, the first of which is not above the second; `allowed` says so in words."""

    def check(written: list[int]) -> list[int]:
        if len(written) != 2 or written[0] > written[1]:
            raise PydanticCustomError("range", "{allowed}", {"allowed": allowed})
        return written

    return AfterValidator(check)


def explain(error: ValidationError) -> str:
    """What is allowed, in one sentence, from pydantic's list of what failed."""
    reasons = []
    for item in error.errors(include_url=False):
        if item["type"] == "literal_error":
            expected = item["ctx"]["expected"]
            reason = f"allowed: {expected.replace(' or ', ', ')}"
        elif item["type"] in _MESSAGES:
            bounds = {k: f"{v:g}" for k, v in item.get("ctx", {}).items() if _is_number(v)}
            reason = _MESSAGES[item["type"]].format(**bounds)
        else:
            reason = item["msg"][:1].lower() + item["msg"][1:]
        if reason not in reasons:
            reasons.append(reason)
    if len(reasons) > 1 and "it may be left out" in reasons:
        reasons.remove("it may be left out")
    return ", or ".join(reasons)


def _is_number(thing: Any) -> bool:
    return isinstance(thing, int | float)
