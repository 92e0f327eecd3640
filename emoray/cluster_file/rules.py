"""Our own rules for a cluster file: what Ray and EC2 would both accept, and what would be unsafe or cost in vain. Pure.

A config here has passed Ray's schema, so its kinds of values are known.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Any

from emoray.cluster_file import start, versions
from emoray.cluster_file.start import node_types
from emoray.cluster_file.versions import Versions
from emoray.problems import Problems

LOOPBACK = ("127.0.0.1", "localhost", "::1")
WATCHER = "emoray.spot"
_RESOURCES = ("CPU", "GPU", "memory", "object_store_memory")


def check(config: Mapping[str, Any], here: Versions, problems: Problems) -> None:
    """Note what breaks a rule of ours."""
    for rule in (
        _head,
        _workers,
        _resources,
        _starts,
        _dashboard,
        _authentication,
        _nodes,
        _network,
        _spot,
        _shared_memory,
    ):
        rule(config, problems)
    versions.check(config, here, problems)


def _head(config: Mapping[str, Any], problems: Problems) -> None:
    head = config["head_node_type"]
    place, told = f"available_node_types.{head}", config["available_node_types"][head]
    resources = told["resources"]
    if resources.get("CPU") != 0:
        shown = resources.get("CPU", "no value, so all that the machine has")
        problems.add(f"{place}.resources", f"CPU is {shown}: it must be 0, so that no trial lands on the head")
    if resources.get("GPU"):
        problems.add(f"{place}.resources.GPU", "the head trains nothing, so it needs no GPU")
    if _is_spot(told):
        problems.add(
            f"{place}.node_config.InstanceMarketOptions", "the head must not be a spot machine: all is lost with it"
        )


def _workers(config: Mapping[str, Any], problems: Problems) -> None:
    for name, place, told in node_types(config):
        if name != config["head_node_type"] and not told["resources"].get("CPU"):
            problems.add(
                f"{place}.resources", "it needs CPU: from it follows what starts where there is no machine yet"
            )


def _resources(config: Mapping[str, Any], problems: Problems) -> None:
    """A misspelt name would be a resource of its own, and the machine without the one that was meant."""
    for _, place, told in node_types(config):
        for name in told["resources"].keys() - set(_RESOURCES):
            meant = [known for known in _RESOURCES if _is_like(str(name), known)]
            if meant:
                problems.add(f"{place}.resources.{name}", f"there is no resource '{name}': did you mean '{meant[0]}'?")


def _is_like(name: str, known: str) -> bool:
    """Not so for TPU and HPU, which are other resources of Ray's than CPU."""
    written, right = name.lower(), known.lower()
    return sorted(written) == sorted(right) or difflib.SequenceMatcher(None, written, right).ratio() > 0.75


def _starts(config: Mapping[str, Any], problems: Problems) -> None:
    """What `ray start` needs, or a head would start no workers, and each worker be a cluster of its own."""
    needed = {"head_start_ray_commands": "--autoscaling-config", "worker_start_ray_commands": "--address"}
    for place, option in needed.items():
        started = start.ray_starts(config.get(place, ()))
        if not any(start.option(arguments, option) for _, arguments in started):
            example = {"--address": "$RAY_HEAD_IP:6379"}.get(option, "~/ray_bootstrap_config.yaml")
            at = f"{place}[{started[0][0]}]" if started else place
            problems.add(at, f"`ray start` needs {option}={example}", "ray start")


def _dashboard(config: Mapping[str, Any], problems: Problems) -> None:
    place = "head_start_ray_commands"
    heads = [found for found in start.ray_starts(config.get(place, ())) if "--head" in found[1]]
    if not heads:
        problems.add(place, "no command is `ray start --head`; by default Ray opens its dashboard to all addresses")
    for number, arguments in heads:
        host = start.option(arguments, "--dashboard-host")
        if host not in LOOPBACK:
            problems.add(
                f"{place}[{number}]",
                f"the dashboard listens on {host or 'the default address'}: it must be --dashboard-host=127.0.0.1, for "
                "whoever reaches it runs code; `ray dashboard` brings it to you by SSH",
                "ray start" if host is None else "--dashboard-host",
            )


def _authentication(config: Mapping[str, Any], problems: Problems) -> None:
    docker = config.get("docker") or {}
    if docker.get("image") or docker.get("head_image"):
        for key, options, place in _containers(config, docker):
            mode = start.container_environment(options.values()).get("RAY_AUTH_MODE")
            if mode != "token":
                told = f"RAY_AUTH_MODE is {mode}" if mode else "RAY_AUTH_MODE is not set"
                set_at = [at for at, option in options.items() if "RAY_AUTH_MODE" in str(option)]
                problems.add(
                    [place, *set_at][-1],
                    f"{told} in the {key}'s container: it must be given `-e RAY_AUTH_MODE=token`",
                )
    else:
        for key in ("head_start_ray_commands", "worker_start_ray_commands"):
            values = start.assigned("RAY_AUTH_MODE", config.get(key, ()))
            if not values:
                problems.add(key, "RAY_AUTH_MODE is not set: begin the command with `export RAY_AUTH_MODE=token;`")
    for place, command in start.commands_of(config):
        for value in start.assigned("RAY_AUTH_MODE", [command]):
            if value != "token":
                problems.add(
                    place,
                    f"RAY_AUTH_MODE={value}: it must be token, or whoever reaches a port of Ray runs code",
                    "RAY_AUTH_MODE",
                )
        if any(value and not value.startswith("$") for value in start.assigned("RAY_AUTH_TOKEN", [command])):
            problems.add(
                place, "a token stands in the file: bring it as a file instead, by file_mounts", "RAY_AUTH_TOKEN"
            )
    _token(config, problems)


