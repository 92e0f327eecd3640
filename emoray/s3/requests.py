"""Requests to S3, by boto3: one client a process, retries, and every failure as one sentence.

The one rule: what leaves here is an OSError, FileNotFoundError where there is no such object and `RemoteError` for all
else, after all retries. Credentials, region and endpoint are boto3's: environment, profiles, SSO, web identity, roles
of containers and instances, renewed as they expire. They stay in the process; each machine uses its own.
"""

import errno
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

SCHEME = "s3://"
ATTEMPTS = 10
"""How often a request is tried, with growing pauses, about a minute in all; AWS_MAX_ATTEMPTS sets another number."""
CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
CONNECTIONS = 32
PAGE = 1000
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 10.0
_ALLOWED = {"read": "s3:GetObject", "listed": "s3:ListBucket", "written": "s3:PutObject", "deleted": "s3:DeleteObject"}
_UNKNOWN_KEYS = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "AuthFailure",
    "UnrecognizedClientException",
)
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired")
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301", "307")
_BUSY = ("SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling", "500", "502", "503", "504")
_lock = threading.Lock()
Answer = TypeVar("Answer")


class RemoteError(OSError):
    """S3 cannot be used as asked, and asking again did not help; `strerror` says why, `filename` is the address."""


class TooLarge(Exception):
    """An object has more bytes than were asked for at most."""


def asked(bucket: str, key: str, what: str, ask: Callable[[Any], Answer]) -> Answer:
    """The answer to `ask`, which gets the client; `what` becomes of the object: read, listed, written or deleted."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        s3 = client()
    except (BotoCoreError, ValueError) as error:  # of an endpoint that is no address, too
        raise RemoteError(errno.EIO, _unconfigured(error), f"{SCHEME}{bucket}/{key}".rstrip("/")) from error
    try:
        return ask(s3)
    except (ClientError, BotoCoreError, Boto3Error) as error:
        raise told(error, bucket, key, what) from error


def get(bucket: str, key: str, most: int | None = None, **options: str) -> tuple[bytes, str]:
    """An object, or a part of it, with its tag. boto3 repeats requests that fail, but not what breaks off half-way.

    Raises TooLarge where there are more bytes than `most`, and then fetches none.
    """
    from botocore.exceptions import BotoCoreError
    from urllib3.exceptions import HTTPError

    for attempt in range(1, _attempts() + 1):
        answer = asked(bucket, key, "read", lambda s3: s3.get_object(Bucket=bucket, Key=key, **options))
        if most is not None and answer["ContentLength"] > most:
            answer["Body"].close()
            raise TooLarge
        try:
            content: bytes = answer["Body"].read()  # raises where it is shorter than was announced, or its sum is wrong
        except (BotoCoreError, HTTPError, ConnectionError, TimeoutError) as error:
            if attempt == _attempts():
                raise told(error, bucket, key, "read") from error
            time.sleep(min(_LONGEST_PAUSE_SECONDS, _PAUSE_SECONDS * 2**attempt))
        else:
            return content, str(answer["ETag"])
    raise AssertionError("the last attempt returns or raises")


def pages(bucket: str, prefix: str, **options: Any) -> Iterator[Any]:
    """The objects whose keys begin with `prefix`, a page after the other."""
    wanted = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": PAGE, **options}
    while True:
        page = asked(bucket, prefix, "listed", lambda s3: s3.list_objects_v2(**wanted))
        yield page
        if not page.get("IsTruncated"):
            return
        wanted["ContinuationToken"] = page["NextContinuationToken"]


def client() -> Any:
    """This process's client; threads may share it."""
    with _lock:
        return _client()


@functools.lru_cache(maxsize=1)
def _client() -> Any:
    import boto3  # four tenths of a second that only a user of an s3:// address should spend
    from botocore.config import Config

    retries: Any = {"mode": os.environ.get("AWS_RETRY_MODE", "standard"), "total_max_attempts": _attempts()}
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries=retries,
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        user_agent_extra="emoray",
    )
    # boto3 alone knows the second name only; all other tools know the first.
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return boto3.session.Session(region_name=region).client("s3", config=config)


def _attempts() -> int:
    given = os.environ.get("AWS_MAX_ATTEMPTS", "")
    return int(given) if given.isdecimal() and int(given) > 0 else ATTEMPTS


def code(error: BaseException | None) -> str:
    """S3's word for what went wrong; empty where the server has not answered."""
    answer = getattr(error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""


def told(error: Exception, bucket: str, key: str, what: str) -> OSError:
    """An error of boto3's in a sentence."""
    address = f"{SCHEME}{bucket}/{key}".rstrip("/")
    if code(error) in ("NoSuchKey", "404"):
        return FileNotFoundError(errno.ENOENT, "there is no such object", address)
    said = _answered(error, bucket, what) if code(error) else _unanswered(error, bucket)
    return RemoteError(errno.EIO, said, address)


def _answered(error: Any, bucket: str, what: str) -> str:
    name, told = code(error), error.response
    if name == "NoSuchBucket":
        return f"there is no bucket '{bucket}' at {_endpoint()}; create it, or name another"
    if name in ("AccessDenied", "AllAccessDisabled", "403"):
        return f"access is denied; what is used as credentials has to be allowed {_ALLOWED[what]} there"
    if name in _UNKNOWN_KEYS:
        return f"the credentials are not accepted ({name}); 'aws configure list' shows which are used"
    if name in _EXPIRED:
        return "the credentials have expired; renew them, as with 'aws sso login'"
    if name == "RequestTimeTooSkewed":
        return "this machine's clock is more than 15 minutes wrong; set it"
    if name == "PreconditionFailed":
        return "it was replaced while it was read" if what == "read" else "it was replaced by another process"
    headers = told.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = told["Error"].get("Region") or headers.get("x-amz-bucket-region")
    if name in _ELSEWHERE or (name == "400" and region):
        where = f"in region {region}; set AWS_REGION={region}" if region else "in another region; set AWS_REGION to it"
        return f"the bucket '{bucket}' is not at {_endpoint()} but {where}"
    if name in _BUSY:
        return f"{_endpoint()} answers {name} again and again; try later"
    return f"{_endpoint()} answers {name} ({' '.join(str(told['Error'].get('Message', '')).split())[:200]})"


def _unanswered(error: Exception, bucket: str) -> str:
    kind, text = type(error).__name__, " ".join(str(error).split())[:200]
    if kind == "NoCredentialsError":
        return (
            "no AWS credentials were found; name a profile in AWS_PROFILE, set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, log in with 'aws sso login', or use a machine that has a role"
        )
    if "SSO" in kind or "Token" in kind:
        return f"the login has expired; renew it with 'aws sso login' ({text})"
    if "Credential" in kind:
        return f"the AWS credentials cannot be used: {text}"
    if kind == "ParamValidationError":
        return f"'{bucket}' is no name of a bucket"
    return f"{_endpoint()} does not answer ({kind})"


def _unconfigured(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    if isinstance(error, ValueError) and not type(error).__module__.startswith("botocore"):
        return f"AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or AWS_MAX_ATTEMPTS cannot be used: {text}"
    if type(error).__name__ == "InvalidRegionError":
        return f"AWS_REGION: {text}"
    return f"the settings of AWS cannot be used: {text}"


def _endpoint() -> str:
    return str(client().meta.endpoint_url)
