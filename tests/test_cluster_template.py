"""The template beside a cluster file: everything that is wrong with roles, permissions and the network is told."""

import copy
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from emoray.cluster_file import stack
from emoray.problems import Problems
from tests.cluster_folder import CLUSTER, edit, folder, told

__all__ = ["folder"]  # the fixture


TEMPLATE_MISTAKES = [
    (
        "    Type: AWS::IAM::ManagedPolicy",
        "    Typ: AWS::IAM::ManagedPolicy",
        "Resources.UseBucket.Typ: .*did you mean 'Type'",
    ),
    (
        "AWS::EC2::SecurityGroup\n",
        "AWS::EC2::SecurtyGroup\n",
        "there is no resource 'AWS::EC2::SecurtyGroup': did you mean",
    ),
    ("GroupDescription:", "GroupDescripton:", "Nodes.Properties.GroupDescripton: .*did you mean 'GroupDescription'"),
    (
        "CidrIp: {Ref: SshRange}",
        "CidrIP: {Ref: SshRange}",
        r"SecurityGroupIngress\[0\].CidrIP: .*did you mean 'CidrIp'",
    ),
    ("CidrIp: {Ref: SshRange}", "CidrIp: 0.0.0.0/0", "CidrIp: 0.0.0.0/0 is the whole internet"),
    ("CidrIp: {Ref: SshRange}", "CidrIpv6: '::/0'", "CidrIpv6: ::/0 is the whole internet"),
    ("CidrIp: {Ref: SshRange}", "CidrIp: {Ref: SshRnge}", "neither a range of addresses nor a parameter"),
    ("/(2[4-9]|3[0-2])", "/[0-9]+", "the parameter SshRange takes 0.0.0.0/0"),
    ("FromPort: 22, ToPort: 22", "FromPort: 0, ToPort: 65535", "opens ports 0 to 65535 to addresses outside"),
    ('"s3:ListBucket"', '"s3:ListBuckt"', "there is no action 's3:ListBuckt': did you mean 'ListBucket'"),
    ('Action: "ec2:RunInstances"', 'Action: "ec2:*"', "'ec2:\\*' allows more than is needed"),
    ('Action: "iam:PassRole"', "Action: PassRole", "'PassRole' is no action of a service"),
    (
        "Sid: FindInBucket\n            Effect: Allow",
        "Sid: FindInBucket\n            Effect: allow",
        "Effect: 'allow' is not allowed",
    ),
    ("Sid: FindInBucket", "Sdi: FindInBucket", r"Statement\[0\].Sdi: .*did you mean 'Sid'"),
    ('Version: "2012-10-17"', 'Version: "2012-10-71"', "Version: '2012-10-71' is not allowed"),
    # what the head and the workers may do
    (
        'Resource: {"Fn::GetAtt": [WorkerRole, Arn]}',
        "Resource: arn:aws:iam::1:role/Admin",
        "Statement.4..Resource: 'arn:aws:iam::1:role/Admin' is no role of this template",
    ),
    (
        'Resource: {"Fn::GetAtt": [WorkerRole, Arn]}',
        'Resource: {"Fn::GetAtt": [HeadRole, Arn]}',
        "'HeadRole' is the role itself, so workers would have all its rights",
    ),
    ("Roles: [{Ref: WorkerRole}]", "Roles: [{Ref: HeadRole}]", "WorkerProfile.Properties.Roles.0.: .*another profile"),
    ('["ec2:DescribeInstances", ', '["ssm:SendCommand", ', "Resource: '\\*' is too much for ssm:SendCommand"),
    ('["ec2:DescribeInstances", ', '["sts:AssumeRole", ', "Resource: '\\*' is too much for sts:AssumeRole"),
    ("- s3:PutObject", "- s3:PutBucketPolicy", "'s3:PutBucketPolicy' changes who may use the bucket"),
    ("- s3:PutObject", "- s3:PutObjectAcl", "'s3:PutObjectAcl' changes who may use the bucket"),
    (
        '    AllowedPattern: "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"\n',
        "",
        "the parameter Bucket takes ., more than one bucket",
    ),
    (
        'AllowedPattern: "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"',
        'AllowedPattern: "[a-z*-]+"',
        "the parameter Bucket takes ., more than one bucket",
    ),
    # who may reach the nodes
    (
        'SourceSecurityGroupId: {"Fn::GetAtt": [Nodes, GroupId]}',
        "SourceSecurityGroupId: sg-0123456789abcdef0",
        "SourceSecurityGroupId: 'sg-0123456789abcdef0' is no group of this template",
    ),
    (
        'AllowedPattern: "([0-9]{1,3}\\\\.){3}[0-9]{1,3}/(2[4-9]|3[0-2])"',
        'AllowedPattern: "(([0-9./]+)+)+x"',
        "the AllowedPattern of SshRange takes too long to try",
    ),
    ("IpProtocol: tcp, FromPort: 22, ToPort: 22", "IpProtocol: '-1'", "IpProtocol: '-1' opens more than SSH"),
    ("IpProtocol: tcp, ", "", "SecurityGroupIngress.0..IpProtocol: it is missing"),
    (
        "- {IpProtocol: tcp, FromPort: 22, ToPort: 22, CidrIp: {Ref: SshRange}, Description: SSH}",
        "- {IpProtocol: tcp, FromPort: 22, ToPort: 22, CidrIp: 0.0.0.0/1}\n"
        "        - {IpProtocol: tcp, FromPort: 22, ToPort: 22, CidrIp: 128.0.0.0/1}",
        r"CidrIp: 0.0.0.0/1 has more than 256 addresses\n(.*\n)*.*SecurityGroupIngress\[1\].CidrIp: a second range",
    ),
    ("CidrIp: {Ref: SshRange}", "CidrIp: {Ref: SshRange}, CidrIpv6: '2001:db8::1/128'", "CidrIpv6: a second range"),
    ("CidrIp: {Ref: SshRange}", "CidrIp: {Ref: [a]}", r"CidrIp: \{'Ref': \['a'\]\} is neither a range"),
    ("CidrIp: {Ref: SshRange}", "SourcePrefixListId: pl-1", "SourcePrefixListId: such a list may hold any addresses"),
    ("CidrIp: {Ref: SshRange}, ", "", "CidrIp: it is missing: the rule does not tell from where"),
    ("/(2[4-9]|3[0-2])", "/(1|2[4-9]|3[0-2])", "the parameter SshRange takes 0.0.0.0/1, more than 256 addresses"),
    ("/(2[4-9]|3[0-2])", "/(2[3-9]|3[0-2])", "the parameter SshRange takes 0.0.0.0/23, more than 256 addresses"),
    (
        "        - {IpProtocol: tcp, FromPort: 22,",
        "        {IpProtocol: tcp, FromPort: 22,",
        "SecurityGroupIngress: .* is not allowed: it must be a list of mappings",
    ),
    # who may do what
    ('Action: "ec2:RunInstances"', 'NotAction: "s3:GetObject"', "NotAction: it allows all but what it names"),
    (
        "[{Ref: UseBucket}]",
        "[arn:aws:iam::aws:policy/AdministratorAccess]",
        r"ManagedPolicyArns\[0\]: .* is no policy of",
    ),
    ("Principal: {Service: ec2.amazonaws.com}", "Principal: '*'", "Principal: '\\*' is not allowed: name who"),
    ("Principal: {Service: ec2.amazonaws.com}", "Principal: {AWS: '*'}", "Principal.AWS: '\\*' is everybody"),
    (
        "Principal: {Service: ec2.amazonaws.com}",
        "Principal: {Servise: ec2}",
        "Principal.Servise: .*did you mean 'Service'",
    ),
    (
        'Resource: {"Fn::Sub": "arn:${AWS::Partition}:s3:::${Bucket}/*"}',
        'Resource: "*"',
        "'\\*' is more than one bucket",
    ),
    (":s3:::${Bucket}/*", ":s3:::my-*/*", "is more than one bucket: name the bucket"),
    ('Resource: {"Fn::GetAtt": [WorkerRole, Arn]}', 'Resource: "*"', "'\\*' is more than one role"),
    ('Action: "iam:PassRole"', 'Action: "iam:AttachRolePolicy"', "'iam:AttachRolePolicy' would let a node give itself"),
    (
        'Condition: {StringEquals: {"ec2:ResourceTag/ray-cluster-name": {Ref: ClusterName}}}',
        "",
        "Condition: it may end every machine of the account",
    ),
    (
        'Condition: {StringEquals: {"ec2:CreateAction": RunInstances}}',
        "",
        "Condition: it may make every machine one of",
    ),
    (
        'Condition: {StringEquals: {"ec2:R',
        'Condition: {StringEqals: {"ec2:R',
        "StringEqals: .*did you mean 'StringEquals'",
    ),
    ("- PolicyName: machines", "- machines\n        - PolicyName: machines", "Policies: .* must be a list of mappings"),
    # names
    ("{Ref: HeadRole}", "{Ref: HeadRol}", "Roles.0..Ref: nothing here is called 'HeadRol': did you mean 'HeadRole'"),
    ("{Ref: HeadRole}", "{Reff: HeadRole}", "Roles.0..Reff: there is no key 'Reff': did you mean 'Ref'"),
    ("[WorkerRole, Arn]", "[WorkerRole, Arm]", "Fn::GetAtt: 'WorkerRole' has no 'Arm': did you mean 'Arn'"),
    ('"Fn::GetAtt": [WorkerRole', '"Fn::GetAt": [WorkerRole', "Resource.Fn::GetAt: .*did you mean 'Fn::GetAtt'"),
    ('s3:::${Bucket}"', 's3:::${Buckt}"', "Fn::Sub: nothing here is called 'Buckt': did you mean 'Bucket'"),
    (
        '    AllowedPattern: "[a',
        '    AlowedPattern: "[a',
        "Parameters.Bucket.AlowedPattern: .*did you mean 'AllowedPattern'",
    ),
    ("PolicyName: machines", "PolicyNam: machines", r"Policies\[0\].PolicyNam: .*did you mean 'PolicyName'"),
    ("    Value: {", "    Valu: {", "Outputs.SecurityGroup.Valu: .*did you mean 'Value'"),
    ("    Default: emoray", "    Default: other", "cluster_name: 'emoray' is another cluster: .*'other'"),
]


