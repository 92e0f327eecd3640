"""What the commands and options of a cluster file set: arguments of `ray start`, and the environment. Pure."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any


def words(command: str) -> list[str]:
    """A command as a shell would split it; one that a shell would refuse, by its blanks."""
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def ray_starts(commands: Iterable[Any]) -> list[tuple[int, list[str]]]:
    """The arguments of each `ray start` in a list of commands, with the number of its command."""
    found = []
    for number, command in enumerate(commands):
        for part in re.split(r"[;&|\n]+", command) if isinstance(command, str) else ():
            split = words(part)
            for at in range(len(split) - 1):
                if split[at : at + 2] == ["ray", "start"]:
                    found.append((number, split[at + 2 :]))
    return found


def modules(commands: Iterable[Any]) -> list[tuple[int, str, list[str]]]:
    """Each `python -m emoray...` in a list of commands: the number of its command, the module, its arguments."""
    found = []
    for number, command in enumerate(commands):
        for module, arguments in re.findall(r"(?<!\S)-m\s*(emoray[\w.]*)([^;&|\n]*)", command):
            found.append((number, module, words(arguments.rstrip("'\" "))))
    return found


def option(arguments: Sequence[str], name: str) -> str | None:
    """The value of `--name=value` or `--name value`: the last one that is given, None where there is none."""
    told = None
    for at, argument in enumerate(arguments):
        if argument.startswith(f"{name}="):
            told = argument.partition("=")[2]
        elif argument == name:
            told = arguments[at + 1] if at + 1 < len(arguments) else ""
    return told


def container_environment(options: Iterable[Any]) -> dict[str, str]:
    """The variables that options of `docker run` set."""
    split = words(" ".join(str(option) for option in options))
    told: dict[str, str] = {}
    for at, word in enumerate(split):
        if word in ("-e", "--env") and at + 1 < len(split):
            assigned = split[at + 1]
        elif word.startswith("--env="):
            assigned = word.partition("=")[2]
        elif word.startswith("-e") and not word.startswith("--"):
            assigned = word.removeprefix("-e").removeprefix("=")
        else:
            continue
        name, _, value = assigned.partition("=")
        told[name] = value
    return told


def assigned(name: str, commands: Iterable[Any]) -> list[str]:
    """The values that commands give to a variable: `export NAME=value`, `NAME=value ray start`."""
    pattern = re.compile(rf"(?<![A-Za-z0-9_]){re.escape(name)}=([^\s;&|\"']*)")
    return [value for command in commands if isinstance(command, str) for value in pattern.findall(command)]


def node_types(config: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Name, place and content of each node type."""
    return [(name, f"available_node_types.{name}", told) for name, told in config["available_node_types"].items()]


def commands_of(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every command of a cluster file with its place."""
    names = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
    for key in (*names, "head_start_ray_commands", "worker_start_ray_commands"):
        yield from _listed(config.get(key), key)
    for node, told in config["available_node_types"].items():
        for key in names:
            yield from _listed(told.get(key), f"available_node_types.{node}.{key}")


def _listed(commands: Any, place: str) -> Iterator[tuple[str, str]]:
    for number, command in enumerate(commands or ()):
        yield f"{place}[{number}]", command
