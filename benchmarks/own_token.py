"""A token of this process's own for Ray, so that the user's is neither used nor made.

To be imported before Ray, which reads the environment when it is imported.
"""

import atexit
import os
import secrets
import shutil
import tempfile
from pathlib import Path

_TOKEN = Path(tempfile.mkdtemp(prefix="emoray-benchmark-")) / "token"
_TOKEN.touch(mode=0o600)
_TOKEN.write_text(secrets.token_hex(32))
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(_TOKEN)}
atexit.register(shutil.rmtree, _TOKEN.parent, ignore_errors=True)
