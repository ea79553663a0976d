"""ObjectStore: S3 (through the minio client), a local folder, or memory (the shipped double), behind one URI scheme.

    s3://bucket[/prefix]     endpoint and credentials come from the environment, see ``S3Store``
    file:///folder, folder   a local folder
    memory://name            this process only, for tests

Every write is whole or absent: a reader never sees half an object.
"""

from __future__ import annotations

import io
import mimetypes
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar
from urllib.parse import urlsplit

from posewatch.errors import AccessDenied, InputError, NotFound, StoreError, Unreachable

R = TypeVar("R")
ATTEMPTS = 6
"""Tries per request; the pauses between them double from a quarter of a second, eight seconds in all."""


@dataclass(frozen=True)
class ObjectInfo:
    """A stored object: its key below the store's root, and its size in bytes."""

    key: str
    size: int


class ObjectStore(Protocol):
    """A flat map from keys ("a/b/c") to bytes, rooted at ``uri``.

    Raises NotFound, AccessDenied or Unreachable; each names the object or the bucket.
    """

    uri: str
    shared: bool
    """Whether another process that opens ``uri`` sees the same objects."""

    def get(self, key: str) -> bytes:
        """The bytes of one object."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write one object, replacing what was there."""
        ...

    def fetch(self, key: str, path: Path) -> Path:
        """Copy one object into a local file and return its path."""
        ...

    def upload(self, key: str, path: Path) -> None:
        """Copy a local file into one object."""
        ...

    def exists(self, key: str) -> bool: ...

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """All objects whose key starts with ``prefix``, sorted by key."""
        ...

    def delete(self, key: str) -> None:
        """Remove one object; removing what is not there is no error."""
        ...

    def url(self, key: str, expires_s: int = 3600) -> str:
        """A URL (or a local path) from which a browser reads the object for ``expires_s`` seconds."""
        ...


def _check_key(key: str) -> str:
    if not key or key.startswith("/") or "\\" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise InputError(f"bad object key: {key!r} (parts joined by '/', none of them empty or '..')")
    return key


class _ByUri:
    """Travels to another process as its URI: connections are opened anew there."""

    uri: str

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return open_store, (self.uri,)


class MemoryStore(_ByUri):
    """The shipped double: objects live in this process, shared by all who open the same name."""

    _all: ClassVar[dict[str, dict[str, bytes]]] = {}
    shared = False

    def __init__(self, name: str = "default") -> None:
        self.uri = f"memory://{name}"
        self._objects = self._all.setdefault(name, {})

    def get(self, key: str) -> bytes:
        try:
            return self._objects[_check_key(key)]
        except KeyError:
            raise NotFound(f"no such object: {self.uri}/{key}") from None

    def put(self, key: str, data: bytes) -> None:
        self._objects[_check_key(key)] = bytes(data)

    def fetch(self, key: str, path: Path) -> Path:
        path.write_bytes(self.get(key))
        return path

    def upload(self, key: str, path: Path) -> None:
        self.put(key, path.read_bytes())

    def exists(self, key: str) -> bool:
        return _check_key(key) in self._objects

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        return [ObjectInfo(k, len(v)) for k, v in sorted(self._objects.items()) if k.startswith(prefix)]

    def delete(self, key: str) -> None:
        self._objects.pop(_check_key(key), None)

    def url(self, key: str, expires_s: int = 3600) -> str:
        return f"{self.uri}/{key}"


