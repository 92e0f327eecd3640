"""Files on S3: objects as paths (path.py), and as a file system of Arrow's for those who read data (arrow.py)."""

from emoray.s3.path import SCHEME, S3Path
from emoray.s3.requests import RemoteError

__all__ = ["SCHEME", "RemoteError", "S3Path"]
