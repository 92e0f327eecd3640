"""Who may reach the nodes: the rules of the template's security groups. Pure; notes problems."""

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from emoray.cluster_file import shapes, values
from emoray.cluster_file.references import References
from emoray.problems import Problems

RULE = ("IpProtocol", "FromPort", "ToPort", "CidrIp", "CidrIpv6", "Description", "SourcePrefixListId")
FROM_GROUP = ("SourceSecurityGroupId", "SourceSecurityGroupName", "SourceSecurityGroupOwnerId")
OUTWARD = ("DestinationPrefixListId", "DestinationSecurityGroupId")
MOST_ADDRESSES = 256
_RANGES = ("CidrIp", "CidrIpv6")
# Ranges that a parameter must not take: of many places, all that are wider than may be.
_PLACES = ("0.0.0.0", "1.0.0.0", "10.0.0.0", "64.0.0.0", "128.0.0.0", "192.0.0.0", "203.0.113.7", "255.255.255.255")
_PLACES_IPV6 = ("::", "::1", "2000::", "2001:db8::", "8000::", "fe80::1")
_WIDE = (
    *(f"{place}/{bits}" for bits in range(24) for place in _PLACES),
    *(f"{place}/{bits}" for bits in range(120) for place in _PLACES_IPV6),
)


def check(resources: Mapping[str, Any], references: References, problems: Problems) -> None:
    """Note what would let anybody in, but one small range by SSH."""
    opened = []
    for place, rule in _rules(resources, problems):
        _rule(rule, place, references, problems)
        opened += [f"{place}.{key}" for key in _RANGES if key in rule]
    for place in opened[1:]:
        problems.add(place, "a second range: one is enough, and two halves are the whole internet")


def _rules(resources: Mapping[str, Any], problems: Problems) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, resource in resources.items():
        if not isinstance(resource, Mapping) or not isinstance(resource.get("Properties"), Mapping):
            continue
        kind, properties, place = resource.get("Type"), resource["Properties"], f"Resources.{name}.Properties"
        if kind == "AWS::EC2::SecurityGroupIngress":
            yield place, properties
        if kind == "AWS::EC2::SecurityGroup":
            for number, rule in enumerate(mappings(properties, "SecurityGroupIngress", place, problems)):
                yield f"{place}.SecurityGroupIngress[{number}]", rule


def mappings(properties: Mapping[str, Any], key: str, place: str, problems: Problems) -> list[Mapping[str, Any]]:
    """The entries of a list that holds mappings; notes where it is none, or holds anything else."""
    listed = properties.get(key, [])
    if not isinstance(listed, list) or not all(isinstance(one, Mapping) for one in listed):
        problems.add(f"{place}.{key}", f"{listed!r} is not allowed: it must be a list of mappings")
        return []
    return listed


def _rule(rule: Mapping[str, Any], place: str, references: References, problems: Problems) -> None:
    shapes.keys(rule, (*RULE, *FROM_GROUP, "GroupId", "GroupName"), place, problems)
    for key, value in rule.items():
        references.check(value, f"{place}.{key}", problems)
    if "IpProtocol" not in rule:
        problems.add(f"{place}.IpProtocol", "it is missing")
    if "SourcePrefixListId" in rule:
        problems.add(f"{place}.SourcePrefixListId", "such a list may hold any addresses: name a range, by CidrIp")
    elif not any(key in rule for key in (*_RANGES, *FROM_GROUP)):
        problems.add(f"{place}.CidrIp", "it is missing: the rule does not tell from where")
    for key in FROM_GROUP:
        if key in rule and not _own(rule[key], references):
            problems.add(f"{place}.{key}", f"{rule[key]!r} is no group of this template: only the nodes may come in")
    for key in _RANGES:
        if key in rule:
            _opening(rule, key, place, references, problems)


def _own(group: Any, references: References) -> bool:
    """Whether a security group is one that the template makes."""
    resource = references.resources.get(References.named(group))
    return isinstance(resource, Mapping) and resource.get("Type") == "AWS::EC2::SecurityGroup"


def _opening(rule: Mapping[str, Any], key: str, place: str, references: References, problems: Problems) -> None:
    ports = [rule.get("FromPort"), rule.get("ToPort")]
    if rule.get("IpProtocol") not in ("tcp", 6, "6"):
        problems.add(
            f"{place}.IpProtocol",
            f"{rule.get('IpProtocol')!r} opens more than SSH to addresses outside: it must be tcp",
        )
    elif [str(port) for port in ports] != ["22", "22"]:
        problems.add(place, f"it opens ports {ports[0]} to {ports[1]} to addresses outside: only SSH (22) may be open")
    if why := _too_wide(rule[key], references):
        problems.add(f"{place}.{key}", why)


def _too_wide(written: Any, references: References) -> str:
    """Why a range of addresses is not allowed: one that is written, or any that its parameter would take."""
    if isinstance(written, str):
        try:
            network = ipaddress.ip_network(written, strict=False)
        except ValueError:
            return f"'{written}' is no range of addresses, such as 203.0.113.7/32"
        if not network.prefixlen:
            return f"{written} is the whole internet: name your own range"
        return "" if network.num_addresses <= MOST_ADDRESSES else f"{written} has more than {MOST_ADDRESSES} addresses"
    name = written.get("Ref") if isinstance(written, Mapping) else None
    parameter = references.parameters.get(name) if isinstance(name, str) else None
    if not isinstance(parameter, Mapping):
        return f"{written!r} is neither a range of addresses nor a parameter of the template"
    return _taken(name, parameter)


def _taken(name: Any, parameter: Mapping[str, Any]) -> str:
    """Why the values of a parameter are too many, or empty."""
    offered = parameter.get("AllowedValues")
    if isinstance(offered, list):
        return next((why for why in (_too_wide(one, References({}, {})) for one in offered) if why), "")
    try:
        taken = values.taken(str(name), parameter, _WIDE)
    except values.Unusable as error:
        return str(error)
    if taken is None:
        return ""
    what = ", the whole internet" if taken.endswith("/0") else f", more than {MOST_ADDRESSES} addresses"
    return f"the parameter {name} takes {taken}{what}: give it an AllowedPattern that does not"
