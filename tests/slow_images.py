"""Images that take their time and write down that they were read: for what happens in the middle of an epoch."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class SlowImages:
    """Stands for an array uint8 (n, h, w, c); each chunk of it takes `seconds`, and adds a byte to `log`."""

    images: np.ndarray
    seconds: float
    log: Path

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape

    def __getitem__(self, places: np.ndarray | slice) -> np.ndarray:
        time.sleep(self.seconds)
        with self.log.open("ab") as log:
            log.write(b".")
        return self.images[places]
