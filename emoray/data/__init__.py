"""Data: sources, checks and quarantine, splits, and the prepared table that every trial reads."""

from emoray.data.prepare import prepare
from emoray.data.store import Prepared, Split, read

__all__ = ["Prepared", "Split", "prepare", "read"]
