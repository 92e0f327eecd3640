"""Every component with its settings: what `--list` prints and docs/components.md holds."""

import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emoray import registry, settings
from emoray.registry import REQUIRED, Component, Setting

TITLES = {
    "models": "Models (`models: [{name: ...}]`)",
    "losses": "Losses (`train.loss`)",
    "optimizers": "Optimizers (`train.optimizer`)",
    "schedules": "Schedules of the learning rate (`train.schedule`)",
    "augment": "Augmentation (`train.augment`, a list)",
    "class_weights": "Class weights (`train.class_weight`)",
    "stopping": "Early stopping of one trial (`train.early_stopping`)",
    "algorithms": "Search algorithms (`search.algorithm`)",
    "schedulers": "Stopping of poor trials (`search.scheduler`)",
    "tracking": "Tracking servers (`tracking`)",
    "ensemble": "Ensemble methods (`finalize.ensemble`)",
}


def text(sweep_file: str | None = None) -> str:
    """The catalogue for a terminal, with the components of a sweep file's own modules where one is named."""
    modules, folder = _own_modules(sweep_file)
    lines = []
    for family, title in TITLES.items():
        lines.append(title)
        for name, component in sorted(registry.members(family, modules, folder).items()):
            lines.append(f"  {name}  {component.summary}")
            lines += [f"      {setting(s)}" for s in component.settings.values()]
        lines.append("")
    return "\n".join(lines).rstrip()


def setting(described: Setting) -> str:
    """`gamma: NonNegative = 2.0`, as a sweep file would write the default."""
    default = "(required)" if described.default is REQUIRED else f"= {json.dumps(described.default)}"
    return f"{described.name}: {described.written} {default}"


def markdown() -> str:
    """The catalogue as docs/components.md."""
    parts = [
        "# Components\n\nWhat a sweep file may name. Made from signatures and docstrings by"
        " `python -m emoray.catalogue`. The types of settings:\n",
        _types(),
    ]
    for family, title in TITLES.items():
        members = registry.members(family)
        parts.append(f"## {title}\n")
        parts += _shared(family, members)
        parts += [_section(c) for _, c in sorted(members.items())]
    return "\n".join(parts)


def _types() -> str:
    """A table of what each type of a setting takes."""
    named = {name: t for name, t in vars(settings).items() if typing.get_origin(t) is typing.Annotated}
    lines = [f"| `{name}` | {_range(wanted)} |" for name, wanted in sorted(named.items())]
    return "\n".join(["| type | takes |", "|---|---|", *lines, ""])


def _range(wanted: Any) -> str:
    """`a whole number, at least 1`."""
    (field,) = wanted.__metadata__
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    limits = [
        f"{word} {getattr(o, name):g}" for o in field.metadata for name, word in words.items() if hasattr(o, name)
    ]
    return f"{'a whole number' if wanted.__origin__ is int else 'a number'}, {' and '.join(limits)}"


def _shared(family: str, members: Mapping[str, Component]) -> list[str]:
    """What holds for all the members of a module that has several."""
    parts = []
    for module, rule in registry.rules(family).items():
        names = sorted(name for name, component in members.items() if component.module == module)
        if len(names) > 1:
            of = f"{', '.join(f'`{name}`' for name in names)}: " if len(names) < len(members) else ""
            parts.append(f"{of}{rule}\n")
    return parts


def _section(component: Component) -> str:
    lines = [f"### `{component.name}`\n", f"{component.described}\n"]
    if component.settings:
        lines += ["| setting | type | default |", "|---|---|---|"]
        for s in component.settings.values():
            default = "required" if s.default is REQUIRED else f"`{json.dumps(s.default)}`"
            lines.append(f"| `{s.name}` | `{s.written.replace('|', chr(92) + '|')}` | {default} |")
        lines.append("")
    return "\n".join(lines)


def _own_modules(sweep_file: str | None) -> tuple[tuple[str, ...], Path | None]:
    if sweep_file is None:
        return (), None
    from emoray import config

    loaded = config.load(sweep_file)
    return loaded.components, loaded.folder


if __name__ == "__main__":
    print(markdown(), end="")
