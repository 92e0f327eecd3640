"""Every component with its settings: what `--list` prints and docs/components.md holds."""

import json
from pathlib import Path

from emoray import registry
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
        "# Components\n\nWhat a sweep file may name. Made from the signatures by `python -m emoray.catalogue`; the"
        " types stand in `emoray/settings.py`.\n"
    ]
    for family, title in TITLES.items():
        parts.append(f"## {title}\n")
        parts += [_section(c) for _, c in sorted(registry.members(family).items())]
    return "\n".join(parts)


def _section(component: Component) -> str:
    lines = [f"### `{component.name}`\n", f"{component.summary}\n"]
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
