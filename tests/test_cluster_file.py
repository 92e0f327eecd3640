"""The shipped cluster file is right, and everything that could be wrong with one is told by its place."""

import functools
import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

import emoray
from emoray import cli, cluster_file
from emoray.cluster_file import start
from emoray.errors import UserError
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


def test_values_of_a_wrong_kind_and_misspelt_keys_hide_nothing_else(folder: Path) -> None:
    file = folder / "gpu.yaml"
    for old, new in (
        ("max_workers: 12", 'max_workers: "12"'),
        ("resources: {CPU: 16}", "resourcs: {CPU: 16, Gpu: 1}"),
        ("pull_before_run: true", 'pull_before_run: "yes"'),
        ("idle_timeout_minutes: 5", "idle_timeout_minute: 5"),
        ("head_start_ray_commands:", "head_start_ray_comands:"),
        ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0"),
        ("head_node_type: head", "head_node_type: haed"),
        ("head_setup_commands: []", "head_setup_commands: [2]"),
        ("{CPU: 0, driver: 1}", "{CPU: 4, driver: 1}"),
        ("InstanceType: g6.xlarge", "InstanceType: g6.xlrage"),
        ("{Name: emoray-worker}", "{Name: emoray-wroker}"),
    ):
        edit(file, old, new)
    edit(folder / "aws.yaml", "GroupDescription:", "GroupDescripton:")
    said = told(folder)
    places = re.findall(r"^  line \d+: (\S+): ", said, re.MULTILINE)
    assert places == [
        "available_node_types.cpu.node_config.IamInstanceProfile.Name",  # where its anchor stands
        "max_workers",
        "idle_timeout_minute",
        "docker.pull_before_run",
        "head_node_type",
        "available_node_types.head.resources",
        "available_node_types.cpu.resourcs",
        "available_node_types.cpu.resources.Gpu",
        "available_node_types.gpu-l4.node_config.InstanceType",
        "head_setup_commands[0]",
        "head_start_ray_comands",
        "head_start_ray_commands[1]",
        "Resources.Nodes.Properties.GroupDescripton",
    ], said


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("docker:\n", "docker: 5\nmetadata2:\n", "docker"),
        ("  image: *container", "  image: 5", "docker.image"),
        ("setup_commands: [*token, *install] ", "setup_commands: *install ", "setup_commands"),
        ("  type: aws\n", "", "provider.type"),
        ("  region: *region\n", "  region: 5\n", "provider.region"),
        ("cluster_name: emoray\n", "", "cluster_name"),
        ("head_node_type: head\n", "", "head_node_type"),
        ("resources: {CPU: 16}\n", "resources: 16\n", "available_node_types.cpu.resources"),
    ],
)
def test_what_cannot_be_looked_at_is_no_mistake_of_its_own(folder: Path, old: str, new: str, place: str) -> None:
    edit(folder / "gpu.yaml", old, new)
    lines = [line for line in told(folder).splitlines()[1:] if "metadata2" not in line]
    assert [place in line for line in lines] == [True], lines


def places(tree: object, parents: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inside:
        yield (*parents, key)
        yield from places(value, (*parents, key))


def test_no_value_anywhere_in_a_cluster_file_ends_the_check(folder: Path) -> None:
    config = yaml.safe_load((CLUSTER / "gpu.yaml").read_text())
    for same in ("metadata", "gpu-a10g", "gpu-t4", "cpu"):
        (config if same in config else config["available_node_types"]).pop(same)
    values = [None, 1, "text", [], ["text"], [None], {}, {"Name": ["a"]}, {"x": None}, -1, {1: 2}]
    told_of = 0
    for number, parents in enumerate(list(places(config))):
        changed = json.loads(json.dumps(config))  # nothing shared
        holder = functools.reduce(lambda tree, key: tree[key], parents[:-1], changed)
        holder[parents[-1]] = values[number % len(values)]
        (folder / "gpu.yaml").write_text(yaml.safe_dump(changed))
        try:
            cluster_file.check(folder / "gpu.yaml")
        except UserError:
            told_of += 1
    assert told_of > 60


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
