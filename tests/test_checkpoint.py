"""Checkpoints that are damaged, or made to run something or to fill the memory, are refused by name."""

import copy
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from emoray.errors import UserError
from emoray.trial import checkpoint
from emoray.trial.checkpoint import State


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not an archive", None])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "best.npz"
    checkpoint.write(path, State({"model": [np.zeros(100)]}, {"epoch": 1}))
    path.write_bytes(path.read_bytes()[:-60] if damage is None else damage)
    with pytest.raises(UserError, match=r"best.npz is damaged"):
        checkpoint.read(path)


def test_a_checkpoint_is_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "best.npz"
    np.savez(path, **{"model/0": np.array([object()], dtype=object)}, meta=np.zeros(2, np.uint8))
    with pytest.raises(UserError, match="damaged"):
        checkpoint.read(path)


class Evil:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple:
        return open, (str(self.witness), "w")


def test_a_checkpoint_that_is_a_pickle_is_no_checkpoint(tmp_path: Path, witness: Path) -> None:
    bare, inside = tmp_path / "bare.npz", tmp_path / "inside.npz"
    bare.write_bytes(pickle.dumps(Evil(witness)))
    np.savez(inside, meta=np.frombuffer(b"{}", np.uint8), **{"model/0": np.array([Evil(witness)], dtype=object)})
    for path in (bare, inside):
        with pytest.raises(UserError, match="is damaged and cannot be read"):
            checkpoint.read(path)
    assert not witness.exists()


def test_a_checkpoint_that_unpacks_without_end_is_no_checkpoint(tmp_path: Path) -> None:
    bomb, lying = tmp_path / "bomb.npz", tmp_path / "lying.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("model/0.npy", "w") as part:
        np.lib.format.write_array_header_1_0(part, {"descr": "<f4", "fortran_order": False, "shape": (1 << 28,)})
        for _ in range(64):
            part.write(bytes(1 << 20))
    with zipfile.ZipFile(lying, "w") as archive, archive.open("model/0.npy", "w") as part:
        np.lib.format.write_array_header_1_0(part, {"descr": "<f4", "fortran_order": False, "shape": (1 << 50,)})
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(UserError, match="is compressed, which no checkpoint of emoray is"):
        checkpoint.read(bomb)
    with pytest.raises(UserError, match="is damaged"):
        checkpoint.read(lying)


def test_a_checkpoint_whose_parts_are_one_part_is_no_checkpoint(tmp_path: Path) -> None:
    """The list at a zip file's end may name the same bytes any number of times."""
    for many in (True, False):
        file = tmp_path / f"many-{many}.npz"
        with zipfile.ZipFile(file, "w") as archive:
            with archive.open("model/0.npy", "w") as part:
                np.lib.format.write_array(part, np.zeros(1 << 16, np.float32))
            (only,) = archive.filelist
            for number in range(1, 100):
                again = copy.copy(only)
                again.filename = only.filename if many else f"model/{number}.npy"
                archive.filelist.append(again)
        with pytest.raises(UserError, match="its parts lie one over the other"):
            checkpoint.read(file)
