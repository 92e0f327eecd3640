"""Checking a sweep file against signatures: every problem is collected with its place, none stops the check.

`component` turns `{name: focal, gamma: {uniform: [1, 3]}}` into a space whose samplers are all known to draw allowed
values (sampler_checks.py).
"""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoray import notation, registry, sampler_checks, space
from emoray.problems import Problems

_REFUSED: Any = object()
"""Stands for a value that was refused, where None is one that may be allowed."""


@dataclass(frozen=True)
class Components:
    """Where components come from: the user's modules that a sweep file names, and the folder it stands in."""

    modules: tuple[str, ...] = ()
    folder: Path | None = None
    unread: bool = False
    """Whether the modules are left out because they cannot be read: what they hold is not known then."""

    def members(self, family: str) -> dict[str, registry.Component]:
        return registry.members(family, self.modules, self.folder)


def component(
    family: str, written: Any, place: str, problems: Problems, components: Components, also: Sequence[str] = ()
) -> space.Tree:
    """The space of one component: a name, a mapping with a name, null for `none`, or a choice among these.

    `also` are keys that may stand beside its settings, taken out by the caller: they are named where one is misspelt.
    """
    before = len(problems.noted)
    if notation.is_sampler(written):
        sampler = sampler_checks.parsed(written, place, problems)
        if isinstance(sampler, space.Choice):
            at = f"{place}.choice"
            options = [component(family, o, f"{at}[{i}]", problems, components) for i, o in enumerate(sampler.options)]
            return sampler_checks.choice(options, at, before, problems)
        if sampler is not None:
            problems.add(place, f"a number cannot be drawn here: {_kinds(family)} is chosen by name")
        return None
    if meant := sampler_checks.misspelt(written):
        problems.add(place, meant)
        return None
    if written is None and "none" not in components.members(family):
        problems.add(place, f"null is not allowed: {_kinds(family)} has a name, or is left out")
        return None
    written = {"name": "none" if written is None else written} if not isinstance(written, Mapping) else written
    member = _member(family, written.get("name"), place, problems, components)
    return None if member is None else _settings(member, written, place, problems, also)


def component_list(family: str, written: Any, place: str, problems: Problems, components: Components) -> space.Tree:
    """The space of a list of components, which may be a choice among lists."""
    before = len(problems.noted)
    if notation.is_sampler(written) and "choice" in written and _lists(written["choice"]):
        at = f"{place}.choice"
        lists = [component_list(family, o, f"{at}[{i}]", problems, components) for i, o in enumerate(written["choice"])]
        return sampler_checks.choice(lists, at, before, problems)
    if written is None:
        return []
    if not isinstance(written, list):
        told = f"{notation.shown(written)} is not a list of components, such as [{{name: flip}}]"
        if notation.is_sampler(written):
            told = f"{notation.shown(written)} is not allowed: a choice here is among lists, such as [[flip], []]"
        problems.add(place, sampler_checks.misspelt(written) or told)
        return []
    return [component(family, entry, f"{place}[{i}]", problems, components) for i, entry in enumerate(written)]


def member_of(family: str, default: str) -> Any:
    """A dataclass field that holds one component of a family, `default` where the file names none."""
    return dataclasses.field(default_factory=lambda: {"name": default}, metadata={"family": family, "default": default})


def record(cls: type, written: Any, place: str, problems: Problems, components: Components) -> Any:
    """A frozen dataclass from a mapping: its fields are the allowed keys, their types the allowed values."""
    written = {} if written is None else written
    if not isinstance(written, Mapping):
        problems.add(place, f"{notation.shown(written)} is not a mapping")
        return cls()
    hints = typing.get_type_hints(cls, include_extras=True)
    unknown_keys(written, list(hints), place, problems)
    values: dict[str, Any] = {}
    for attribute in dataclasses.fields(cls):
        name = attribute.name
        at = f"{place}.{name}" if place else name
        if "family" in attribute.metadata:
            named = written.get(name, attribute.metadata["default"])
            if sampler_checks.holds_sampler(named):
                problems.add(at, "nothing can be drawn here: it is one value for the whole sweep")
            elif (checked := component(attribute.metadata["family"], named, at, problems, components)) is not None:
                values[name] = checked
        elif name not in written:
            continue
        elif dataclasses.is_dataclass(hints[name]):
            values[name] = record(typing.cast(type, hints[name]), written[name], at, problems, components)
        elif notation.is_sampler(written[name]):
            problems.add(at, "nothing can be drawn here: it is one value for the whole sweep")
        else:
            checked = sampler_checks.value(written[name], hints[name], at, problems, default=_REFUSED)
            values |= {} if checked is _REFUSED else {name: checked}
    return cls(**values)


def unknown_keys(written: Mapping[str, Any], allowed: Sequence[str], place: str, problems: Problems) -> None:
    for key in written:
        if key not in allowed:
            at = f"{place}.{key}" if place else key
            problems.add(at, f"there is no key {notation.shown(key)}: {_did_you_mean(key, allowed)}")


def _did_you_mean(key: str, allowed: Sequence[str]) -> str:
    return registry.suggestion(key, allowed) if allowed else "nothing can be set here"


def _member(
    family: str, name: Any, place: str, problems: Problems, components: Components
) -> registry.Component | None:
    members = components.members(family)
    bare = name.rpartition(".")[2] if isinstance(name, str) else name
    if not isinstance(bare, str):
        told = "" if name is None else f"{notation.shown(name)} is not allowed: "
        problems.add(place, f"{told}{_kinds(family)} needs a name: {', '.join(sorted(members))}")
        return None
    if bare not in members and components.unread:  # it may be theirs
        return None
    if bare not in members or name not in (bare, f"{members[bare].module}.{bare}"):
        problems.add(
            place,
            f"there is no {_kind(family)} {notation.shown(name)}: {registry.suggestion(str(name), list(members))}",
        )
        return None
    return members[bare]


def _settings(
    member: registry.Component, written: Mapping[str, Any], place: str, problems: Problems, also: Sequence[str]
) -> dict[str, space.Tree]:
    unknown_keys({k: v for k, v in written.items() if k != "name"}, [*member.settings, *also], place, problems)
    own = member.module.startswith("emoray.")
    resolved: dict[str, Any] = {"name": member.name if own else f"{member.module}.{member.name}"}
    for name, setting in member.settings.items():
        if name in written:
            resolved[name] = sampler_checks.sampled(written[name], setting.type, f"{place}.{name}", problems)
        elif setting.default is registry.REQUIRED:
            problems.add(place, f"{member.name} needs '{name}' ({setting.written})")
        else:
            resolved[name] = setting.default
    return resolved


def _lists(options: Any) -> bool:
    return isinstance(options, list) and all(isinstance(o, list) or o is None for o in options)


def _kind(family: str) -> str:
    names = {"augment": "augmentation", "losses": "loss", "class_weights": "class weight", "stopping": "stopping rule"}
    names |= {"tracking": "tracking server"}
    return names.get(family, "ensemble method" if family == "ensemble" else family.removesuffix("s"))


def _kinds(family: str) -> str:
    kind = _kind(family)
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
