"""Which code wrote a run: `versions.json`, by which a run of a newer emoray is refused and a result is reproduced."""

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import emoray
from emoray.errors import UserError
from emoray.run_folder import RunFolder, write_json
from emoray.s3 import RemoteError

FORMAT = 1
"""Of a run folder: to be raised with every change that this code could not read."""

PACKAGES = (
    "ray",
    "tensorflow",
    "keras",
    "numpy",
    "pandas",
    "scikit-learn",
    "optuna",
    "opencv-python-headless",
    "pillow",
)


def write(folder: RunFolder) -> None:
    """Note the format, Python and the versions of all that had a part in the result."""
    write_json(folder.versions, {"format": FORMAT, **installed()})


def of_emoray() -> str:
    """The version where this runs, which may be any machine of a cluster."""
    return emoray.__version__


def read(folder: RunFolder) -> dict[str, Any]:
    """What `write` noted; empty for a run of an emoray that noted nothing.

    Raises UserError where a newer emoray wrote the run, or the file cannot be read.
    """
    try:
        found = json.loads(folder.versions.read_text())
        newer = found["format"] > FORMAT
    except FileNotFoundError:
        return {}
    except RemoteError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder.versions} cannot be read ({error}); delete it to go on without it") from None
    if newer:
        raise UserError(
            f"{folder.versions}: the run was made by emoray {found.get('emoray')} in format {found['format']}, and "
            f"this is emoray {emoray.__version__}, which reads up to {FORMAT}; use that version or a later one"
        )
    return found


def installed() -> dict[str, str]:
    """Of emoray, Python and the packages, as they are here."""
    told = {"emoray": emoray.__version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            told[package] = version(package)
        except PackageNotFoundError:  # another name of the same, such as tensorflow-cpu
            continue
    return told
