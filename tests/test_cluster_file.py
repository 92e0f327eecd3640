"""The shipped cluster file is right, and everything that could be wrong with one is told by its place."""

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

import emoray
from emoray import cli, cluster_file
from emoray.cluster_file import start
from tests.cluster_folder import CLUSTER, PROJECT, edit, folder, told

__all__ = ["folder"]  # the fixture


def test_the_shipped_file_has_nothing_wrong_and_says_what_is_to_be_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(CLUSTER / "gpu.yaml")]) == 0
    out = capsys.readouterr().out
    assert "nothing wrong (head, cpu, gpu-l4, gpu-a10g, gpu-t4" in out
    assert "metadata.image is still the example's" in out
    assert "metadata.security_groups[0] is still the example's" in out


def test_what_is_set_and_there_is_not_asked_for_again(folder: Path, tmp_path: Path) -> None:
    file = folder / "gpu.yaml"
    for old, new in (("ami-00000000000000000", "ami-0271ce88f6c03e149"), ("sg-00000000000000000", "sg-0a1b")):
        edit(file, old, new)
    edit(file, "/home/ray/emoray: dist", f"/home/ray/emoray: {tmp_path}/dist")
    edit(file, "auth_token: ~/.ray/auth_token", f"auth_token: {tmp_path}/auth_token")
    asked = cluster_file.check(file).to_do
    assert [line.partition(" for ")[0] for line in asked] == [
        f"there is no {tmp_path}/dist,",
        f"there is no {tmp_path}/auth_token,",
    ]
    (tmp_path / "dist").mkdir()
    (tmp_path / "auth_token").touch()
    wheel = f"emoray-{emoray.__version__}-py3-none-any.whl"
    assert [line for line in cluster_file.check(file).to_do if wheel in line]
    (tmp_path / "dist" / wheel).touch()
    assert cluster_file.check(file).to_do == ()


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
    ("resources: {CPU: 16}", "resourcs: {CPU: 16}", "available_node_types.cpu.resources: it is missing"),
    ("setup_commands: [*token, *install] ", "setup_commands: *install ", "setup_commands: 'pip .* it must be a list"),
    # Ray's own code
    ("head_node_type: head\n", "head_node_type: haed\n", "`head_node_type` must be one of `available_node_types`"),
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
    ("HttpTokens: required", "HttpTokens: optional", "MetadataOptions: HttpTokens must be required"),
    (
        "MetadataOptions: *imds",
        "MetadataOptions: 1",
        "head.node_config.MetadataOptions: 1 is not allowed: .* a mapping",
    ),
    ("  ssh_user: ubuntu", "  ssh_user: ubuntu\n  ssh_private_key: ~/k", "KeyName: it is missing"),
    # ours: spot
    ("cache_stopped_nodes: false", "cache_stopped_nodes: true", "it must be false: spot machines cannot be stopped"),
    ("python -m emoray.spot", "python -m emoray.spto", "worker_start_ray_commands: spot machines need"),
    # ours: memory and versions
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
    # what Ray's YAML makes of it
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


