"""The CloudFormation template beside a cluster file: roles, policies and the security group. Pure; notes problems.

Not all of CloudFormation: the few kinds of resources that a cluster needs, with every key that they may have.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from emoray.cluster_file import iam, ingress, shapes
from emoray.cluster_file.references import References
from emoray.problems import Problems

_ROLE = ("AssumeRolePolicyDocument", "Policies", "ManagedPolicyArns", "RoleName", "Path", "Description", "Tags")
_POLICY = ("PolicyDocument", "Description", "ManagedPolicyName", "Path", "Roles", "Groups", "Users")
_IN_AND_OUT = ("SecurityGroupIngress", "SecurityGroupEgress")
PROPERTIES: Mapping[str, Sequence[str]] = {
    "AWS::IAM::Role": (*_ROLE, "MaxSessionDuration", "PermissionsBoundary"),
    "AWS::IAM::ManagedPolicy": _POLICY,
    "AWS::IAM::Policy": ("PolicyDocument", "PolicyName", "Roles", "Groups", "Users"),
    "AWS::IAM::InstanceProfile": ("InstanceProfileName", "Roles", "Path"),
    "AWS::EC2::SecurityGroup": ("GroupDescription", "GroupName", "VpcId", "Tags", *_IN_AND_OUT),
    "AWS::EC2::SecurityGroupIngress": (*ingress.RULE, *ingress.FROM_GROUP, "GroupId", "GroupName"),
}
# Properties with keys of their own, or rules of ours; all others are values, or lists of them.
_DOCUMENTS = ("AssumeRolePolicyDocument", "PolicyDocument")
_LISTS = {
    "Policies": ("PolicyName", "PolicyDocument"),
    "Tags": ("Key", "Value"),
    "SecurityGroupEgress": (*ingress.RULE, *ingress.OUTWARD),
}
_OWN = (*_DOCUMENTS, *_LISTS, "SecurityGroupIngress", "ManagedPolicyArns")
_TOP = (
    *("AWSTemplateFormatVersion", "Description", "Metadata", "Parameters"),
    *("Mappings", "Conditions", "Resources", "Outputs"),
)
_RESOURCE = ("Type", "Properties", "DependsOn", "Condition", "DeletionPolicy", "UpdateReplacePolicy", "Metadata")
_PARAMETER = (
    *("Type", "Description", "Default", "AllowedPattern", "AllowedValues", "ConstraintDescription", "NoEcho"),
    *("MinLength", "MaxLength", "MinValue", "MaxValue"),
)
_OUTPUT = ("Value", "Description", "Export", "Condition")


def check(template: Any, problems: Problems) -> None:
    """Note what is wrong with a template that has been read as plain data."""
    if not isinstance(template, Mapping) or not isinstance(template.get("Resources"), Mapping):
        problems.add("Resources", "the template has none")
        return
    shapes.keys(template, _TOP, "", problems)
    references = _references(template)
    for place, parameter in _entries(template, "Parameters", _PARAMETER, problems):
        if "Type" not in parameter:
            problems.add(f"{place}.Type", "it is missing")
    for place, output in _entries(template, "Outputs", _OUTPUT, problems):
        references.check(output.get("Value"), f"{place}.Value", problems)
    for place, resource in _entries(template, "Resources", _RESOURCE, problems):
        _resource(resource, place, references, problems)
    for place, document in _documents(template["Resources"]):
        iam.policy(document, place, references, problems)
    ingress.check(template["Resources"], references, problems)
    _roles(template["Resources"], problems)


def profiles(template: Mapping[str, Any]) -> list[str]:
    """The names of the instance profiles that the template makes."""
    found = [_properties(one, "AWS::IAM::InstanceProfile") for one in template["Resources"].values()]
    return [one["InstanceProfileName"] for one in found if isinstance(one.get("InstanceProfileName"), str)]


def of_profiles(template: Mapping[str, Any]) -> list[str]:
    """The places of what makes instance profiles, or may have been meant to."""
    kinds = {name: one.get("Type") if isinstance(one, Mapping) else None for name, one in template["Resources"].items()}
    others = set(PROPERTIES) - {"AWS::IAM::InstanceProfile"}
    return [f"Resources.{name}." for name, kind in kinds.items() if str(kind) not in others]


def clusters(template: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The names of clusters whose machines may be ended, with their places; of a parameter, what it is by default."""
    references = _references(template)
    return [
        (f"{place}.{below}", references.default(name))
        for place, document in _documents(template["Resources"])
        for below, name in iam.clusters(document)
    ]


