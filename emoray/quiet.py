"""TensorFlow's first import without what it says of GPUs and instructions that a machine does not have.

The one rule: whoever sets TF_CPP_MIN_LOG_LEVEL hears all that it lets through.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_CHATTER = re.compile(rb"[IWE]\d{4} \d\d:\d\d:|WARNING: All log messages before absl|To enable the following instr")


@contextmanager
def importing_tensorflow() -> Iterator[None]:
    """Around its import, which does nothing where it was imported before or somebody has set a level."""
    if "tensorflow" in sys.modules or LEVEL in os.environ:
        yield
        return
    os.environ[LEVEL] = "3"  # holds for what is said later; at the import some lines heed no level
    with without_chatter():
        yield


@contextmanager
def without_chatter() -> Iterator[None]:
    """Standard error of the whole process without lines as TensorFlow's C++ writes them; the others come at the end."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            for line in said:
                if not _CHATTER.match(line):
                    os.write(2, line)
