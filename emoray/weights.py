"""Files of pretrained weights: where they must lie, where they come from, and whether a sweep will find them.

The one rule: nothing here imports Keras, so that a missing file is told before anything has been spent. ImageNet files
have the names and the folder that Keras uses, `$KERAS_HOME/models`, and are shared with it.
"""

import hashlib
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from emoray.errors import UserError
from emoray.s3 import SCHEME, RemoteError, S3Path

_GOOGLE = "https://storage.googleapis.com"
_KERAS = f"{_GOOGLE}/tensorflow/keras-applications"
_MOBILENET_ALPHAS = {0.25: "2_5", 0.5: "5_0", 0.75: "7_5", 1.0: "1_0"}
_MOBILENET_V2_ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
_ADDRESSES = {
    "mobilenet": f"{_KERAS}/mobilenet/mobilenet_{{alpha}}_{{size}}_tf_no_top.h5",
    "mobilenet_v2": f"{_KERAS}/mobilenet_v2/"
    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{size}_no_top.h5",
    "vgg16": f"{_KERAS}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "resnet50": f"{_KERAS}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "inception_v3": f"{_KERAS}/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "efficientnet_b0": f"{_GOOGLE}/keras-applications/efficientnetb0_notop.h5",
}
_TRAINED_SIZES = {"mobilenet": (128, 160, 192, 224), "mobilenet_v2": (96, 128, 160, 192, 224)}
_SMALLEST_SIZES = {"inception_v3": 75}
_SMALLEST_ALPHA = 1 / 32
"""The first convolution of a MobileNet has 32 filters at alpha 1."""
_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class ImageNetFile:
    """A file of ImageNet weights without the top: the address that it comes from and its place on this machine."""

    address: str

    @property
    def path(self) -> Path:
        return _folder() / self.address.rpartition("/")[2]


def check(model: Mapping[str, Any]) -> None:
    """Raise UserError where a model's settings cannot be built for want of its weights or for a size it cannot take.

    `model` is one model of a sweep with its settings, such as `{"name": "mobilenet_v2", "weights": "imagenet"}`; what
    is left out has its default, but for `weights`, without which there is nothing to find. Looks at the disk, at S3
    and, only for a missing ImageNet file, at the network.
    """
    name, weights = model["name"], model.get("weights")
    if name not in _ADDRESSES:
        return
    image_size, alpha = model.get("image_size", 96), model.get("alpha", 1.0)
    check_architecture(name, image_size, alpha)
    if weights is None:
        if model.get("frozen_epochs"):
            raise UserError(
                f"models: {name}.frozen_epochs: {model['frozen_epochs']} would keep random weights; 0 without weights"
            )
    elif weights == "imagenet":
        file = imagenet_file(name, image_size, alpha)
        if not file.path.is_file() and not _reachable(file.address):
            raise UserError(_missing(name, file))
    elif "://" in weights:
        _remote(name, weights)
    elif not Path(weights).expanduser().is_file():
        raise UserError(f"models: {name}.weights: there is no file {weights}")


def check_architecture(name: str, image_size: int, alpha: float) -> None:
    """Raise UserError where an architecture cannot be built at these settings, whatever its weights."""
    smallest = _SMALLEST_SIZES.get(name, 0)
    if image_size < smallest:
        raise UserError(f"models: {name}.image_size: {image_size} is too small; it must be at least {smallest}")
    if alpha < _SMALLEST_ALPHA:
        raise UserError(f"models: {name}.alpha: {alpha} is too small; it must be at least {_SMALLEST_ALPHA}")


def imagenet_file(name: str, image_size: int, alpha: float) -> ImageNetFile:
    """The file for an architecture: for MobileNets, of its `alpha` and trained at `image_size` pixels, or else at 224.

    Raises UserError for an alpha that was never trained.
    """
    size = image_size if image_size in _TRAINED_SIZES.get(name, ()) else 224
    width: object = alpha
    if name == "mobilenet":
        _check_alpha(name, alpha, tuple(_MOBILENET_ALPHAS))
        width = _MOBILENET_ALPHAS[alpha]
    elif name == "mobilenet_v2":
        _check_alpha(name, alpha, _MOBILENET_V2_ALPHAS)
        width = float(alpha)
    return ImageNetFile(_ADDRESSES[name].format(alpha=width, size=size))


def locate(name: str, weights: str, image_size: int, alpha: float) -> Path:
    """The local file for `weights`: "imagenet", a path or an s3:// path; fetched first where it is not here yet.

    Raises UserError where there is no such file.
    """
    if weights == "imagenet":
        file = imagenet_file(name, image_size, alpha)
        if not file.path.is_file():
            _download(name, file)
        return file.path
    if "://" in weights:
        return _copy_of_remote(name, weights)
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(f"models: {name}.weights: there is no file {weights}")
    return path


def _folder() -> Path:
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


def _check_alpha(name: str, alpha: float, trained: tuple[float, ...]) -> None:
    if alpha not in trained:
        allowed = ", ".join(map(str, trained))
        raise UserError(f"models: {name}.alpha: there are no ImageNet weights for {alpha}; allowed: {allowed}")


def _missing(name: str, file: ImageNetFile) -> str:
    return (
        f"models: {name}.weights: imagenet: {file.path.name} is not in {file.path.parent} and {file.address} cannot be "
        f"reached: put that file there, or set weights to its path, or to null to start from random weights"
    )


@lru_cache
def _reachable(address: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_TIMEOUT_S):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _download(name: str, file: ImageNetFile) -> None:
    try:
        with urllib.request.urlopen(file.address, timeout=60) as response, _arriving(file.path) as target:
            shutil.copyfileobj(response, target)
    except (urllib.error.URLError, OSError) as error:
        raise UserError(f"{_missing(name, file)} ({error})") from error


def _remote(name: str, uri: str) -> tuple[Any, Any]:
    """The file system and the file's description (path, size, modification time) for a URI such as s3://."""
    from pyarrow import fs  # a third of a second to import, and needed for remote weights only

    try:
        if uri.startswith(SCHEME):
            from emoray.s3 import arrow

            place = S3Path.parse(uri)
            system, path = arrow.filesystem(), f"{place.bucket}/{place.key}"
        else:
            system, path = fs.FileSystem.from_uri(uri)
        found = system.get_file_info(path)
    except RemoteError as error:
        raise UserError(f"models: {name}.weights: {uri}: {error.strerror}") from error
    except (ValueError, OSError) as error:
        raise UserError(f"models: {name}.weights: {uri} cannot be read: {error}") from error
    if found.type != fs.FileType.File:
        raise UserError(f"models: {name}.weights: there is no file {uri}")
    return system, found


def _copy_of_remote(name: str, uri: str) -> Path:
    system, found = _remote(name, uri)
    # The copy's name holds the version, so that a file replaced at its source is fetched again.
    version = hashlib.sha256(f"{uri}|{found.size}|{found.mtime_ns}".encode()).hexdigest()[:12]
    path = _folder() / f"{version}-{found.base_name}"
    if not path.is_file():
        try:
            with system.open_input_stream(found.path) as source, _arriving(path) as target:
                shutil.copyfileobj(source, target)
        except OSError as error:
            raise UserError(f"models: {name}.weights: {uri} cannot be read: {error}") from error
    return path


@contextmanager
def _arriving(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that gets its name only when it is whole: several trials may fetch the same one at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", delete=False) as file:
        try:
            yield file
        except BaseException:
            os.unlink(file.name)
            raise
    os.replace(file.name, path)
