"""`--set KEY=VALUE`: values of the command line laid over a sweep file's tree, before it is checked."""

from collections.abc import Sequence
from typing import Any

from emoray import notation, registry, strict_yaml
from emoray.errors import UserError
from emoray.problems import Problems


def lay(tree: dict[str, Any], override: str, lines: dict[str, int]) -> None:
    """Lay one `KEY=VALUE` over the file's tree; a key is dotted, a list's entry is named by number or name."""
    place, equals, text = override.partition("=")
    if not equals or not place:
        raise UserError(f"--set {override}: it must be KEY=VALUE, such as --set data.path=faces/")
    value, _ = strict_yaml.load(text, f"--set {place}")
    *parents, last = place.replace("[", ".").replace("]", "").split(".")
    at: Any = tree
    stands = ""  # as the file's own problems name the place: a list's entry by its number
    for key in parents:
        key, stands = _found(at, key, place, stands)
        at = _below(at, key, place)
    last, stands = _found(at, last, place, stands)
    at[last] = value
    for stale in [known for known in lines if known == stands or known.startswith((stands + ".", stands + "["))]:
        del lines[stale]


def refuse(settings: Sequence[str], problems: Problems) -> None:
    """Raise UserError that lists what `problems` a file has by the command line's `settings`, each with its option."""
    headed = [_headed(problem, settings) for problem in problems.found]
    order = [f"--set {setting}:" for setting in settings]
    told = sorted(headed, key=lambda line: next((i for i, one in enumerate(order) if line.startswith(one)), len(order)))
    if len(told) == 1:
        raise UserError(told[0])
    if told:
        raise UserError("\n".join([f"{len(told)} mistakes on the command line:", *(f"  {line}" for line in told)]))


def _headed(problem: str, settings: Sequence[str]) -> str:
    """A problem by the option that made it, rather than by its place in the file."""
    at, _, message = problem.partition(": ")
    for setting in reversed(settings):
        key = setting.partition("=")[0]
        if (at + ".").startswith(key + ".") or (key + ".").startswith(at + "."):
            below = "" if at == key else f"{at}: "
            return f"--set {setting}: {below}{message}"
    return problem if problem.startswith("--set") else f"--set: {problem}"


def _found(at: Any, key: str, place: str, stands: str) -> tuple[Any, str]:
    """The key or the number of an entry in `at`, and the place that it makes of the one that `at` has."""
    if isinstance(at, list):
        index = _index(at, key, place)
        return index, f"{stands}[{index}]"
    return key, f"{stands}.{key}" if stands else key


def _below(at: Any, key: Any, place: str) -> Any:
    below = at[key] if isinstance(at, list) else at.setdefault(key, {})
    if below is None:
        below = at[key] = {}
    elif isinstance(at, list) and isinstance(below, str):  # a component's name stands for it with its defaults
        below = at[key] = {"name": below}
    if not isinstance(below, dict | list):
        raise UserError(f"--set {place}: '{key}' is {notation.shown(below)}, which has no keys below it")
    return below


def _index(entries: list[Any], key: str, place: str) -> int:
    if key.isdecimal() and int(key) < len(entries):
        return int(key)
    names = [(e.get("study") or e.get("name")) if isinstance(e, dict) else e for e in entries]
    if key in names:
        return names.index(key)
    raise UserError(
        f"--set {place}: there is no entry '{key}' in the list; {registry.suggestion(key, [str(n) for n in names])}"
    )