def _containers(config: Mapping[str, Any], docker: Mapping[str, Any]) -> list[tuple[str, dict[str, Any], str]]:
    """Who starts a container, its options by their places, and where one that is missing would stand."""
    shared = _placed(docker, "run_options", "docker")
    told = [("head", {**shared, **_placed(docker, "head_run_options", "docker")}, "docker.run_options")]
    for name, place, node in node_types(config):
        own = node.get("docker") or {}
        is_own = own.get("worker_run_options") is not None
        options = _placed(own if is_own else docker, "worker_run_options", f"{place}.docker" if is_own else "docker")
        if name != config["head_node_type"]:
            where = f"{place}.docker.worker_run_options" if is_own else "docker.run_options"
            told.append((name, {**shared, **options}, where))
    return told


def _placed(tree: Mapping[str, Any], key: str, place: str) -> dict[str, Any]:
    """The entries of a list by their places."""
    return {f"{place}.{key}[{number}]": entry for number, entry in enumerate(tree.get(key) or ())}


def _token(config: Mapping[str, Any], problems: Problems) -> None:
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


def _nodes(config: Mapping[str, Any], problems: Problems) -> None:
    for _, place, told in node_types(config):
        node, at = told["node_config"], f"{place}.node_config"
        profile = node.get("IamInstanceProfile")
        if not isinstance(profile, Mapping) or not (profile.get("Name") or profile.get("Arn")):
            problems.add(f"{at}.IamInstanceProfile", "it is missing: without a profile the node cannot use your bucket")
        if not node.get("ImageId"):
            problems.add(f"{at}.ImageId", "it is missing: the image that Ray would take has a driver of 2022")
        metadata = node.get("MetadataOptions")
        if not isinstance(metadata, Mapping) or metadata.get("HttpTokens") != "required":
            problems.add(
                f"{at}.MetadataOptions",
                "HttpTokens must be required: without, any request from the node reads its keys",
            )
        if (config.get("auth") or {}).get("ssh_private_key") and "KeyName" not in node and "UserData" not in node:
            problems.add(
                f"{at}.KeyName", "it is missing: with auth.ssh_private_key each node needs the name of that key"
            )


def _network(config: Mapping[str, Any], problems: Problems) -> None:
    if config["provider"].get("security_group"):
        problems.add(
            "provider.security_group",
            "Ray adds a rule to it that opens SSH to 0.0.0.0/0: make the group yourself (cluster/aws.yaml) and name "
            "it in each node's SecurityGroupIds",
        )
    for _, place, told in node_types(config):
        node = told["node_config"]
        interfaces = node.get("NetworkInterfaces") or [{}]
        own = all(isinstance(one, Mapping) and one.get("Groups") for one in interfaces)
        if not node.get("SecurityGroupIds") and not own:
            problems.add(
                f"{place}.node_config.SecurityGroupIds",
                "it is missing: Ray would make a group that opens SSH to 0.0.0.0/0; name the one of cluster/aws.yaml",
            )


def _is_spot(node: Mapping[str, Any]) -> bool:
    market = node["node_config"].get("InstanceMarketOptions")
    return isinstance(market, Mapping) and market.get("MarketType") == "spot"


def _spot(config: Mapping[str, Any], problems: Problems) -> None:
    if not any(_is_spot(told) for _, _, told in node_types(config)):
        return
    if config["provider"].get("cache_stopped_nodes", True):
        problems.add(
            "provider.cache_stopped_nodes", "it must be false: spot machines cannot be stopped and started again"
        )
    if not any(WATCHER in command for command in config.get("worker_start_ray_commands", ())):
        problems.add(
            "worker_start_ray_commands",
            f"spot machines need `python -m {WATCHER} --address $RAY_HEAD_IP:6379` beside Ray, or training learns of "
            "their end by dying",
        )


def _shared_memory(config: Mapping[str, Any], problems: Problems) -> None:
    docker = config.get("docker") or {}
    if not docker.get("disable_shm_size_detection"):
        return
    if not any("--shm-size" in str(option) for option in docker.get("run_options", ())):
        problems.add(
            "docker.disable_shm_size_detection",
            "the container would have 64 MB of shared memory and Ray keeps images there: leave it out, or add "
            "--shm-size to run_options",
        )


def to_set(tree: Any, place: str = "") -> list[str]:
    """The places whose values are still the example's: identifiers of zeros alone."""
    if isinstance(tree, Mapping):
        inside = [(f"{place}.{key}" if place else str(key), value) for key, value in tree.items()]
    elif isinstance(tree, list):
        inside = [(f"{place}[{number}]", value) for number, value in enumerate(tree)]
    else:
        return [place] if isinstance(tree, str) and re.fullmatch(r"(ami|sg|subnet|vpc)-0+", tree) else []
    return [found for at, value in inside for found in to_set(value, at)]
