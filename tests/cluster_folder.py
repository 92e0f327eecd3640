"""The shipped cluster file and its template in a folder of a test's own, and what is said of them."""

import shutil
from pathlib import Path

import pytest

from emoray import cluster_file
from emoray.errors import UserError

PROJECT = Path(__file__).parents[1]
CLUSTER = PROJECT / "cluster"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("gpu.yaml", "aws.yaml"):
        shutil.copy(CLUSTER / name, tmp_path)
    return tmp_path


def edit(file: Path, old: str, new: str, count: int = 1) -> None:
    text = file.read_text()
    assert old in text, f"{file.name} no longer holds {old!r}"
    file.write_text(text.replace(old, new, count))


def told(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        cluster_file.check(folder / "gpu.yaml")
    return str(caught.value)
