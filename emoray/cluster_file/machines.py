"""Rules of ours for the machines that a cluster file asks EC2 for: where, with which GPUs, on which terms. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from emoray.cluster_file import shapes, start
from emoray.cluster_file.start import node_types
from emoray.problems import Problems

WATCHER = "emoray.spot"
_ZONE = r"{}([a-z]|-[a-z0-9-]+[a-z])"
"""Of a region, or of a city near it, such as us-east-1-bos-1a."""
_NVIDIA = re.compile(r"(g(?!4ad)|p)r?\d")
"""The families g and p; those of g4ad are of AMD, and trn and inf have chips of another kind."""


def region(config: Mapping[str, Any], problems: Problems) -> None:
    """A region that there is, and zones in it."""
    named, listed = config["provider"].get("region", ""), config["provider"].get("availability_zone") or ""
    zones, known = [zone.strip() for zone in listed.split(",")] if listed else [], shapes.regions()
    if named not in known:  # zones are held against a region that there is
        meant = [one for one in known if zones and all(zone[:-1] == one for zone in zones)]
        allowed = f"did you mean '{meant[0]}', where the zones are?" if meant else shapes.unknown(named, known)
        problems.add("provider.region", f"{named!r} is not allowed: {allowed}")
    elif elsewhere := [zone for zone in zones if not re.fullmatch(_ZONE.format(re.escape(named)), zone)]:
        told = f"no zone of {named} is called {' or '.join(map(repr, elsewhere))}: it must be the region and a letter"
        problems.add("provider.availability_zone", f"{told}, such as {named}a")


def gpus(config: Mapping[str, Any], problems: Problems) -> None:
    """A machine that has no GPU would be started for a trial that needs one, again and again."""
    for _, place, told in node_types(config):
        count, kind = told["resources"].get("GPU"), told["node_config"].get("InstanceType")
        if count and isinstance(kind, str) and not _NVIDIA.match(kind):
            problems.add(
                f"{place}.resources.GPU",
                f"{count} is not allowed: {kind} has no GPU of NVIDIA; take a type of the families g or p (but g4ad), "
                "or leave GPU out",
            )


def profiles(config: Mapping[str, Any], problems: Problems) -> None:
    """What runs on a worker, a trial's code among it, must not start and end machines as the head may."""
    nodes = {name: (place, told["node_config"].get("IamInstanceProfile")) for name, place, told in node_types(config)}
    _, of_head = nodes.pop(config["head_node_type"])
    for place, own in nodes.values():
        if own and own == of_head:
            told = f"{own!r} is the head's, which may start and end machines: give workers a profile of their own"
            problems.add(f"{place}.node_config.IamInstanceProfile", told)


def is_spot(node: Mapping[str, Any]) -> bool:
    """Whether EC2 may take back the machines of a node type."""
    market = node["node_config"].get("InstanceMarketOptions")
    return isinstance(market, Mapping) and market.get("MarketType") == "spot"


def spot(config: Mapping[str, Any], problems: Problems) -> None:
    """Spot machines end instead of being stopped, and their end is watched for."""
    types = [(place, told) for _, place, told in node_types(config) if is_spot(told)]
    if not types:
        return
    if config["provider"].get("cache_stopped_nodes", True):
        problems.add(
            "provider.cache_stopped_nodes", "it must be false: spot machines cannot be stopped and started again"
        )
    for place, told in types:
        _ends(told, f"{place}.node_config.InstanceMarketOptions.SpotOptions", problems)
    _watched(config, problems)


def _ends(node: Mapping[str, Any], place: str, problems: Problems) -> None:
    options = node["node_config"]["InstanceMarketOptions"].get("SpotOptions")
    if not isinstance(options, Mapping):
        return
    behaviour = options.get("InstanceInterruptionBehavior")
    if behaviour in ("stop", "hibernate"):  # anything else is none that EC2 knows
        told = f"{behaviour!r} is not allowed: it must be terminate, for Ray forgets machines that stop, and disks cost"
        problems.add(f"{place}.InstanceInterruptionBehavior", told)
    if options.get("SpotInstanceType") == "persistent":
        told = "'persistent' is not allowed: it must be one-time, or EC2 starts machines that Ray knows nothing of"
        problems.add(f"{place}.SpotInstanceType", told)


def _watched(config: Mapping[str, Any], problems: Problems) -> None:
    modules = start.modules(config.get("worker_start_ray_commands", ()))
    if any(module == WATCHER for _, module, _ in modules):
        return
    command = f"`python -m {WATCHER} --address $RAY_HEAD_IP:6379`"
    why = "or training learns of the end of a machine by dying"
    own = WATCHER.partition(".")[2]
    like = [(number, module) for number, module, _ in modules if shapes.meant(module.partition(".")[2], [own])]
    for number, module in like:
        told = f"{module!r} is not allowed: did you mean {WATCHER!r}? Spot machines need {command} beside Ray, {why}"
        problems.add(f"worker_start_ray_commands[{number}]", told, module)
    if not like:
        problems.add("worker_start_ray_commands", f"spot machines need {command} beside Ray, {why}")
