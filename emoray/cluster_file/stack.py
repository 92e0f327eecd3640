"""The CloudFormation template beside a cluster file: roles, policies and the security group. Pure; notes problems.

Not all of CloudFormation: the few kinds of resources that a cluster needs, with every key that they may have.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from emoray.cluster_file import shapes
from emoray.problems import Problems

_RULE = ("IpProtocol", "FromPort", "ToPort", "CidrIp", "CidrIpv6", "Description", "SourcePrefixListId")
_FROM_GROUP = ("SourceSecurityGroupId", "SourceSecurityGroupName", "SourceSecurityGroupOwnerId")
_ROLE = ("AssumeRolePolicyDocument", "Policies", "ManagedPolicyArns", "RoleName", "Path", "Description", "Tags")
_POLICY = ("PolicyDocument", "Description", "ManagedPolicyName", "Path", "Roles", "Groups", "Users")
PROPERTIES: Mapping[str, Sequence[str]] = {
    "AWS::IAM::Role": (*_ROLE, "MaxSessionDuration", "PermissionsBoundary"),
    "AWS::IAM::ManagedPolicy": _POLICY,
    "AWS::IAM::Policy": ("PolicyDocument", "PolicyName", "Roles", "Groups", "Users"),
    "AWS::IAM::InstanceProfile": ("InstanceProfileName", "Roles", "Path"),
    "AWS::EC2::SecurityGroup": (
        *("GroupDescription", "GroupName", "VpcId", "Tags"),
        *("SecurityGroupIngress", "SecurityGroupEgress"),
    ),
    "AWS::EC2::SecurityGroupIngress": (*_RULE, *_FROM_GROUP, "GroupId", "GroupName"),
}
_TOP = (
    "AWSTemplateFormatVersion",
    "Description",
    "Metadata",
    "Parameters",
    "Mappings",
    "Conditions",
    "Resources",
    "Outputs",
)
_RESOURCE = ("Type", "Properties", "DependsOn", "Condition", "DeletionPolicy", "UpdateReplacePolicy", "Metadata")
_STATEMENT = (
    "Sid",
    "Effect",
    "Action",
    "Resource",
    "Condition",
    "Principal",
    "NotAction",
    "NotResource",
    "NotPrincipal",
)
# Permissions that are no operation of the service, or have another name than it.
_PERMISSIONS = {
    "s3": ("ListBucket", "ListBucketMultipartUploads", "ListMultipartUploadParts", "ListAllMyBuckets"),
    "iam": ("PassRole",),
}
_OPEN = ("0.0.0.0/0", "::/0")


def check(template: Any, problems: Problems) -> None:
    """Note what is wrong with a template that has been read as plain data."""
    if not isinstance(template, Mapping) or not isinstance(template.get("Resources"), Mapping):
        problems.add("Resources", "the template has none")
        return
    shapes.keys(template, _TOP, "", problems)
    for name, resource in template["Resources"].items():
        place = f"Resources.{name}"
        if not isinstance(resource, Mapping):
            problems.add(place, f"{resource!r} is no resource")
            continue
        shapes.keys(resource, _RESOURCE, place, problems)
        kind, properties = resource.get("Type"), resource.get("Properties") or {}
        if not isinstance(kind, str) or kind not in PROPERTIES:
            problems.add(f"{place}.Type", f"there is no resource '{kind}': {shapes.unknown(kind, PROPERTIES)}")
            continue
        shapes.keys(properties, PROPERTIES[kind], f"{place}.Properties", problems)
    for place, document in _documents(template["Resources"]):
        policy(document, place, problems)
    for place, rule in _ingress(template["Resources"]):
        _rule(rule, place, template, problems)


def profiles(template: Mapping[str, Any]) -> list[str]:
    """The names of the instance profiles that the template makes."""
    found = [_properties(one, "AWS::IAM::InstanceProfile") for one in template["Resources"].values()]
    return [one["InstanceProfileName"] for one in found if isinstance(one.get("InstanceProfileName"), str)]


def policy(document: Any, place: str, problems: Problems) -> None:
    """Note what is wrong with an IAM policy document."""
    if not isinstance(document, Mapping):
        problems.add(place, f"{document!r} is no policy document")
        return
    shapes.keys(document, ("Version", "Id", "Statement"), place, problems)
    if document.get("Version") != "2012-10-17":
        problems.add(f"{place}.Version", f'{document.get("Version")!r} is not allowed: it must be "2012-10-17"')
    statements = document.get("Statement")
    for number, statement in enumerate(statements if isinstance(statements, list) else [statements]):
        at = f"{place}.Statement[{number}]"
        if not isinstance(statement, Mapping):
            problems.add(at, f"{statement!r} is no statement")
            continue
        _statement(statement, at, problems)


def _statement(statement: Mapping[str, Any], at: str, problems: Problems) -> None:
    shapes.keys(statement, _STATEMENT, at, problems)
    if statement.get("Effect") not in ("Allow", "Deny"):
        problems.add(f"{at}.Effect", f"{statement.get('Effect')!r} is not allowed: it must be Allow or Deny")
    if "Resource" not in statement and "NotResource" not in statement and "Principal" not in statement:
        problems.add(f"{at}.Resource", "it is missing")
    actions = statement.get("Action")
    if actions is None and "NotAction" not in statement:
        problems.add(f"{at}.Action", "it is missing")
    for action in actions if isinstance(actions, list) else [actions] if actions is not None else []:
        if why := _action(action):
            problems.add(f"{at}.Action", why)


def _action(action: Any) -> str:
    """Why an action is not allowed, or empty."""
    service, colon, name = str(action).partition(":")
    if "*" in str(action):
        return f"'{action}' allows more than is needed: name each action"
    if not colon or service not in shapes.services():
        return f"'{action}' is no action of a service, such as s3:GetObject"
    allowed = [*shapes.service(service).operation_names, *_PERMISSIONS.get(service, ())]
    return "" if name in allowed else f"there is no action '{action}': {shapes.unknown(name, allowed)}"


def _documents(resources: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, resource in resources.items():
        properties = _properties(resource)
        for key in ("AssumeRolePolicyDocument", "PolicyDocument"):
            if key in properties:
                yield f"Resources.{name}.Properties.{key}", properties[key]
        inline = properties.get("Policies")
        for number, one in enumerate(inline if isinstance(inline, list) else ()):
            yield f"Resources.{name}.Properties.Policies[{number}].PolicyDocument", (one or {}).get("PolicyDocument")


def _ingress(resources: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, resource in resources.items():
        alone = _properties(resource, "AWS::EC2::SecurityGroupIngress")
        if alone:
            yield f"Resources.{name}.Properties", alone
        listed = _properties(resource, "AWS::EC2::SecurityGroup").get("SecurityGroupIngress")
        for number, rule in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(rule, Mapping):
                yield f"Resources.{name}.Properties.SecurityGroupIngress[{number}]", rule


def _rule(rule: Mapping[str, Any], place: str, template: Mapping[str, Any], problems: Problems) -> None:
    shapes.keys(rule, (*_RULE, *_FROM_GROUP, "GroupId", "GroupName"), place, problems)
    for key in ("CidrIp", "CidrIpv6"):
        if key not in rule:
            continue
        ports = [rule.get("FromPort"), rule.get("ToPort")]
        if ports != [22, 22]:
            problems.add(
                place, f"it opens ports {ports[0]} to {ports[1]} to addresses outside: only SSH (22) may be open"
            )
        if why := _too_wide(rule[key], template):
            problems.add(f"{place}.{key}", why)


def _too_wide(written: Any, template: Mapping[str, Any]) -> str:
    """Why a range of addresses is not allowed: one that is written, or any that its parameter would take."""
    if isinstance(written, str):
        try:
            network = ipaddress.ip_network(written, strict=False)
        except ValueError:
            return f"'{written}' is no range of addresses, such as 203.0.113.7/32"
        return "" if network.prefixlen else f"{written} is the whole internet: name your own range"
    name = written.get("Ref") if isinstance(written, Mapping) else None
    parameter = (template.get("Parameters") or {}).get(name)
    if not isinstance(parameter, Mapping):
        return f"{written!r} is neither a range of addresses nor a parameter of the template"
    try:
        taken = [each for each in _OPEN if re.fullmatch(str(parameter.get("AllowedPattern", ".*")), each)]
    except re.error as error:
        return f"the AllowedPattern of {name} is no regular expression ({error})"
    if taken:
        return f"the parameter {name} takes {taken[0]}, the whole internet: give it an AllowedPattern that does not"
    return ""


def _properties(resource: Any, kind: str | None = None) -> Mapping[str, Any]:
    if not isinstance(resource, Mapping) or (kind is not None and resource.get("Type") != kind):
        return {}
    properties = resource.get("Properties")
    return properties if isinstance(properties, Mapping) else {}
