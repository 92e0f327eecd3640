"""Opening a run: a fresh folder, or an earlier one to go on with where nothing that was measured would change."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from emoray import (
    config,
    intact,
    notation,
    ownership,
    registry,
    run_folder,
    storage,
    strict_yaml,
    trials,
    versions,
)
from emoray.config import Sweep
from emoray.errors import Stopped, UserError
from emoray.run_folder import RunFolder, write_text
from emoray.storage import AnyPath

_FIXED = ("seed", "data", "search.metric")
"""Settings under which results of an earlier start could not be compared with those of a later one."""
_FREE = ("mode", "max_bad_fraction")
"""What may change among them: what it measured is the same."""
_OWN = ("study", "trials", "epochs", "workers", "cpus_per_worker", "gpus_per_worker", "data_cpus")
"""Of a model's entry, what is no setting that a trial keeps."""


def find(sweep: Sweep, resume: bool, option: str = "--resume") -> RunFolder | None:
    """The run to go on with, or None for a new one; only the storage folder is made, to see that it can be written.

    `option` is what the user has typed to go on with one.

    Raises UserError where it cannot, where there is nothing to resume, or what there is was measured under other
    settings.
    """
    place = storage.at(sweep.storage)
    if isinstance(place, Path) and resume and _latest(place, sweep.name) is None:
        raise _nothing_to_resume(sweep.name, place, option)  # before a folder is made for nothing
    try:
        storage.check_writable(place)
    except OSError as error:
        raise UserError(f"storage: {place}/ cannot be written: {error.strerror or error}") from None
    folder = _latest(place, sweep.name) if resume else None
    if resume and folder is None:
        raise _nothing_to_resume(sweep.name, place, option)
    if folder is not None:
        versions.read(folder)
        if folder.sweep.exists():
            _refuse_changes(_read(folder.sweep), sweep.resolved(), folder, option)
    return folder


def _latest(place: AnyPath, name: str) -> RunFolder | None:
    """The newest run of a sweep, by the name in its own file too: `mine-2` may be of a sweep that is called so."""
    for folder in run_folder.newest_first(place, name):
        intact.links(folder.path)
        if not folder.sweep.exists() or _read(folder.sweep).get("name") == name:
            return folder
    return None


def _nothing_to_resume(name: str, place: AnyPath, option: str) -> UserError:
    return UserError(f"{option}: there is no run of '{name}' in {place}/; start one without {option}")


@contextmanager
def held(found: RunFolder | None, say: Callable[[str], None]) -> Iterator[None]:
    """Own the run to go on with, from before anything is started until all has ended; there may be none yet.

    Raises UserError where another process is at work on it.
    """
    if found is None:
        yield
        return
    with ownership.of(found.path, say):
        yield


@contextmanager
def opened(
    sweep: Sweep, found: RunFolder | None, prepared: str, say: Callable[[str], None] = lambda message: None
) -> Iterator[RunFolder]:
    """The run folder, this process's alone, with the resolved sweep and what tells of the data in it.

    One that was `found` is `held` already. To be left when nothing writes into it any more: where the user has ended
    the sweep, trials.csv is then brought up to what trials have left, and a new folder is deleted if there are none, in
    which case KeyboardInterrupt says that nothing was trained.
    """
    with contextlib.ExitStack() as owned:
        folder: RunFolder | None = found
        remove: Callable[[], None] | None = None
        try:
            if folder is None:
                folder = run_folder.create(storage.at(sweep.storage), sweep.name)
                remove = partial(storage.remove, folder.path)  # only just made, it is nobody's yet
                remove = owned.enter_context(ownership.of(folder.path, say))
            _fill(folder, sweep, prepared)
            yield folder
        except (Stopped, KeyboardInterrupt):
            if folder is None:
                raise
            if remove is not None and not storage.folders(folder.path / "trials"):
                remove()
                raise KeyboardInterrupt from None
            with contextlib.suppress(OSError, UserError):
                trials.restore(folder).rest()
            raise