def _references(template: Mapping[str, Any]) -> References:
    parameters = template.get("Parameters")
    return References(parameters if isinstance(parameters, Mapping) else {}, template["Resources"])


def _entries(
    template: Mapping[str, Any], section: str, keys: Sequence[str], problems: Problems
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What stands in a section of the template, with its place; notes unknown keys and what is no mapping."""
    entries = template.get(section, {})
    if not isinstance(entries, Mapping):
        problems.add(section, f"{entries!r} is not allowed: it must be a mapping")
        return
    for name, entry in entries.items():
        if not isinstance(entry, Mapping):
            problems.add(f"{section}.{name}", f"{entry!r} is not allowed: it must be a mapping")
            continue
        shapes.keys(entry, keys, f"{section}.{name}", problems)
        yield f"{section}.{name}", entry


def _resource(resource: Mapping[str, Any], place: str, references: References, problems: Problems) -> None:
    kind, properties = resource.get("Type"), resource.get("Properties", {})
    if not isinstance(kind, str) or kind not in PROPERTIES:
        problems.add(f"{place}.Type", f"there is no resource '{kind}': {shapes.unknown(kind, PROPERTIES)}")
        return
    place = f"{place}.Properties"
    if not isinstance(properties, Mapping):
        problems.add(place, f"{properties!r} is not allowed: it must be a mapping")
        return
    shapes.keys(properties, PROPERTIES[kind], place, problems)
    for key in properties.keys() & _LISTS.keys():
        for number, entry in enumerate(ingress.mappings(properties, key, place, problems)):
            shapes.keys(entry, _LISTS[key], f"{place}.{key}[{number}]", problems)
            for name in entry.keys() - set(_DOCUMENTS):
                references.check(entry[name], f"{place}.{key}[{number}].{name}", problems)
    for key in properties.keys() - set(_OWN):
        if kind != "AWS::EC2::SecurityGroupIngress":  # which has rules of its own
            references.check(properties[key], f"{place}.{key}", problems)
    _managed(properties.get("ManagedPolicyArns", []), f"{place}.ManagedPolicyArns", references, problems)


def _roles(resources: Mapping[str, Any], problems: Problems) -> None:
    """A role in two profiles would give workers the head's rights."""
    seen: list[Any] = []
    for name, resource in resources.items():
        roles = _properties(resource, "AWS::IAM::InstanceProfile").get("Roles", [])
        for number, role in enumerate(roles if isinstance(roles, list) else ()):
            if role in seen:
                told = f"{role!r} is in another profile too: workers need a role of their own"
                problems.add(f"Resources.{name}.Properties.Roles[{number}]", told)
            seen.append(role)


def _managed(policies: Any, place: str, references: References, problems: Problems) -> None:
    """Policies that a role has beside its own: what those of AWS allow, such as AdministratorAccess, stands nowhere."""
    if not isinstance(policies, list):
        problems.add(place, f"{policies!r} is not allowed: it must be a list")
        return
    references.check(policies, place, problems)
    for number, policy in enumerate(policies):
        name = policy.get("Ref") if isinstance(policy, Mapping) else None
        if not isinstance(name, str) or not _properties(references.resources.get(name), "AWS::IAM::ManagedPolicy"):
            told = f"{policy!r} is no policy of this template: what it allows has to stand here to be checked"
            problems.add(f"{place}[{number}]", told)


def _documents(resources: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, resource in resources.items():
        properties = _properties(resource)
        for key in _DOCUMENTS:
            if key in properties:
                yield f"Resources.{name}.Properties.{key}", properties[key]
        inline = properties.get("Policies")
        for number, one in enumerate(inline if isinstance(inline, list) else ()):
            if isinstance(one, Mapping):
                yield f"Resources.{name}.Properties.Policies[{number}].PolicyDocument", one.get("PolicyDocument")


def _properties(resource: Any, kind: str | None = None) -> Mapping[str, Any]:
    if not isinstance(resource, Mapping) or (kind is not None and resource.get("Type") != kind):
        return {}
    properties = resource.get("Properties")
    return properties if isinstance(properties, Mapping) else {}
