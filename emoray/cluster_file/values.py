"""Which values a template's parameter takes, by its AllowedValues and its AllowedPattern."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_SECONDS = 5.0
_MATCH = (
    "import json, re, sys\n"
    "pattern, values = json.load(sys.stdin)\n"
    "print(json.dumps(next((value for value in values if re.fullmatch(pattern, value)), None)))\n"
)


class Unusable(ValueError):
    """A pattern is no regular expression, or one that takes for ever."""


def taken(name: str, parameter: Mapping[str, Any], values: Sequence[str]) -> str | None:
    """The first of `values` that a parameter takes, or None.

    A template may be somebody else's, and there are patterns that keep Python busy for years: they are tried in a
    process that can be ended. Raises Unusable.
    """
    offered = parameter.get("AllowedValues")
    if isinstance(offered, list):
        return next((value for value in values if value in offered), None)
    pattern = str(parameter.get("AllowedPattern", ".*"))
    try:
        re.compile(pattern)
        asked = json.dumps([pattern, list(values)])
        command = [sys.executable, "-I", "-S", "-c", _MATCH]
        done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True, timeout=_SECONDS)
    except re.error as error:
        raise Unusable(f"the AllowedPattern of {name} is no regular expression ({error})") from None
    except (subprocess.SubprocessError, OverflowError, RecursionError):
        raise Unusable(f"the AllowedPattern of {name} takes too long to try: write it simpler") from None
    found: str | None = json.loads(done.stdout)
    return found
