"""IAM policy documents: who may do what with which resources, and what would be more than a cluster needs. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from emoray.cluster_file import shapes
from emoray.cluster_file.references import References
from emoray.problems import Problems

OF_CLUSTER = ("ec2:ResourceTag/ray-cluster-name", "aws:ResourceTag/ray-cluster-name")
"""By which a statement reaches the machines of one cluster alone: Ray gives each of them this tag."""
AT_START = "ec2:CreateAction"
_STATEMENT = ("Sid", "Effect", "Action", "Resource", "Condition", "Principal")
_ALL_BUT = ("NotAction", "NotResource", "NotPrincipal")
_PRINCIPALS = ("AWS", "Service", "Federated", "CanonicalUser")
_COMPARED = {
    "String": ("Equals", "NotEquals", "EqualsIgnoreCase", "NotEqualsIgnoreCase", "Like", "NotLike"),
    "Numeric": ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals"),
    "Date": ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals"),
    "Arn": ("Equals", "Like", "NotEquals", "NotLike"),
}
_COMPARISONS = (
    *(f"{kind}{how}" for kind, ways in _COMPARED.items() for how in ways),
    *("Bool", "BinaryEquals", "IpAddress", "NotIpAddress"),
)
OPERATORS = ("Null", *_COMPARISONS, *(f"{each}IfExists" for each in _COMPARISONS))
_CONDITION_KEY = re.compile(r"[a-z0-9-]+:[A-Za-z][^\s:]*([:/].*)?")
# Permissions that are no operation of the service, or have another name than it.
_PERMISSIONS = {
    "s3": ("ListBucket", "ListBucketMultipartUploads", "ListMultipartUploadParts", "ListAllMyBuckets"),
    "iam": ("PassRole",),
}


_EVERYWHERE = (
    *("ec2:RunInstances", "ec2:CreateTags", "ec2:TerminateInstances"),  # which have rules of their own
    *("ecr:GetAuthorizationToken", "cloudwatch:PutMetricData", "logs:CreateLogGroup"),
)
"""What may be done with the resource "*", beside looking (`ec2:Describe...`)."""
_OF_BUCKET = re.compile(r"s3:(Put|Delete|Create)Bucket|s3:(Put|Delete)(Object|AccessPoint|Public)\w*(Acl|Policy|Block)")
"""What changes who may use a bucket, or the bucket itself."""


def policy(document: Any, place: str, references: References, problems: Problems) -> None:
    """Note what is wrong with the document of a policy, or with that of a role, which tells who may take it."""
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
        _statement(statement, at, references, problems)


def clusters(document: Any) -> list[tuple[str, Any]]:
    """The names of clusters by which a policy bounds what may be ended, with their places below the document."""
    statements = document.get("Statement") if isinstance(document, Mapping) else None
    found = []
    for number, statement in enumerate(statements if isinstance(statements, list) else [statements]):
        if isinstance(statement, Mapping):
            equal = _equals(statement)
            found += [(f"Statement[{number}].Condition", equal[key]) for key in OF_CLUSTER if key in equal]
    return found


def _statement(statement: Mapping[str, Any], at: str, references: References, problems: Problems) -> None:
    shapes.keys(statement, (*_STATEMENT, *_ALL_BUT), at, problems)
    allows = statement.get("Effect") != "Deny"
    if statement.get("Effect") not in ("Allow", "Deny"):
        problems.add(f"{at}.Effect", f"{statement.get('Effect')!r} is not allowed: it must be Allow or Deny")
    for key in _ALL_BUT:
        if key in statement and allows:
            problems.add(f"{at}.{key}", "it allows all but what it names: name what is allowed")
    if "Principal" in statement:
        _principal(statement["Principal"], f"{at}.Principal", references, problems)
    elif "Resource" not in statement and "NotResource" not in statement:
        problems.add(f"{at}.Resource", "it is missing")
    if "Action" not in statement and "NotAction" not in statement:
        problems.add(f"{at}.Action", "it is missing")
    actions = _listed(statement.get("Action", ()))
    for action in actions:
        if why := _action(action, allows):
            problems.add(f"{at}.Action", why)
    for resource in _listed(statement.get("Resource", ())):
        references.check(resource, f"{at}.Resource", problems)
        if allows and (why := _too_many(resource, actions, at, references)):
            problems.add(f"{at}.Resource", why)
    _condition(statement.get("Condition", {}), f"{at}.Condition", references, problems)
    if allows and (why := _of_others(statement, actions)):
        problems.add(f"{at}.Condition", why)


def _principal(principal: Any, at: str, references: References, problems: Problems) -> None:
    if not isinstance(principal, Mapping):
        problems.add(at, f"{principal!r} is not allowed: name who, as in {{Service: ec2.amazonaws.com}}")
        return
    shapes.keys(principal, _PRINCIPALS, at, problems)
    for kind, named in principal.items():
        references.check(named, f"{at}.{kind}", problems)
        if any("*" in references.text(one) for one in _listed(named)):
            problems.add(f"{at}.{kind}", "'*' is everybody: name who, as in {Service: ec2.amazonaws.com}")


def _action(action: Any, allows: bool) -> str:
    """Why an action is not allowed, or empty."""
    service, colon, name = str(action).partition(":")
    if "*" in str(action):
        return f"'{action}' allows more than is needed: name each action" if allows else ""
    if not colon or service not in shapes.services():
        return f"'{action}' is no action of a service, such as s3:GetObject"
    allowed = [*shapes.service(service).operation_names, *_PERMISSIONS.get(service, ())]
    if name not in allowed:
        return f"there is no action '{action}': {shapes.unknown(name, allowed)}"
    if allows and _OF_BUCKET.match(str(action)):
        return f"'{action}' changes who may use the bucket: nodes need its objects alone"
    if allows and service == "iam" and name != "PassRole":
        return f"'{action}' would let a node give itself more rights: of IAM, only iam:PassRole may be allowed"
    return ""


def _too_many(resource: Any, actions: list[Any], place: str, references: References) -> str:
    """Why a resource is too wide for what is done with it, or empty."""
    written = References.text(resource)
    if any(str(action).startswith("s3:") for action in actions):
        if re.search(r"[*?]", written.partition("/")[0]):
            return f"'{written}' is more than one bucket: name the bucket"
        bucket = written.rpartition(":::")[2].partition("/")[0]
        if why := next((why for name in references.inserted(bucket) if (why := references.joker(name))), ""):
            return why
    if "iam:PassRole" in actions:
        return _passed(resource, place, references)
    everywhere = [action for action in actions if written == "*" and action not in _EVERYWHERE]
    if widest := next((action for action in everywhere if ":Describe" not in str(action)), None):
        return f"'*' is too much for {widest}: name the resources that it may be used on"
    return ""


def _passed(resource: Any, place: str, references: References) -> str:
    """Why the role that may be given to machines is not the workers', or empty."""
    if re.search(r"[*?]", written := References.text(resource)):
        return f"'{written}' is more than one role, and some may do anything: name the workers' role"
    told = "name the workers' role, as in {'Fn::GetAtt': [WorkerRole, Arn]}"
    role = References.named(resource) if isinstance(resource, Mapping) and "Ref" not in resource else ""
    if role not in references.resources:
        return f"{written or resource!r} is no role of this template, so what it may do cannot be seen: {told}"
    if place.startswith(f"Resources.{role}."):
        return f"'{role}' is the role itself, so workers would have all its rights: {told}"
    return ""


