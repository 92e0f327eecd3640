"""Weights are found, fetched whole, or missed in one sentence that names the file, its place and its source."""

import functools
import http.server
import importlib
import re
import socket
import threading

import pytest

from emoray import config, plan, sweep, weights
from emoray.errors import UserError

V2 = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.h5"
SETTINGS = {"name": "mobilenet_v2", "weights": "imagenet", "alpha": 0.35, "image_size": 96}


@pytest.fixture(autouse=True)
def keras_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    weights._reachable.cache_clear()
    return tmp_path / "keras" / "models"


@pytest.fixture
def server(tmp_path):
    """The address of a file server on this machine, and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", folder
    running.shutdown()
    running.server_close()


@pytest.fixture
def nowhere():
    """An address at which nobody answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def served_from(address, monkeypatch):
    monkeypatch.setitem(weights._ADDRESSES, "mobilenet_v2", f"{address}/{V2}".replace("0.35_96", "{alpha}_{size}"))


@pytest.mark.keras
@pytest.mark.parametrize(
    ("name", "settings", "module", "expected"),
    [
        ("mobilenet", (128, 0.75), "mobilenet", "BASE_WEIGHT_PATH mobilenet_7_5_128_tf_no_top.h5"),
        ("mobilenet", (96, 1.0), "mobilenet", "BASE_WEIGHT_PATH mobilenet_1_0_224_tf_no_top.h5"),
        ("mobilenet_v2", (96, 0.35), "mobilenet_v2", f"BASE_WEIGHT_PATH {V2}"),
        ("mobilenet_v2", (100, 1), "mobilenet_v2", f"BASE_WEIGHT_PATH {V2.replace('0.35_96', '1.0_224')}"),
        ("vgg16", (96, 1.0), "vgg16", "WEIGHTS_PATH_NO_TOP"),
        ("resnet50", (96, 1.0), "resnet", "BASE_WEIGHTS_PATH resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        ("inception_v3", (96, 1.0), "inception_v3", "WEIGHTS_PATH_NO_TOP"),
        ("efficientnet_b0", (96, 1.0), "efficientnet", "BASE_WEIGHTS_PATH efficientnetb0_notop.h5"),
    ],
)
def test_addresses_are_those_of_keras(name, settings, module, expected):
    constant, _, file = expected.partition(" ")
    base = getattr(importlib.import_module(f"keras.src.applications.{module}"), constant)
    assert weights.imagenet_file(name, *settings).address == base + file


def test_a_missing_file_is_told_with_its_name_its_place_and_its_source(nowhere, monkeypatch, keras_home):
    served_from(nowhere, monkeypatch)
    with pytest.raises(UserError) as told:
        weights.check(SETTINGS)
    for part in (V2, str(keras_home), f"{nowhere}/{V2}", "mobilenet_v2.weights"):
        assert part in str(told.value)
    with pytest.raises(UserError, match=V2):
        weights.locate("mobilenet_v2", "imagenet", 96, 0.35)
    assert not keras_home.exists() or not list(keras_home.iterdir())


def test_a_file_in_its_place_needs_no_network(nowhere, monkeypatch, keras_home):
    served_from(nowhere, monkeypatch)
    keras_home.mkdir(parents=True)
    (keras_home / V2).write_bytes(b"weights")
    weights.check(SETTINGS)
    assert weights.locate("mobilenet_v2", "imagenet", 96, 0.35) == keras_home / V2


def test_a_file_that_can_be_fetched_is_fetched_once(server, monkeypatch, keras_home):
    address, folder = server
    served_from(address, monkeypatch)
    (folder / V2).write_bytes(b"weights" * 1000)
    weights.check(SETTINGS)
    path = weights.locate("mobilenet_v2", "imagenet", 96, 0.35)
    assert path.read_bytes() == b"weights" * 1000
    (folder / V2).unlink()
    assert weights.locate("mobilenet_v2", "imagenet", 96, 0.35) == path
    assert list(keras_home.iterdir()) == [path]


def test_a_server_without_the_file_is_no_source(server, monkeypatch):
    served_from(server[0], monkeypatch)
    with pytest.raises(UserError, match=V2):
        weights.check(SETTINGS)


def test_a_path_must_exist(tmp_path):
    file = tmp_path / "own.h5"
    with pytest.raises(UserError, match=r"mobilenet_v2.weights: there is no file .*own.h5"):
        weights.check({**SETTINGS, "weights": str(file)})
    file.write_bytes(b"")
    weights.check({**SETTINGS, "weights": str(file)})
    assert weights.locate("mobilenet_v2", str(file), 96, 0.35) == file


def test_a_remote_file_is_copied_and_copied_again_when_it_changes(tmp_path):
    file = tmp_path / "own.h5"
    uri = f"file://{file}"
    with pytest.raises(UserError, match="there is no file file://"):
        weights.check({**SETTINGS, "weights": uri})
    file.write_bytes(b"first")
    weights.check({**SETTINGS, "weights": uri})
    first = weights.locate("mobilenet_v2", uri, 96, 0.35)
    assert first == weights.locate("mobilenet_v2", uri, 96, 0.35)
    assert (first.name.endswith("-own.h5"), first.read_bytes()) == (True, b"first")
    file.write_bytes(b"second one")
    assert weights.locate("mobilenet_v2", uri, 96, 0.35).read_bytes() == b"second one"


def test_a_file_on_s3_is_copied(s3_bucket):
    content = b"weights" * 1000
    (s3_bucket / "own.h5").write_bytes(content)
    uri = f"{s3_bucket}/own.h5"
    weights.check({"name": "resnet50", "weights": uri})
    assert weights.locate("resnet50", uri, 96, 1.0).read_bytes() == content
    with pytest.raises(UserError, match=r"resnet50.weights: there is no file s3://.*other.h5"):
        weights.check({"name": "resnet50", "weights": uri.replace("own", "other")})
    with pytest.raises(UserError, match=r"resnet50.weights: .*there is no bucket 'nobody-has-this'"):
        weights.check({"name": "resnet50", "weights": "s3://nobody-has-this/own.h5"})
    with pytest.raises(UserError, match="neither keys nor options"):
        weights.check({"name": "resnet50", "weights": "s3://key:secret@bucket/own.h5"})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"name": "mobilenet", "weights": "imagenet", "alpha": 0.35},
            "mobilenet.alpha: .* allowed: 0.25, 0.5, 0.75, 1.0",
        ),
        ({"name": "mobilenet_v2", "weights": "imagenet", "alpha": 0.4}, "mobilenet_v2.alpha: .* 0.35, 0.5"),
        ({"name": "mobilenet", "weights": None, "alpha": 0.01}, "mobilenet.alpha: 0.01 is too small"),
        ({"name": "inception_v3", "weights": None, "image_size": 74}, "inception_v3.image_size: 74 .* at least 75"),
        ({"name": "resnet50", "weights": None, "frozen_epochs": 3}, "resnet50.frozen_epochs: 3 .* random weights"),
        ({"name": "resnet50", "weights": "ftp://here/x.h5"}, "resnet50.weights: ftp://here/x.h5 cannot be read"),
    ],
)
def test_settings_that_cannot_be_built_are_refused(settings, told):
    with pytest.raises(UserError, match=told):
        weights.check(settings)


