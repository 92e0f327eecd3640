"""`--set KEY=VALUE`: values of the command line laid over a sweep file's tree, before it is checked."""

from typing import Any

from emoray import registry, strict_yaml
from emoray.errors import UserError


def lay(tree: dict[str, Any], override: str, lines: dict[str, int]) -> None:
    """Lay one `KEY=VALUE` over the file's tree; a key is dotted, a list's entry is named by number or name."""
    place, equals, text = override.partition("=")
    if not equals or not place:
        raise UserError(f"--set {override}: it must be KEY=VALUE, such as --set data.path=faces/")
    value, _ = strict_yaml.load(text, f"--set {place}")
    *parents, last = place.replace("[", ".").replace("]", "").split(".")
    at: Any = tree
    for key in parents:
        at = _step(at, key, place)
    if isinstance(at, list):
        at[_index(at, last, place)] = value
    else:
        at[last] = value
    for stale in [known for known in lines if known == place or known.startswith((place + ".", place + "["))]:
        del lines[stale]


def _step(at: Any, key: str, place: str) -> Any:
    if isinstance(at, list):
        return at[_index(at, key, place)]
    below = at.setdefault(key, {})
    if below is None:
        below = at[key] = {}
    if not isinstance(below, dict | list):
        raise UserError(f"--set {place}: '{key}' is {below!r}, which has no keys below it")
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
