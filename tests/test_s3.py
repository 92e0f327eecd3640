"""Objects on S3 as paths, over HTTP: what is written is there whole, whatever becomes of requests."""

import errno
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from emoray import storage
from emoray.errors import UserError
from emoray.s3 import RemoteError, S3Path, arrow, path, requests
from tests.s3_server import BUSY, CUT, DROP, FAIL, HANG, LOSE, Proxy

ROOT = Path(__file__).parents[1]
CONTENT = bytes(range(256)) * 500


@pytest.fixture
def bucket(s3_bucket: S3Path) -> S3Path:
    return s3_bucket


@pytest.fixture
def proxied(bucket: S3Path, s3_proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> tuple[S3Path, Proxy]:
    """A bucket behind the proxy, with short waits."""
    monkeypatch.setattr(requests, "READ_SECONDS", 1.5)
    monkeypatch.setattr(requests, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    return bucket / "runs", s3_proxy


def test_an_object_is_written_read_and_deleted(bucket: S3Path) -> None:
    file = bucket / "runs" / "a" / "trials.csv"
    assert not file.exists()
    with pytest.raises(FileNotFoundError):
        file.read_bytes()
    file.write_bytes(b"one")
    file.write_bytes(b"two\r\n")
    assert (file.read_bytes(), file.read_text(), file.exists(), file.is_dir()) == (b"two\r\n", "two\r\n", True, False)
    assert (bucket / "runs").is_dir()
    with file.open(newline="") as opened:
        assert opened.read() == "two\r\n"
    file.unlink()
    file.unlink(missing_ok=True)
    assert not file.exists()


def test_addresses() -> None:
    file = S3Path.parse("s3://bucket//runs/a/sweep.yaml")
    assert str(file) == "s3://bucket/runs/a/sweep.yaml"
    assert (file.name, file.stem, str(file.parent.parent)) == ("sweep.yaml", "sweep", "s3://bucket/runs")
    assert str(file.parent.parent.parent) == "s3://bucket"
    assert str(file.with_name("x")) == "s3://bucket/runs/a/x"
    assert storage.relative(file, S3Path.parse("s3://bucket/runs")) == "a/sweep.yaml"
    assert pickle.loads(pickle.dumps(file)) == file
    assert storage.at("runs") == Path("runs")


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("s3://", "names a bucket"),
        ("s3://key:secret@bucket/runs", "neither keys nor options"),
        ("s3://bucket/runs?region=x", "neither keys nor options"),
        ("gs://bucket/runs", "a local folder or on S3"),
    ],
)
def test_an_address_that_is_none(address: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as raised:
        storage.at(address)
    assert "secret" not in str(raised.value)


def test_what_lies_below(bucket: S3Path) -> None:
    for name in ("a/trials/x/settings.json", "a/trials/y/checkpoint/best.npz", "a/sweep.yaml", "a-2/sweep.yaml", "a/"):
        S3Path(bucket.bucket, name).write_bytes(b"12")
    run = bucket / "a"
    assert [str(p) for p in run.glob("trials/*/settings.json")] == [f"{run}/trials/x/settings.json"]
    assert sorted(p.name for p in storage.folders(bucket)) == ["a", "a-2"]
    assert storage.used(run, "trials/*/checkpoint/*.npz") == 2
    storage.remove(run)
    assert [str(one.path) for one in bucket.below()] == [f"{bucket}/a-2/sweep.yaml"]


def test_more_than_a_page(bucket: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "PAGE", 10)
    list(storage.each(bucket, lambda n: (bucket / "many" / f"{n:04}").write_bytes(b""), range(43)))
    assert [one.path.name for one in bucket.below()] == [f"{n:04}" for n in range(43)]
    storage.remove(bucket / "many")
    assert not list(bucket.below())


def test_only_one_can_claim_a_folder(bucket: S3Path, tmp_path: Path) -> None:
    for place in (bucket, tmp_path):
        won = list(storage.each(bucket, storage.claim, [place / "run"] * 8))
        assert sorted(won) == [False] * 7 + [True]


def test_a_large_object_goes_in_parts(bucket: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path, "PART_BYTES", 5 << 20)
    content = CONTENT * 90
    (bucket / "large").write_bytes(content)
    assert (bucket / "large").read_bytes() == content
    storage.copy(bucket / "large", bucket / "copy")
    assert (bucket / "copy").read_bytes() == content


def test_a_file_of_an_object(bucket: S3Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        made.writestr("inside", CONTENT)
    storage.copy(tmp_path / "x.zip", bucket / "x.zip")
    with (bucket / "x.zip").open("rb") as file, zipfile.ZipFile(file) as opened:
        assert opened.read("inside") == CONTENT
    with (bucket / "x.zip").open("rb") as file:
        (bucket / "x.zip").write_bytes(b"another, as long as it will be")
        with pytest.raises(RemoteError, match="replaced while it was read"):
            file.read(10)


def test_arrow_reads_it(bucket: S3Path, tmp_path: Path) -> None:
    table = pa.table({"a": list(range(5000))})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=1000)
    storage.copy(tmp_path / "t.parquet", bucket / "d" / "t.parquet")
    system = pickle.loads(pickle.dumps(arrow.filesystem()))
    assert pq.read_table(f"{bucket.bucket}/d/t.parquet", filesystem=system).equals(table)
    found = system.get_file_info(fs.FileSelector(bucket.bucket, recursive=True))
    assert [(one.path, one.size) for one in found] == [
        (f"{bucket.bucket}/d/t.parquet", (tmp_path / "t.parquet").stat().st_size)
    ]
    assert system.get_file_info(f"{bucket.bucket}/d").type == fs.FileType.Directory
    assert system.get_file_info(f"{bucket.bucket}/no").type == fs.FileType.NotFound


@pytest.mark.parametrize("fault", [FAIL, BUSY, HANG, DROP, LOSE])
def test_a_write_that_meets_faults_is_whole_in_the_end(proxied: tuple[S3Path, Proxy], fault: str) -> None:
    folder, proxy = proxied
    (folder / "x").write_bytes(b"before")
    proxy.fails(fault, method="PUT")
    (folder / "x").write_bytes(CONTENT)
    assert [seen[2] for seen in proxy.seen if seen[0] == "PUT"] == [None, fault, None]
    assert (folder / "x").read_bytes() == CONTENT


@pytest.mark.parametrize("fault", [FAIL, BUSY, HANG, DROP, CUT])
def test_a_read_that_meets_faults_is_whole_in_the_end(proxied: tuple[S3Path, Proxy], fault: str) -> None:
    folder, proxy = proxied
    (folder / "x").write_bytes(CONTENT)
    proxy.fails(fault, method="GET")
    assert (folder / "x").read_bytes() == CONTENT
    proxy.fails(fault, method="GET")
    with (folder / "x").open("rb") as file:
        file.seek(1000)
        assert file.read(5000) == CONTENT[1000:6000]
    assert [seen[2] for seen in proxy.seen].count(fault) == 2
    assert [seen[0] for seen in proxy.seen].count("GET") == 4


@pytest.mark.parametrize("fault", [FAIL, DROP, CUT])
def test_what_fails_for_good_is_told_and_leaves_what_was_there(proxied: tuple[S3Path, Proxy], fault: str) -> None:
    folder, proxy = proxied
    (folder / "x").write_bytes(b"before")
    proxy.plan = lambda method, path: fault
    with pytest.raises(RemoteError) as raised:
        (folder / "x").read_bytes()
    assert (raised.value.errno, raised.value.filename) == (errno.EIO, f"{folder}/x")
    assert proxy.address in str(raised.value.strerror)
    if fault != CUT:
        with pytest.raises(RemoteError):
            (folder / "x").write_bytes(CONTENT)
        proxy.plan = lambda method, path: None
        assert (folder / "x").read_bytes() == b"before"
    copied = pickle.loads(pickle.dumps(raised.value))
    assert (type(copied), copied.strerror, copied.filename) == (RemoteError, raised.value.strerror, f"{folder}/x")


def test_parts_of_a_large_object_are_sent_again(proxied: tuple[S3Path, Proxy], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, proxy = proxied
    monkeypatch.setattr(path, "PART_BYTES", 5 << 20)
    content = CONTENT * 90
    proxy.fails(DROP, method="PUT")
    (folder / "large").write_bytes(content)
    assert (folder / "large").read_bytes() == content
    proxy.plan = lambda method, path: FAIL if "partNumber=2" in path else None
    with pytest.raises(RemoteError):
        (folder / "large").write_bytes(b"\0" * (11 << 20))
    proxy.plan = lambda method, path: None
    assert (folder / "large").read_bytes() == content


def test_a_claim_whose_answer_is_lost_is_known_to_be_ours(proxied: tuple[S3Path, Proxy]) -> None:
    folder, proxy = proxied
    proxy.fails(LOSE, method="PUT")
    assert storage.claim(folder / "a")
    assert not storage.claim(folder / "a")


def test_a_server_that_knows_no_conditions(proxied: tuple[S3Path, Proxy]) -> None:
    folder, proxy = proxied
    proxy.knows_conditions = False
    assert storage.claim(folder / "a")
    assert not storage.claim(folder / "a")
    assert "501" in [seen[2] for seen in proxy.seen]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("403", "access is denied; .* has to be allowed s3:ListBucket"),
        ("301", "not at http://127.0.0.1:.* but in region eu-west-1; set AWS_REGION=eu-west-1"),
        ("400", "the credentials have expired"),
        (BUSY, "answers SlowDown again and again"),
    ],
)
def test_why_a_bucket_cannot_be_used(proxied: tuple[S3Path, Proxy], fault: str, told: str) -> None:
    folder, proxy = proxied
    proxy.plan = lambda method, path: fault
    with pytest.raises(RemoteError, match=told):
        storage.check_writable(folder)


