"""`--set KEY=VALUE`: values of the command line laid over a sweep file's tree, before it is checked."""

from typing import Any

from emoray import notation, registry, strict_yaml
from emoray.errors import UserError


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
