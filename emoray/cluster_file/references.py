"""What a CloudFormation template writes in the place of a value: Ref and the few functions that are needed. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emoray.cluster_file import shapes, values
from emoray.problems import Problems

_FUNCTIONS = ("Ref", "Fn::GetAtt", "Fn::Join", "Fn::Sub")
_BY_AWS = ("AccountId", "NoValue", "NotificationARNs", "Partition", "Region", "StackId", "StackName", "URLSuffix")
_ATTRIBUTES = {
    "AWS::IAM::Role": ("Arn", "RoleId"),
    "AWS::IAM::ManagedPolicy": ("PolicyArn", "PolicyId"),
    "AWS::IAM::InstanceProfile": ("Arn",),
    "AWS::EC2::SecurityGroup": ("GroupId", "Id", "VpcId"),
}
_INSERTED = re.compile(r"\$\{([^!}][^}]*)\}")


@dataclass(frozen=True)
class References:
    """What the values of a template may name: its parameters and its resources."""

    parameters: Mapping[str, Any]
    resources: Mapping[str, Any]

    def check(self, value: Any, place: str, problems: Problems) -> None:
        """Note where a value, or one of a list of them, is neither plain nor a function that names something."""
        if isinstance(value, list):
            for number, one in enumerate(value):
                self.check(one, f"{place}[{number}]", problems)
        elif isinstance(value, Mapping):
            shapes.keys(value, _FUNCTIONS, place, problems)
            if len(value) != 1:
                problems.add(place, "it must be a value, or one function such as Ref")
            for function, argument in value.items():
                if why := self._wrong(str(function), argument, place, problems):
                    problems.add(f"{place}.{function}", why)
        elif value is None:
            problems.add(place, "it has no value")

    def default(self, value: Any) -> Any:
        """A value, or what the parameter has that it names."""
        name = value.get("Ref") if isinstance(value, Mapping) else None
        parameter = self.parameters.get(name) if isinstance(name, str) else None
        return parameter.get("Default") if isinstance(parameter, Mapping) else value

    @staticmethod
    def text(value: Any) -> str:
        """What is written out of a value; what is inserted into it is not."""
        match value:
            case str():
                return value
            case {"Fn::Sub": [str(written), *_]} | {"Fn::Sub": str(written)}:
                return written
            case {"Fn::Join": [str(between), list(parts)]}:
                return between.join(References.text(part) for part in parts)
        return ""

    @staticmethod
    def named(value: Any) -> str:
        """The one thing of the template that a value is or is of, or empty."""
        match value:
            case {"Ref": str(name)} | {"Fn::GetAtt": [str(name), *_]}:
                return name
            case {"Fn::GetAtt": str(name)}:
                return name.partition(".")[0]
        return ""

    @staticmethod
    def inserted(text: str) -> list[str]:
        """The names that Fn::Sub would put values in the place of."""
        return [str(name) for name in _INSERTED.findall(text)]

    def joker(self, name: str) -> str:
        """Why a parameter could be a pattern of many names where one is wanted, or empty."""
        parameter = self.parameters.get(name)
        if not isinstance(parameter, Mapping):
            return ""
        try:
            taken = values.taken(name, parameter, ("*", "?", "a*", "data-?", "a*b"))
        except values.Unusable as error:
            return str(error)
        told = f"the parameter {name} takes {taken}, more than one bucket: give it an AllowedPattern that does not"
        return told if taken else ""

    def _wrong(self, function: str, argument: Any, place: str, problems: Problems) -> str:
        match function, argument:
            case "Ref", str(name):
                return self._names(name)
            case "Fn::GetAtt", str(name) | [str(name)]:
                return self._attribute(*name.partition(".")[::2])
            case "Fn::GetAtt", [str(name), str(attribute)]:
                return self._attribute(name, attribute)
            case "Fn::Sub", str(text):
                return self._inserted(text, ())
            case "Fn::Sub", [str(text), Mapping() as own]:
                self.check(list(own.values()), place, problems)
                return self._inserted(text, tuple(map(str, own)))
            case "Fn::Join", [str(), list(parts)]:
                self.check(parts, place, problems)
                return ""
        return f"{argument!r} is no argument of {function}" if function in _FUNCTIONS else ""

    def _names(self, name: str) -> str:
        known = [*self.parameters, *self.resources, *(f"AWS::{each}" for each in _BY_AWS)]
        return "" if name in known else f"nothing here is called '{name}': {shapes.unknown(name, known)}"

    def _attribute(self, name: str, attribute: str) -> str:
        if name not in self.resources:
            return f"there is no resource '{name}': {shapes.unknown(name, self.resources)}"
        resource = self.resources[name]
        kind = resource.get("Type") if isinstance(resource, Mapping) else None
        known = _ATTRIBUTES.get(kind, ()) if isinstance(kind, str) else ()
        return "" if attribute in known else f"'{name}' has no '{attribute}': {shapes.unknown(attribute, known)}"

    def _inserted(self, text: str, own: tuple[str, ...]) -> str:
        for name in _INSERTED.findall(text):
            resource, dot, attribute = name.partition(".")
            why = "" if name in own else self._attribute(resource, attribute) if dot else self._names(name)
            if why:
                return why
        return ""