def _condition(condition: Any, at: str, references: References, problems: Problems) -> None:
    if not isinstance(condition, Mapping):
        problems.add(at, f"{condition!r} is not allowed: it must be a mapping")
        return
    for operator, compared in condition.items():
        name = re.sub("^(ForAllValues|ForAnyValue):", "", str(operator))
        if name not in OPERATORS:
            problems.add(f"{at}.{operator}", f"there is no operator '{operator}': {shapes.unknown(name, OPERATORS)}")
        if not isinstance(compared, Mapping):
            problems.add(f"{at}.{operator}", f"{compared!r} is not allowed: it must be a mapping")
            continue
        for key, value in compared.items():
            if not _CONDITION_KEY.fullmatch(str(key)):
                problems.add(f"{at}.{operator}.{key}", f"'{key}' is no key of a condition, such as {OF_CLUSTER[0]}")
            references.check(value, f"{at}.{operator}.{key}", problems)


def _of_others(statement: Mapping[str, Any], actions: list[Any]) -> str:
    """Why a statement reaches machines of others, or empty."""
    equal = _equals(statement)
    if "ec2:TerminateInstances" in actions and not any(key in equal for key in OF_CLUSTER):
        return f"it may end every machine of the account: add {{StringEquals: {{'{OF_CLUSTER[0]}': ...}}}}"
    if "ec2:CreateTags" in actions and not any(key in equal for key in (*OF_CLUSTER, AT_START)):
        return f"it may make every machine one of the cluster's: add {{StringEquals: {{'{AT_START}': RunInstances}}}}"
    return ""


def _equals(statement: Mapping[str, Any]) -> Mapping[str, Any]:
    condition = statement.get("Condition")
    equal = condition.get("StringEquals") if isinstance(condition, Mapping) else None
    return equal if isinstance(equal, Mapping) else {}


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