@pytest.mark.parametrize(
    ("old", "new", "expected"), TEMPLATE_MISTAKES, ids=[new[:40] for _, new, _ in TEMPLATE_MISTAKES]
)
def test_every_mistake_in_the_template_is_told(folder: Path, old: str, new: str, expected: str) -> None:
    edit(folder / "aws.yaml", old, new)
    found = told(folder)
    assert re.search(expected, found), found


def places(tree: object, parents: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inside:
        yield (*parents, key)
        yield from places(value, (*parents, key))


@pytest.mark.parametrize(
    "value", [None, 1, "text", [], ["text"], [None], {}, {"Ref": ["a"]}, {"Ref": None}, [{"x": 1}]]
)
def test_no_value_anywhere_in_the_template_ends_the_check(value: object) -> None:
    template = yaml.safe_load((CLUSTER / "aws.yaml").read_text())
    for parents in list(places(template)):
        changed = copy.deepcopy(template)
        holder = functools.reduce(lambda tree, key: tree[key], parents[:-1], changed)
        holder[parents[-1]] = value
        stack.check(changed, Problems())
        if isinstance(changed.get("Resources"), dict):
            stack.clusters(changed)
            stack.profiles(changed)


def test_a_range_may_be_written_in_the_template() -> None:
    template = yaml.safe_load((CLUSTER / "aws.yaml").read_text())
    rule = template["Resources"]["Nodes"]["Properties"]["SecurityGroupIngress"][0]
    for written, wrong in (
        ("203.0.113.7/32", False),
        ("198.51.100.0/24", False),
        ("everywhere", True),
        ("0.0.0.0/0", True),
    ):
        rule["CidrIp"] = written
        problems = Problems()
        stack.check(template, problems)
        assert bool(problems.found) == wrong, written
