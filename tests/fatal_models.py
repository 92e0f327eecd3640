"""Models that end the processes that build them, or fail them."""

import os
import signal
from pathlib import Path
from typing import Any


def deadly(image_shape: tuple[int, int, int], classes: int) -> Any:
    """Ends its process as the kernel does where memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def hungry(image_shape: tuple[int, int, int], classes: int) -> Any:
    """Wants more memory than there is."""
    raise MemoryError("no room for 7 kernels\nof any size")


def unreadable(image_shape: tuple[int, int, int], classes: int) -> Any:
    """Reads what cannot be read."""
    Path("/no/such/file").read_bytes()
