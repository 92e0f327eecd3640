"""The names of classes that a loss is set by: told wrong before anything is trained, so without Keras."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from emoray import registry, space
from emoray.errors import UserError


def check(losses: Mapping[str, space.Tree], classes: Sequence[str]) -> None:
    """Raise UserError where a `cost_sensitive` in the space of a study's losses, by study, names what is no class."""
    for study, tree in losses.items():
        for place, named, but in _named(tree):
            known(f"{study}: {place}", named, classes, but)


def any_named(tree: space.Tree) -> bool:
    """Whether a study's losses name classes at all."""
    return any(named for _, named, _ in _named(tree))


def known(place: str, named: Mapping[str, Any], classes: Sequence[str], but: str | None = None) -> None:
    """Raise UserError where a key of `named` is no class, or is the class `but`, whose answer is right."""
    for name in named:
        if name not in classes:
            raise UserError(f"{place}: there is no class '{name}': {registry.suggestion(name, classes)}")
        if name == but:
            raise UserError(f"{place}.{name}: {name} taken for {name} is no confusion and cannot cost anything")


def _named(tree: space.Tree) -> Iterator[tuple[str, Mapping[str, Any], str | None]]:
    """Wherever losses name classes: the place, what they give by their names, and the class that cannot stand there."""
    for loss in _options(tree):
        if loss is None or loss["name"] != "cost_sensitive":  # None: what was written is refused
            continue
        for priority in _options(loss["priority"]):
            yield "loss.priority", priority or {}, None
        for costs in _options(loss["costs"]):
            yield "loss.costs", costs or {}, None
            for name, answers in (costs or {}).items():
                for each in _options(answers):
                    yield f"loss.costs.{name}", each, name


def _options(tree: space.Tree) -> Iterator[Any]:
    """What a choice may give, those in its options too; of anything else itself."""
    if isinstance(tree, space.Choice):
        for option in tree.options:
            yield from _options(option)
    else:
        yield tree