def sweep_of(tmp_path, model):
    (tmp_path / "sweep.yaml").write_text(f"models: [{model}]")
    return config.load(tmp_path / "sweep.yaml")


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("alpha: {choice: [0.35, 1.0]}, image_size: {choice: [96, 160]}", "tf_kernels_1.0_160_no_top.h5 is not in"),
        ("alpha: 1.0, image_size: {randint: [96, 224]}", "tf_kernels_1.0_128_no_top.h5 is not in"),
        ("weights: {choice: [null, imagenet]}, alpha: {choice: [0.35, 0.4]}", "no ImageNet weights for 0.4"),
        ("alpha: {uniform: [0.35, 1.0]}", "no ImageNet weights for 0.675"),
        ("weights: {choice: [imagenet, null]}, frozen_epochs: {choice: [0, 2]}", "frozen_epochs: 2 would keep random"),
    ],
)
def test_every_file_that_can_be_drawn_is_looked_for(tmp_path, nowhere, monkeypatch, keras_home, model, told):
    """Whatever is drawn together; the files that are there serve some of the draws."""
    served_from(nowhere, monkeypatch)
    keras_home.mkdir(parents=True)
    for name in ("0.35_96", "1.0_96", "0.35_160", "1.0_224"):
        (keras_home / V2.replace("0.35_96", name)).write_bytes(b"weights")
    with pytest.raises(UserError, match=re.escape(told)):
        plan.check_weights(sweep_of(tmp_path, f"{{name: mobilenet_v2, {model}}}"))


def test_files_that_serve_every_draw_are_enough(tmp_path, nowhere, monkeypatch, keras_home):
    served_from(nowhere, monkeypatch)
    keras_home.mkdir(parents=True)
    for name in ("0.35_96", "1.0_96", "0.35_160", "1.0_160"):
        (keras_home / V2.replace("0.35_96", name)).write_bytes(b"weights")
    model = "{name: mobilenet_v2, alpha: {choice: [0.35, 1.0]}, image_size: {choice: [96, 160]}}"
    plan.check_weights(sweep_of(tmp_path, model))


def test_a_source_is_asked_once_for_a_file(tmp_path, monkeypatch):
    asked = []

    class Silent(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        served_from(f"http://127.0.0.1:{running.server_port}", monkeypatch)
        for _ in range(3):
            with pytest.raises(UserError, match=V2):
                weights.check(SETTINGS)
        running.shutdown()
    assert asked == [f"/{V2}"]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_file_that_a_node_lacks_is_told_with_the_node(tmp_path):
    """The file is here when the sweep is read, and gone where the trials would look for it."""
    file = tmp_path / "own.h5"
    file.write_bytes(b"weights")
    loaded = sweep_of(tmp_path, f"{{name: resnet50, weights: {file}}}")
    plan.check_weights(loaded)
    sweep._check_nodes(tmp_path, loaded)
    file.unlink()
    with pytest.raises(UserError, match=r"node [0-9.]+: .*\n  resnet50: resnet50.weights: there is no file .*own.h5"):
        sweep._check_nodes(tmp_path, loaded)


@pytest.mark.parametrize("settings", [{"name": "lenet"}, {"name": "resnet50", "weights": None}, {"name": "my.model"}])
def test_models_without_files_are_not_held_up(settings):
    weights.check(settings)
