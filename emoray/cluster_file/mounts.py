"""What `file_mounts` brings to a cluster's machines, held against what their commands need. Pure; notes problems."""

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath as Path
from typing import Any

from emoray.cluster_file import start
from emoray.cluster_file.start import node_types
from emoray.problems import Problems

_HOME = re.compile(r"^(~|\$HOME|\$\{HOME\}|/home/[^/]+|/root)(?=/|$)")
_COPIES = ("cp", "install", "mv", "ln", "rsync")
_SAME = 0.8


def token(config: Mapping[str, Any], problems: Problems) -> None:
    """Ray's token comes as a file, which only its owner reads on each node."""
    mounts = config.get("file_mounts") or {}
    if not any(str(local).endswith("auth_token") for local in mounts.values()):
        problems.add(
            "file_mounts", "Ray's token is not brought along: mount ~/.ray/auth_token, from which nodes copy it"
        )
    for name, place, told in node_types(config):
        commands = list(config.get("setup_commands", ()))
        if name == config["head_node_type"]:
            commands += config.get("head_setup_commands", ())
        elif "worker_setup_commands" in told:  # instead of the common ones
            commands, place = told["worker_setup_commands"], f"{place}.worker_setup_commands"
        else:
            commands += config.get("worker_setup_commands", ())
        if not any(_makes_private(command) for command in commands):
            where = place if place.endswith("commands") else "setup_commands"
            problems.add(
                where, "no command gives the token's file mode 600: `install -D -m 600 FROM ~/.ray/auth_token`"
            )


def _makes_private(command: str) -> bool:
    return "auth_token" in command and bool(re.search(r"(?<![\w.])(-m\s*|--mode=|chmod\s+)0?[46]00\b", command))


def arrives(config: Mapping[str, Any], problems: Problems) -> None:
    """What commands copy or install from a folder of mounts has to be mounted there."""
    mounts = {_at_home(target): target for target in config.get("file_mounts") or {}}
    commands = list(start.commands_of(config))
    made = {path for _, command in commands for _, path, is_read in _paths(command) if not is_read}
    for place, command in commands:
        for word, path, is_read in _paths(command):
            if not is_read or _known(path, set(mounts) | made):
                continue
            if near := _nearest(path, mounts):
                told = f"{word} is not allowed: file_mounts brings {mounts[near]}, and the two must be the same"
                problems.add(place, told, word)


def _known(path: Path, known: set[Path]) -> bool:
    return any(one in known for one in (path, *path.parents))


def _nearest(path: Path, mounts: Mapping[Path, str]) -> Path | None:
    """The mount that was likely meant: in a folder that only mounts make, or of a name that is almost the same."""
    close = {one: difflib.SequenceMatcher(None, str(path), str(one)).ratio() for one in mounts}
    for one in sorted(mounts, key=lambda one: -close[one]):
        folders = {folder for folder in one.parents if len(folder.parts) > 1 and folder.parts[0] == "~"}
        if path.parent in folders or any(_alike(part, other) for part in _chain(path) for other in _chain(one)):
            return one
    return None


def _chain(path: Path) -> list[Path]:
    return [one for one in (path, *path.parents) if len(one.parts) > 1]


def _alike(one: Path, other: Path) -> bool:
    """Two names in one folder that differ by a slip."""
    ratio = difflib.SequenceMatcher(None, one.name, other.name).ratio()
    return one != other and one.parent == other.parent and ratio >= _SAME


def _at_home(path: str) -> Path:
    """A path with the home folder, however it is written, as `~`."""
    return Path(_HOME.sub("~", path))


def _paths(command: str) -> Iterator[tuple[str, Path, bool]]:
    """The paths in a command, as written and as held against mounts, with whether it reads them to copy or install."""
    for part in re.split(r"[;&|\n]+", command):
        words = start.words(part)
        copies = any(word in _COPIES for word in words[:2])
        reads = copies or ("install" in words and any(re.fullmatch(r"(.*/)?(pip3?|uv)", word) for word in words))
        at = [number for number, word in enumerate(words) if "/" in word and "://" not in word and number]
        for number in at:
            word = words[number].split("=")[-1] if words[number].startswith("-") else words[number]
            is_target = (copies and number == len(words) - 1) or words[number - 1] in (">", ">>", "-t")
            yield word, _at_home(re.sub(r"\[[^\]]*\]$", "", word)), reads and not is_target