def _fill(folder: RunFolder, sweep: Sweep, prepared: str) -> None:
    storage.clear(folder.path)
    versions.write(folder)
    write_text(folder.sweep, config.dump(sweep))
    _keep_components(sweep, folder)
    for name in ("manifest.json", "quarantine.csv", "dropped.csv"):
        source = storage.at(prepared) / name
        if source.exists():
            storage.copy(source, folder.manifest.with_name(name))


@contextmanager
def at_hand(folder: RunFolder) -> Iterator[Path]:
    """A folder on this machine with a run's sweep.yaml and its own components, from where these can be imported."""
    if isinstance(folder.path, Path):
        yield folder.path
        return
    with tempfile.TemporaryDirectory(prefix="emoray-run-") as made:
        copied = Path(made) / folder.sweep.name
        storage.copy(folder.sweep, copied)
        for module in _read(copied).get("components") or ():
            name = _module_file(intact.module(module, folder.sweep))
            storage.copy(folder.path / name, Path(made) / name)
        yield Path(made)


def _read(file: AnyPath) -> dict[str, Any]:
    tree, _ = strict_yaml.read(file)
    return tree if isinstance(tree, dict) else {}


def _module_file(module: str) -> str:
    return f"{module.replace('.', '/')}.py"


def _keep_components(sweep: Sweep, folder: RunFolder) -> None:
    """Copy the modules of the user's own components, without which nothing here could load the models again."""
    for module in sweep.components:
        source = registry.locate(module, sweep.folder)
        target = folder.path / _module_file(module)
        if source.resolve() != target.resolve():
            storage.copy(source, target)


def _refuse_changes(before: dict[str, Any], after: dict[str, Any], folder: RunFolder, option: str) -> None:
    found: list[str] = []
    for place in _FIXED:
        old, new = _at(before, place), _at(after, place)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            keys = [key for key in {**new, **old} if old.get(key) != new.get(key)]
            found += [f"{place}.{key}: {old.get(key)!r} -> {new.get(key)!r}" for key in keys]
        else:
            found.append(f"{place}: {old!r} -> {new!r}")
    if found:
        raise UserError(
            f"{option}: {folder.path} was measured under other settings ({', '.join(found)}), so its results could not "
            f"be compared; set them back, or start a new run without {option}"
        )


def changed(folder: RunFolder, sweep: Sweep) -> list[str]:
    """What a sweep that goes on with a run changes for its trials, in a sentence each.

    Another range or choice in place of one is not told: new trials are drawn from it, and nothing was fixed.
    """
    if not folder.sweep.exists():
        return []
    old, new = _entries(_read(folder.sweep)), _entries(sweep.resolved())
    told = [
        f"{name} is no longer in the file: its trials are kept, and get no more epochs"
        for name in old
        if name not in new
    ]
    found: dict[str, list[str]] = {}
    for name in (name for name in new if name in old):
        for difference in _differences(old[name], new[name], ""):
            found.setdefault(difference, []).append(name)
    if found:
        listed = "; ".join(f"{', '.join(names)}: {difference}" for difference, names in found.items())
        told.append(f"changed for new trials alone, those that were begun keep theirs: {listed}")
    return told


def _entries(tree: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    listed = [entry for entry in tree.get("models") or () if isinstance(entry, Mapping)]
    return {str(entry.get("study")): {key: entry[key] for key in entry if key not in _OWN} for entry in listed}


def _differences(old: Any, new: Any, place: str) -> Iterator[str]:
    """Where two pieces of a file differ, but for samplers in the place of samplers."""
    if old == new or (notation.is_sampler(old) and notation.is_sampler(new)):
        return
    plain = [isinstance(one, Mapping) and not notation.is_sampler(one) for one in (old, new)]
    if all(plain) and old.get("name") == new.get("name"):
        for key in (key for key in new if key in old):  # another emoray wrote those that only one of them has
            yield from _differences(old[key], new[key], f"{place}.{key}" if place else key)
    else:
        yield f"{place or 'model'} {_shown(old)} -> {_shown(new)}"


def _shown(value: Any) -> str:
    return value["name"] if isinstance(value, Mapping) and "name" in value else notation.shown(value)


def _at(tree: dict[str, Any], place: str) -> Any:
    value: Any = tree
    for key in place.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return {key: inner for key, inner in value.items() if key not in _FREE} if isinstance(value, dict) else value