def test_a_bucket_that_is_not_there(bucket: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RemoteError, match="there is no bucket 'nobody-has-this'"):
        storage.check_writable(S3Path("nobody-has-this", "runs"))
    with pytest.raises(RemoteError, match="'Not_A_Bucket!' is no name of a bucket"):
        storage.check_writable(S3Path("Not_A_Bucket!", "runs"))
    storage.check_writable(bucket / "runs")
    assert not list(bucket.below()), "looking leaves nothing"


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "no AWS credentials were found"),
        ({"AWS_PROFILE": "nobody"}, "nobody"),
        ({"AWS_SECRET_ACCESS_KEY": None}, "credentials"),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}, "127.0.0.1:1 does not answer"),
        ({"AWS_ENDPOINT_URL_S3": "minio"}, "AWS_ENDPOINT_URL_S3.* cannot be used: .*minio"),
        ({"AWS_REGION": "not a region"}, "AWS_REGION"),
    ],
)
def test_what_the_environment_lacks(
    bucket: S3Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str | None], told: str
) -> None:
    for name, value in variables.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    requests._client.cache_clear()
    with pytest.raises(RemoteError, match=told):
        storage.check_writable(bucket / "runs")


def test_a_profile_of_the_users(
    bucket: S3Path, s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Keys by a profile's credential process, and its endpoint: what SSO and other logins are, to boto3."""
    (tmp_path / "keys").write_text('{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": "c"}')
    (tmp_path / "aws-config").write_text(
        f"[profile team]\nregion = eu-west-1\nendpoint_url = {s3_server}\n"
        f"credential_process = cat {tmp_path / 'keys'}\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3", "AWS_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "team")
    requests._client.cache_clear()
    storage.check_writable(bucket / "runs")
    assert requests.client().meta.region_name == "eu-west-1"


def test_nobody_without_an_address_on_s3_waits_for_boto3(tmp_path: Path) -> None:
    told = "import sys; from emoray import cli; cli.main(sys.argv[1:])"
    told += "; print([name for name in ('boto3', 'ray') if name in sys.modules])"
    plan = ["sweep", "sweeps/quickstart.yaml", "--dry-run", "--storage", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", told, *plan], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