def test_all_mistakes_are_told_at_once_and_a_shared_one_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "gpu.yaml"
    edit(file, "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0")
    edit(file, "InstanceType: g5.xlarge", "InstanceTyp: g5.xlarge")
    edit(file, "VolumeSize: 150", "VolumSize: 150")  # in an anchor that five node types use
    edit(folder / "aws.yaml", "GroupDescription:", "GroupDescripton:")
    assert cli.main(["check", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"error: {file} has 4 problems:"
    assert sum("VolumSize" in line for line in lines) == 1
    assert sum("InstanceTyp" in line for line in lines) == 2, "the misspelt key, and the one that is missing"
    assert any(line.startswith("  line ") and "GroupDescripton" in line for line in lines)


def test_what_is_no_cluster_file_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "gpu.yaml"
    assert cli.main(["check", str(folder / "gpu.yml")]) == 2
    assert "did you mean 'gpu.yaml'" in capsys.readouterr().err
    for text, why in (
        ("[]", "holds no cluster"),
        ("Resources: {}", "holds no cluster"),
        ("a: !!python/name:os.system", "tag"),
        ("a: 1\na: 2", "twice"),
    ):
        file.write_text(text)
        assert why in told(folder)
    file.write_text("cluster_name: x\nprovider: {type: gcp}\n")
    assert "only clusters on AWS" in told(folder)


def test_no_socket_is_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a network was asked"))
    cluster_file.check(folder / "gpu.yaml")


def test_arguments_of_commands_are_read_as_a_shell_reads_them() -> None:
    commands = ["ray stop", "ulimit -n 9; RAY_AUTH_MODE=token ray start --head --port 6379 --dashboard-host=::1"]
    ((number, arguments),) = start.ray_starts(commands)
    assert number == 1
    assert [start.option(arguments, name) for name in ("--port", "--dashboard-host", "--block")] == [
        "6379",
        "::1",
        None,
    ]
    assert start.assigned("RAY_AUTH_MODE", commands) == ["token"]
    environment = start.container_environment(["-e A=1", "--env", "B=2 --env=C=3", "-it"])
    assert environment == {"A": "1", "B": "2", "C": "3"}


def test_docker_and_kubernetes_files_are_of_the_same_versions_and_rules() -> None:
    ray, own = version("ray"), emoray.__version__
    image = (CLUSTER / "Dockerfile").read_text()
    assert f"FROM rayproject/ray:{ray}-py311\n" in image
    assert f"emoray-{own}-py3-none-any.whl" in image
    cluster, nodes = yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text())
    spec = cluster["spec"]
    assert spec["rayVersion"] == ray
    assert spec["authOptions"] == {"mode": "token"}
    head, workers = spec["headGroupSpec"], spec["workerGroupSpecs"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert head["rayStartParams"]["dashboard-host"] == "127.0.0.1"
    for group in (head, *workers):
        (container,) = group["template"]["spec"]["containers"]
        assert re.fullmatch(rf"YOUR-REGISTRY/emoray:{re.escape(own)}(-cuda)?", container["image"])
        assert {"mountPath": "/dev/shm", "name": "shared-memory"} in container["volumeMounts"]
    grows_to = json.loads(nodes["data"]["nodes.json"])["available_node_types"]
    for group in workers:
        resources = grows_to[group["groupName"]]["resources"]
        assert str(resources["CPU"]) == group["rayStartParams"]["num-cpus"]
        assert grows_to[group["groupName"]]["max_workers"] == group["maxReplicas"]


def test_the_constraints_are_those_of_the_shipped_files() -> None:
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)$", (PROJECT / "constraints.txt").read_text(), re.MULTILINE))
    assert pins["ray"] == version("ray")
    assert f"ray:{pins['ray']}-py311" in (CLUSTER / "gpu.yaml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "place", "word"),
    [
        ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "head_start_ray_commands[1]", "0.0.0.0"),
        ("    --dashboard-host=127.0.0.1\n", "", "head_start_ray_commands[1]", "ray start --head"),
        ("ray start --address=", "ray start --adress=", "worker_start_ray_commands[1]", "--adress"),
        ("-e RAY_AUTH_MODE=token", "-e RAY_AUTH_MODE=off", "docker.run_options[0]", "RAY_AUTH_MODE=off"),
        (
            "  - ray start --address",
            "  - RAY_AUTH_MODE=off ray start --address",
            "worker_start_ray_commands[1]",
            "=off",
        ),
    ],
)
def test_what_is_wrong_in_a_command_is_told_with_the_line_that_it_stands_in(
    folder: Path, old: str, new: str, place: str, word: str
) -> None:
    file = folder / "gpu.yaml"
    edit(file, old, new)
    (line,) = (number for number, text in enumerate(file.read_text().splitlines(), start=1) if word in text)
    assert f"line {line}: {place}: " in told(folder), told(folder)


def test_what_could_not_be_looked_at_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(folder / "gpu.yaml")]) == 0
    assert "not looked at" not in capsys.readouterr().out
    (folder / "aws.yaml").unlink()
    assert cli.main(["check", str(folder / "gpu.yaml")]) == 0
    said = capsys.readouterr().out
    assert "not looked at: the roles of the machines, what these may do, and the security group, since " in said
    assert f"there is no {folder}/aws.yaml" in said


@pytest.mark.parametrize("kept", [slice(None), slice(0, 1)])
def test_a_file_of_kubernetes_is_not_checked_and_says_what_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: slice
) -> None:
    file = tmp_path / "kuberay.yaml"
    file.write_text("---".join((CLUSTER / "kuberay.yaml").read_text().split("---")[kept]))
    assert cli.main(["check", str(file)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "holds objects of Kubernetes (RayCluster" in said
    assert f"`kubectl apply --dry-run=server -f {file}`" in said
