"""Ray, Python and emoray on a cluster's machines: they have to be those of this installation. Pure; notes problems."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from emoray.cluster_file import start
from emoray.problems import Problems

_IMAGE = re.compile(r"(?:^|/)rayproject/ray:(?P<ray>[^-@]+)(?:-py(?P<major>\d)(?P<minor>\d+))?")
_OWN_IMAGE = re.compile(r"(?:^|/)emoray:(?P<version>[^@]+?)(?:-cuda)?(?:@.*)?$")
_WHEEL = re.compile(r"emoray-(?P<version>[^-]+)-py3-none-any\.whl")
_PIN = re.compile(r"(?<![\w.])(?P<name>ray|emoray)(?:\[[^\]]*\])?==(?P<version>[\w.]+)")


@dataclass(frozen=True)
class Versions:
    """What this installation is made of; a cluster has to be the same."""

    emoray: str
    ray: str
    python: str
    """Such as 3.11."""


def check(config: Mapping[str, Any], here: Versions, problems: Problems) -> None:
    """Note images and commands that bring other versions, or whatever is newest."""
    for place, image in _images(config):
        if found := _IMAGE.search(image):
            _same("Ray", found["ray"], here.ray, place, problems)
            python = f"{found['major']}.{found['minor']}" if found["major"] else "another"
            _same("Python", python, here.python, place, problems)
        if found := _OWN_IMAGE.search(image):
            _same("emoray", found["version"], here.emoray, place, problems)
    for place, command in start.commands_of(config):
        for found in _PIN.finditer(command):
            _same(found["name"], found["version"], getattr(here, found["name"]), place, problems)
        for found in _WHEEL.finditer(command):
            _same("emoray", found["version"], here.emoray, place, problems)
        if re.search(r"\bpip3? install\b", command) and not re.search(r"(\s-c|--constraint)[ =]", command):
            problems.add(place, "it installs what is newest today: add `-c ~/emoray/constraints.txt`")


def installed(config: Mapping[str, Any], here: Versions, problems: Problems) -> None:
    """Note where neither a command nor an image brings emoray."""
    commands = [command for _, command in start.commands_of(config)]
    installs = any(_WHEEL.search(one) or re.search(r"(?<![\w.])emoray(\[|==|\s*@)", one) for one in commands)
    image = (config.get("docker") or {}).get("image")
    if not installs and not (image and not _IMAGE.search(str(image))):
        problems.add("setup_commands", f"no command installs emoray {here.emoray}; `make wheel` makes what is needed")


def _images(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The images that containers are made from, with their places."""
    types = [(f"{place}.docker", told.get("docker")) for _, place, told in start.node_types(config)]
    for place, docker in [("docker", config.get("docker")), *types]:
        for key in ("image", "head_image", "worker_image"):
            if isinstance(docker, Mapping) and docker.get(key):
                yield f"{place}.{key}", str(docker[key])


def _same(what: str, there: str, here: str, place: str, problems: Problems) -> None:
    if there != here:
        problems.add(place, f"{what} is {there} there and {here} here: they must be the same")