class FolderStore(_ByUri):
    """A local folder; every write goes to a temporary name first and is renamed into place."""

    shared = True

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().resolve()
        self.uri = self.root.as_uri()

    def _path(self, key: str) -> Path:
        return self.root / _check_key(key)

    def _replace(self, key: str, write: Callable[[Path], Any]) -> None:
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".part-", dir=path.parent)
            os.close(handle)
            try:
                write(Path(name))
                os.replace(name, path)
            finally:
                Path(name).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot write {path}: {error.filename}: {error.strerror} (check the disk and the folder's rights)"
            ) from None

    def get(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            raise NotFound(f"no such object: {self.uri}/{key}") from None

    def put(self, key: str, data: bytes) -> None:
        self._replace(key, lambda path: path.write_bytes(data))

    def fetch(self, key: str, path: Path) -> Path:
        if not self.exists(key):
            raise NotFound(f"no such object: {self.uri}/{key}")
        shutil.copyfile(self._path(key), path)
        return path

    def upload(self, key: str, path: Path) -> None:
        self._replace(key, lambda to: shutil.copyfile(path, to))

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        found = []
        base = self.root / prefix.rpartition("/")[0]
        for folder, _, files in os.walk(base):
            for name in files:
                path = Path(folder) / name
                key = path.relative_to(self.root).as_posix()
                if key.startswith(prefix) and not name.startswith(".part-"):
                    found.append(ObjectInfo(key, path.stat().st_size))
        return sorted(found, key=lambda o: o.key)

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def url(self, key: str, expires_s: int = 3600) -> str:
        return str(self._path(key))


class S3Store(_ByUri):
    """Any S3-compatible server, through the minio client.

    Endpoint and credentials are read from POSEWATCH_S3_ENDPOINT, POSEWATCH_S3_ACCESS_KEY and POSEWATCH_S3_SECRET_KEY,
    else from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; POSEWATCH_S3_REGION is optional. A server
    that does not answer is asked again ``ATTEMPTS`` times, with a line on the log each time.
    """

    shared = True
    _RETRY: ClassVar[set[str]] = {
        "InternalError",
        "ServiceUnavailable",
        "SlowDown",
        "RequestTimeout",
        "XMinioServerNotInitialized",
    }
    _DENIED: ClassVar[set[str]] = {
        "AccessDenied",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "AuthorizationHeaderMalformed",
    }

    def __init__(self, bucket: str, prefix: str = "", attempts: int = ATTEMPTS) -> None:
        import urllib3
        from minio import Minio

        env = os.environ
        endpoint = env.get("POSEWATCH_S3_ENDPOINT") or env.get("AWS_ENDPOINT_URL")
        if not endpoint:
            raise InputError(
                f"no S3 endpoint for s3://{bucket}: run `posewatch up`, or set POSEWATCH_S3_ENDPOINT and the keys"
            )
        parts = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
        self.bucket, self.prefix, self.attempts = bucket, prefix.strip("/"), attempts
        self.uri = f"s3://{bucket}/{self.prefix}".rstrip("/")
        self.endpoint = parts.netloc
        timeout = urllib3.Timeout(connect=5, read=60)
        self._client = Minio(
            parts.netloc,
            access_key=env.get("POSEWATCH_S3_ACCESS_KEY") or env.get("AWS_ACCESS_KEY_ID"),
            secret_key=env.get("POSEWATCH_S3_SECRET_KEY") or env.get("AWS_SECRET_ACCESS_KEY"),
            secure=parts.scheme == "https",
            region=env.get("POSEWATCH_S3_REGION", "us-east-1"),
            http_client=urllib3.PoolManager(timeout=timeout, maxsize=8, retries=False),
        )

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{_check_key(key)}" if self.prefix else _check_key(key)

    def _bucket_is_there(self) -> bool:
        """True also when the server does not say: then the object is what is missing, as far as anybody knows."""
        import urllib3
        from minio.error import MinioException

        try:
            return bool(self._client.bucket_exists(self.bucket))
        except (MinioException, urllib3.exceptions.HTTPError, OSError):
            return True

    def _call(self, what: str, act: Callable[[], R]) -> R:
        import urllib3
        from minio.error import S3Error, ServerError

        for attempt in range(1, self.attempts + 1):
            try:
                return act()
            except S3Error as error:
                code = error.code or ""
                if code == "NoSuchBucket":
                    raise NotFound(
                        f"no such bucket: {self.bucket} at {self.endpoint} (create it, or correct --store)"
                    ) from None
                if code in ("NoSuchKey", "NoSuchObject"):
                    if not self._bucket_is_there():
                        raise NotFound(
                            f"no such bucket: {self.bucket} at {self.endpoint} (create it, or correct --store)"
                        ) from None
                    raise NotFound(f"no such object: {self.uri}/{what}") from None
                if code in self._DENIED:
                    raise AccessDenied(
                        f"{self.endpoint} refused the credentials for s3://{self.bucket} ({code}): "
                        "check POSEWATCH_S3_ACCESS_KEY and POSEWATCH_S3_SECRET_KEY"
                    ) from None
                if code not in self._RETRY:
                    raise StoreError(
                        f"{self.endpoint} answered {code} for {self.uri}/{what}: {error.message}"
                    ) from None
                reason = code
            except ServerError as error:
                reason = f"HTTP {error.status_code}"
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if isinstance(error, OSError) and error.filename is not None:
                    raise StoreError(f"cannot use the local file {error.filename}: {error.strerror}") from None
                reason = "no connection" if "refused" in str(error) else type(error).__name__
            if attempt < self.attempts:
                pause = 0.25 * 2 ** (attempt - 1) * random.uniform(0.8, 1.2)
                _log(f"object store {self.endpoint}: {reason}; try {attempt + 1} of {self.attempts} in {pause:.1f} s")
                time.sleep(pause)
        raise Unreachable(
            f"object store {self.endpoint} gave no answer in {self.attempts} tries ({reason}): "
            "is it running? see `posewatch status`, or check POSEWATCH_S3_ENDPOINT"
        )

    def get(self, key: str) -> bytes:
        def act() -> bytes:
            answer = self._client.get_object(self.bucket, self._key(key))
            try:
                return bytes(answer.read())
            finally:
                answer.close()
                answer.release_conn()

        return self._call(key, act)

    def put(self, key: str, data: bytes) -> None:
        kind = _content_type(key)
        self._call(
            key,
            lambda: self._client.put_object(
                self.bucket, self._key(key), io.BytesIO(data), len(data), content_type=kind
            ),
        )

    def fetch(self, key: str, path: Path) -> Path:
        part = path.with_name(f".part-{os.getpid()}-{threading.get_ident()}-{path.name}")
        try:
            self._call(key, lambda: self._client.fget_object(self.bucket, self._key(key), str(part)))
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        return path

    def upload(self, key: str, path: Path) -> None:
        kind = _content_type(key)
        self._call(key, lambda: self._client.fput_object(self.bucket, self._key(key), str(path), content_type=kind))

    def exists(self, key: str) -> bool:
        try:
            self._call(key, lambda: self._client.stat_object(self.bucket, self._key(key)))
        except NotFound as error:
            if "bucket" in str(error):
                raise
            return False
        return True

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        root = f"{self.prefix}/" if self.prefix else ""
        found = self._call(
            prefix or "*", lambda: list(self._client.list_objects(self.bucket, prefix=root + prefix, recursive=True))
        )
        # not every server lists in the order of the keys around "/"
        return sorted(
            (ObjectInfo(str(o.object_name)[len(root) :], int(o.size or 0)) for o in found if not o.is_dir),
            key=lambda o: o.key,
        )

    def delete(self, key: str) -> None:
        self._call(key, lambda: self._client.remove_object(self.bucket, self._key(key)))

    def url(self, key: str, expires_s: int = 3600) -> str:
        return self._client.presigned_get_object(self.bucket, self._key(key), expires=timedelta(seconds=expires_s))


def _content_type(key: str) -> str:
    if key.endswith((".jsonl", ".parquet", ".pbtxt")):
        return "text/plain" if key.endswith("pbtxt") else "application/octet-stream"
    return mimetypes.guess_type(key)[0] or "application/octet-stream"


def _log(message: str) -> None:
    from tqdm import tqdm

    tqdm.write(f"posewatch: {message}", file=sys.stderr)


def open_store(uri: str | None = None) -> ObjectStore:
    """Open the store that ``uri`` names, by default POSEWATCH_STORE. Raises InputError for an unknown scheme."""
    uri = uri or os.environ.get("POSEWATCH_STORE", "")
    if not uri:
        raise InputError(
            "no object store: give --store (s3://bucket or a folder), set POSEWATCH_STORE, or run `posewatch up`"
        )
    scheme, sep, rest = uri.partition("://")
    if not sep:
        return FolderStore(uri)
    if scheme == "s3":
        bucket, _, prefix = rest.partition("/")
        if not bucket:
            raise InputError(f"no bucket in {uri!r}: write s3://bucket/prefix")
        return S3Store(bucket, prefix)
    if scheme == "file":
        return FolderStore(rest)
    if scheme == "memory":
        return MemoryStore(rest)
    raise InputError(f"unknown store {uri!r}: s3://bucket, file:///folder, a folder, or memory://name")
