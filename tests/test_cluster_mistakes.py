"""Everything that could be wrong with a cluster file is told by its place, and what is right in other words is not."""

import re
from pathlib import Path

import pytest

from emoray import cluster_file
from tests.cluster_folder import edit, folder, told

__all__ = ["folder"]  # the fixture


MISTAKES = [
    # Ray's schema, at every depth
    (
        "max_workers: 12",
        "max_worker: 12",
        r"line \d+: max_worker: there is no key 'max_worker': did you mean 'max_workers'",
    ),
    (
        "  cache_stopped_nodes: false",
        "  cache_stoped_nodes: false",
        "provider.cache_stoped_nodes: .*'cache_stopped_nodes'",
    ),
    ("  ssh_user: ubuntu", "  shh_user: ubuntu", "auth.shh_user: .*did you mean 'ssh_user'"),
    ("  pull_before_run: true", "  pull_befor_run: true", "docker.pull_befor_run: .*'pull_before_run'"),
    ("    max_workers: 4", "    max_wrokers: 4", "available_node_types.cpu.max_wrokers: .*'max_workers'"),
    ("resources: {CPU: 16}", "resources: {CPU: many}", "cpu.resources.CPU: 'many' is not allowed: .*a whole number"),
    ("resources: {CPU: 16}", "resourcs: {CPU: 16}", "cpu.resourcs: .*did you mean 'resources'"),
    ("setup_commands: [*token, *install] ", "setup_commands: *install ", "setup_commands: 'pip .* it must be a list"),
    # Ray's own code
    (
        "head_node_type: head\n",
        "head_node_type: haed\n",
        r"line \d+: head_node_type: 'haed' is not allowed: did you mean 'head'\? \(allowed: cpu, ",
    ),
    ("max_workers: 12", "max_workers: 0\nmetadata2: 1", "metadata2: there is no key"),
    # EC2's parameters, at every depth
    (
        "InstanceType: g6.xlarge",
        "InstnceType: g6.xlarge",
        "gpu-l4.node_config.InstnceType: .*did you mean 'InstanceType'",
    ),
    (
        "InstanceType: g6.xlarge",
        "InstanceType: g6.xlrage",
        "InstanceType: 'g6.xlrage' is not allowed: did you mean 'g6.xlarge'",
    ),
    ("VolumeSize: 150", "VolumSize: 150", r"head.node_config.BlockDeviceMappings\[0\].Ebs.VolumSize: .*'VolumeSize'"),
    ("VolumeSize: 150", "VolumeSize: large", "Ebs.VolumeSize: 'large' is not allowed: it must be a whole number"),
    ("VolumeType: gp3", "VolumeType: gp5", "VolumeType: 'gp5' is not allowed: did you mean"),
    ("{MarketType: spot,", "{MarketTyp: spot,", "InstanceMarketOptions.MarketTyp: .*'MarketType'"),
    ("SpotInstanceType: one-time", "SpotInstanceType: once", "SpotOptions.SpotInstanceType: 'once' is not allowed"),
    ("{Name: emoray-head}", "[emoray-head]", "head.node_config.IamInstanceProfile: .*it must be a mapping"),
    (
        "      InstanceType: m7i.4xlarge",
        "      InstanceType: m7i.4xlarge\n      MinCount: 2",
        "cpu.node_config.MinCount: Ray sets it",
    ),
    # ours: the head
    ("{CPU: 0, driver: 1}", "{driver: 1}", "available_node_types.head.resources: CPU is no value"),
    ("{CPU: 0, driver: 1}", "{CPU: 4, driver: 1}", "head.resources: CPU is 4: it must be 0"),
    ("IamInstanceProfile: *head_profile", "InstanceMarketOptions: *spot", "the head must not be a spot machine"),
    # ours: dashboard and authentication
    ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "the dashboard listens on 0.0.0.0: it must be"),
    ("    --dashboard-host=127.0.0.1\n", "", "the dashboard listens on the default address"),
    ("RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled", "RAY_AUTH_MODE is disabled in the head's container"),
    ("    - -e RAY_AUTH_MODE=token\n", "", "RAY_AUTH_MODE is not set in the gpu-t4's container"),
    (
        "  - ray start --address",
        "  - RAY_AUTH_MODE=disabled ray start --address",
        "RAY_AUTH_MODE=disabled: it must be token",
    ),
    ("  - ray start --address", "  - RAY_AUTH_TOKEN=abc ray start --address", "a token stands in the file"),
    ("auth_token: ~/.ray/auth_token", "auth: ~/.ray", "file_mounts: Ray's token is not brought along"),
    ("install -D -m 600", "install -D -m 644", "no command gives the token's file mode 600"),
    (
        "worker_setup_commands: [*token, *install_with_cuda]",
        "worker_setup_commands: [*install_with_cuda]",
        "gpu-l4.worker_setup",
    ),
    # ours: profiles, images, network
    ("IamInstanceProfile: *worker_profile", "KeyName: mine", "cpu.node_config.IamInstanceProfile: it is missing"),
    (
        "{Name: emoray-worker}",
        "{Name: emoray-wroker}",
        "aws.yaml makes no profile 'emoray-wroker': did you mean 'emoray-worker'",
    ),
    ("      ImageId: *image\n", "", "head.node_config.ImageId: it is missing"),
    ("      SecurityGroupIds: *security_groups\n", "", "head.node_config.SecurityGroupIds: it is missing: .*0.0.0.0/0"),
    (
        "  type: aws\n",
        "  type: aws\n  security_group: {GroupName: x}\n",
        "Ray adds a rule to it that opens SSH to 0.0.0.0/0",
    ),
    (
        "IamInstanceProfile: *worker_profile",
        "IamInstanceProfile: *head_profile",
        "cpu.node_config.IamInstanceProfile: .* is the head's",
    ),
    (
        "      SecurityGroupIds: *security_groups\n",
        "      SecurityGroupIds: *security_groups\n      NetworkInterfaces: [{DeviceIndex: 0}]\n",
        r"SecurityGroupIds: Ray takes it from each of NetworkInterfaces(.*\n)*.*NetworkInterfaces\[0\].SubnetId: it is",
    ),
    ("HttpTokens: required", "HttpTokens: required, HttpEndpoint: disabled", "HttpEndpoint: 'disabled' is not allowed"),
    ("HttpTokens: required", "HttpTokens: optional", "MetadataOptions: HttpTokens must be required"),
    (
        "MetadataOptions: *imds",
        "MetadataOptions: 1",
        "head.node_config.MetadataOptions: 1 is not allowed: .* a mapping",
    ),
    ("  ssh_user: ubuntu", "  ssh_user: ubuntu\n  ssh_private_key: ~/k", "KeyName: it is missing"),
    # ours: spot
    ("cache_stopped_nodes: false", "cache_stopped_nodes: true", "it must be false: spot machines cannot be stopped"),
    ("python -m emoray.spot", "python -m emoray.spto", r"commands\[2\]: 'emoray.spto' is not .*'emoray.spot'"),
    (
        "InstanceInterruptionBehavior: terminate",
        "InstanceInterruptionBehavior: stop",
        "cpu.node_config.InstanceMarketOptions.SpotOptions.Instance.*: 'stop' is not allowed: it must be terminate",
    ),
    ("SpotInstanceType: one-time", "SpotInstanceType: persistent", "'persistent' is not allowed: it must be one-time"),
    (
        "python -m emoray.spot ",
        "python -m emoray.spots ",
        r"worker_start_ray_commands\[2\]: 'emoray.spots' is .*'emoray.spot'",
    ),
    ("python -m emoray.spot ", "python -m emoray.sweep ", "worker_start_ray_commands: spot machines need"),
    # ours: options of `ray start`
    (
        "--object-manager-port=8076",
        "--object-manger-port=8076",
        "`ray start` has no option --object-manger-port: did you mean '--object-manager-port'",
    ),
    ("ray start --address", "ray start --head --address", r"worker_start_ray_commands\[1\]: --head is not allowed"),
    # ours: the head's port
    (
        "ray start --address=$RAY_HEAD_IP:6379",
        "ray start --address=$RAY_HEAD_IP:6378",
        r"commands\[1\]: --address=\$RAY_HEAD_IP:6378 is not allowed: .*must end in :6379",
    ),
    (
        "ray start --address=$RAY_HEAD_IP:6379",
        "ray start --address=${RAY_HED_IP}:6379",
        r"worker_start_ray_commands\[1\]: Ray sets no variable RAY_HED_IP: did you mean \$RAY_HEAD_IP",
    ),
    ("--port=6379", "--port=6380", r"commands\[2\]: --address=\$RAY_HEAD_IP:6379 is not allowed: .*port 6380"),
    ("--port=6379 ", "--port 6380 ", r"commands\[1\]: --address=\$RAY_HEAD_IP:6379 is not allowed: .*port 6380"),
    ("emoray.spot --address $RAY_HEAD_IP:6379", "emoray.spot", "`emoray.spot` needs --address=.RAY_HEAD_IP:6379"),
    # ours: what comes by file_mounts
    (
        "emoray-token/auth_token: ~",
        "emoray-token/auth_tokn: ~",
        r"line \d+: setup_commands\[0\]: ~/emoray-token/auth_token is not .* /home/ray/emoray-token/auth_tokn, and",
    ),
    ("emoray-token/auth_token: ~", "emoray-tokn/auth_token: ~", "~/emoray-token/auth_token is not allowed"),
    ("/home/ray/emoray: dist", "/home/ray/emory: dist", "~/emoray/constraints.txt is not allowed: .* /home/ray/emory,"),
    # ours: memory and versions
    ("--ulimit nofile=65536:65536", "--shm-size=1kb", r"docker.run_options\[3\]: --shm-size=1kb is .* 1g or more"),
    ("--ulimit nofile=65536:65536", "--shm-size 1023m", "--shm-size=1023m is not allowed: it must be 1g or more"),
    ("--ulimit nofile=65536:65536", "--shm-size=8gig", "--shm-size=8gig is not allowed: it must be a size such as 8g"),
    ("  pull_before_run: true", "  disable_shm_size_detection: true", "64 MB of shared memory"),
    ("ray:2.60.0-py311", "ray:2.59.0-py311", "docker.image: Ray is 2.59.0 there and 2.60.0 here"),
    ("ray:2.60.0-py311", "ray:2.60.0-py310", "docker.image: Python is 3.10 there"),
    ("emoray-0.1.0-py3", "emoray-0.0.9-py3", "emoray is 0.0.9 there and 0.1.0 here"),
    ("-c ~/emoray/constraints.txt", "", "it installs what is newest today"),
    ("head_setup_commands: []", "head_setup_commands: [pip install -c x ray==2.59.0]", "ray is 2.59.0 there"),
    ("resources: {CPU: 16}", "resources: {}", "cpu.resources: it needs CPU"),
    (
        "resources: {CPU: 16}",
        "resources: {CPU: 16}\n    docker: {worker_image: rayproject/ray:2.59.0-py311}",
        "available_node_types.cpu.docker.worker_image: Ray is 2.59.0 there",
    ),
    (
        "rayproject/ray:2.60.0-py311",
        "a.dkr.ecr.b.amazonaws.com/emoray:0.0.9-cuda",
        "docker.image: emoray is 0.0.9 there",
    ),
    # ours: names of resources, how Ray is started
    ("resources: {CPU: 16}", "resources: {CPU: 16, Gpu: 1}", "resources.Gpu: there is no resource 'Gpu': .*'GPU'"),
    ("resources: {CPU: 16}", "resources: {CPU: 16, memry: 1}", "resources.memry: .*did you mean 'memory'"),
    ("resources: {CPU: 4, GPU: 1}", "resources: {CPU: 4, GPUs: 1}", "gpu-l4.resources.GPUs: .*did you mean 'GPU'"),
    (
        " --autoscaling-config=~/ray_bootstrap_config.yaml",
        "",
        r"head_start_ray_commands\[1\]: `ray start` needs --autoscaling",
    ),
    (
        "ray start --address=$RAY_HEAD_IP:6379",
        "ray start",
        r"worker_start_ray_commands\[1\]: `ray start` needs --address=",
    ),
    # how many, where, with which GPUs
    (
        "min_workers: 0\n    max_workers: 8",
        "min_workers: 9\n    max_workers: 8",
        "min_workers: 9 .*its own max_workers is 8",
    ),
    (
        "min_workers: 0\n    max_workers: 8",
        "min_workers: 13\n    max_workers: 8",
        "its own max_workers is 8 and max_workers of the whole file is 12",
    ),
    (
        "&region us-east-1",
        "&region us-est-1",
        r"line \d+: provider.region: 'us-est-1' is not allowed: did you mean 'us-east-1'",
    ),
    (
        "us-east-1a,us-east-1b",
        "us-east-1a,us-west-1b",
        "availability_zone: no zone of us-east-1 is called 'us-west-1b': .*us-east-1a$",
    ),
    ("us-east-1a,us-east-1b", "us-east-1a us-east-1b", "no zone of us-east-1 is called 'us-east-1a us-east-1b"),
    (
        "InstanceType: g6.xlarge",
        "InstanceType: m7i.xlarge",
        "gpu-l4.resources.GPU: 1 is not allowed: m7i.xlarge has no GPU",
    ),
    (
        "InstanceType: g6.xlarge",
        "InstanceType: g4ad.xlarge",
        "gpu-l4.resources.GPU: 1 is not allowed: g4ad.xlarge has no",
    ),
    (
        "InstanceType: g6.xlarge",
        "InstanceType: trn1.2xlarge",
        "GPU: 1 is not allowed: trn1.2xlarge has no GPU of NVIDIA",
    ),
    (
        "&region us-east-1",
        "&region us-west-2",
        "no zone of us-west-2 is called 'us-east-1a' or 'us-east-1b' or .*us-west-2a$",
    ),
    # what Ray's YAML makes of it
    ("cluster_name: emoray", "cluster_name: emoray\nno: 1", "to Ray the key False is no text: put it in quotes"),
    ("cluster_name: emoray", "cluster_name: 2024-13-01", "cannot be read as Ray reads it: month must be in 1..12$"),
    ("cluster_name: emoray", "cluster_name: !!int x", "cannot be read as Ray reads it: "),
    ("cluster_name: emoray", "cluster_name: 2024-12-01", "cluster_name: .*it must be text"),
    ("  /home/ray/emoray: dist", "  /home/ray/emoray:", "file_mounts./home/ray/emoray: None is not allowed"),
    # the template beside it
    (
        "cluster_name: emoray",
        "cluster_name: mine",
        "cluster_name: 'mine' is another cluster: the head may end .*'emoray'",
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES, ids=[new.strip()[:40] for _, new, _ in MISTAKES])
def test_every_mistake_is_told_with_its_place(folder: Path, old: str, new: str, expected: str) -> None:
    edit(folder / "gpu.yaml", old, new)
    found = told(folder)
    assert re.search(expected, found), found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("us-east-1a,us-east-1b", "us-east-1a, us-east-1-bos-1a"),
        ("    - --ulimit nofile=65536:65536", "    - --shm-size=1gb"),
        ("    - --ulimit nofile=65536:65536", "    - --shm-size\n    - '2147483648'"),
        ("--ulimit nofile=65536:65536", "--shm-size=$HALF"),
        ("-e RAY_AUTH_MODE=token", "-eRAY_AUTH_MODE=token"),
        ("SpotOptions: {SpotInstanceType: one-time, InstanceInterruptionBehavior: terminate}", "SpotOptions: {}"),
        ("InstanceType: g6.xlarge", "InstanceType: gr6.4xlarge"),
        ("InstanceType: g6.xlarge", "InstanceType: p4d.24xlarge"),
        ("    min_workers: 0\n    max_workers: 8", "    min_workers: 8\n    max_workers: 8"),
        ("$RAY_HEAD_IP:6379 --object", "$RAY_HEAD_IP:$PORT --object"),
        ("--head --port=6379", "--head"),
        ("install -D -m 600 ~/emoray-token", "install -D -m 600 $HOME/emoray-token"),
        ("head_setup_commands: []", "head_setup_commands: [cp /etc/hosts ~/emoray-token/hosts, cp ~/.profile ~/other]"),
        ("head_setup_commands: []", "head_setup_commands: [git clone x ~/emoray2, cp ~/emoray2/a b]"),
    ],
)
def test_what_is_right_in_other_words_is_taken(folder: Path, old: str, new: str) -> None:
    edit(folder / "gpu.yaml", old, new)
    cluster_file.check(folder / "gpu.yaml")
