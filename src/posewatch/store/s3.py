"""An object store on any S3-compatible server, through the minio client."""

from __future__ import annotations

import io
import mimetypes
import os
import ssl
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from posewatch.addresses import Address
from posewatch.errors import AccessDenied, InputError, NoBucket, NotFound, StoreError, Unreachable
from posewatch.files import atomic
from posewatch.retry import retry
from posewatch.store.base import ObjectInfo, check_key

R = TypeVar("R")
ATTEMPTS = 6
"""Requests until the store counts as unreachable; the waits between them are eight seconds in all on average."""
BUSY = (429, 502, 503, 504)
"""Status codes of a store that is busy or starting, whatever code its answer names, and of a proxy before it."""
PASSING = ("InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "XMinioServerNotInitialized")
DENIED = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")


class S3Store:
    """A bucket, or what is below a prefix of it.

    Endpoint and credentials are read from POSEWATCH_S3_ENDPOINT, POSEWATCH_S3_ACCESS_KEY and POSEWATCH_S3_SECRET_KEY,
    else from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN; the region is
    POSEWATCH_S3_REGION, else that of the endpoint's name, of AWS_REGION beside AWS's keys, or us-east-1. A request that
    gets no answer is sent again, ``attempts`` times in all, with a line on the log each time.
    """

    shared = True

    def __init__(self, bucket: str, prefix: str = "", attempts: int = ATTEMPTS) -> None:
        import urllib3
        from minio import Minio
        from minio.helpers import check_bucket_name

        try:
            check_bucket_name(bucket)
        except ValueError as error:
            raise InputError(
                f"no bucket can be called s3://{bucket}: {error} (3 to 63 letters, digits, . and -)"
            ) from None
        endpoint = _variable("POSEWATCH_S3_ENDPOINT", "AWS_ENDPOINT_URL")
        if not endpoint:
            raise InputError(
                f"no S3 endpoint for s3://{bucket}: run `posewatch up`, or set POSEWATCH_S3_ENDPOINT and the keys"
            )
        address = endpoint if "://" in endpoint else f"http://{endpoint}"
        found = Address.parse(address)
        if found.user or found.doubtful:
            raise InputError(
                "POSEWATCH_S3_ENDPOINT must be an address such as http://host:9000; the keys belong in"
                " POSEWATCH_S3_ACCESS_KEY and POSEWATCH_S3_SECRET_KEY"
            )
        parts = urlsplit(address)
        if parts.path.strip("/") or parts.query:
            raise InputError(
                f"POSEWATCH_S3_ENDPOINT must end at the port, such as http://host:9000, without {parts.path}: S3"
                " signatures allow no other path, and the bucket belongs in s3://bucket"
            )
        self.bucket, self.prefix, self.attempts = bucket, prefix.strip("/"), attempts
        self.uri = f"s3://{bucket}/{self.prefix}".rstrip("/")
        self.endpoint = parts.netloc
        timeout = urllib3.Timeout(connect=5, read=60)
        access, secret, token = _keys()
        try:
            self._client = Minio(
                parts.netloc,
                access_key=access or None,
                secret_key=secret or None,
                session_token=token or None,
                secure=parts.scheme == "https",
                region=_region(parts.scheme, parts.netloc),
                http_client=urllib3.PoolManager(timeout=timeout, maxsize=8, retries=False),
            )
        except ValueError as error:
            raise InputError(f"check POSEWATCH_S3_ENDPOINT and POSEWATCH_S3_REGION: {error}") from None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.bucket, self.prefix, self.attempts)

    def get(self, key: str) -> bytes:
        def read() -> bytes:
            answer = self._client.get_object(self.bucket, self._key(key))
            try:
                return bytes(answer.read())
            finally:
                answer.close()
                answer.release_conn()

        return self._call(key, read)

    def put(self, key: str, data: bytes) -> None:
        kind = _content_type(key)
        self._call(
            key,
            lambda: _whole(
                self._client.put_object(self.bucket, self._key(key), io.BytesIO(data), len(data), content_type=kind)
            ),
        )

    def fetch(self, key: str, path: Path) -> Path:
        with atomic(path) as partial:
            self._call(key, lambda: self._client.fget_object(self.bucket, self._key(key), str(partial)))
        return path

    def upload(self, key: str, path: Path) -> None:
        kind = _content_type(key)
        self._call(
            key,
            lambda: _whole(self._client.fput_object(self.bucket, self._key(key), str(path), content_type=kind)),
        )

    def exists(self, key: str) -> bool:
        try:
            self._call(key, lambda: self._client.stat_object(self.bucket, self._key(key)))
        except NoBucket:
            raise
        except NotFound:
            return False
        return True

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        root = f"{self.prefix}/" if self.prefix else ""
        objects = self._call(
            prefix or "*", lambda: list(self._client.list_objects(self.bucket, prefix=root + prefix, recursive=True))
        )
        # not every server lists in the order of the keys around "/"
        return sorted(
            (ObjectInfo(str(o.object_name)[len(root) :], int(o.size or 0)) for o in objects if not o.is_dir),
            key=lambda o: o.key,
        )

    def folders(self, prefix: str) -> tuple[str, ...]:
        root = f"{self.prefix}/" if self.prefix else ""
        found = self._call(prefix, lambda: list(self._client.list_objects(self.bucket, prefix=root + prefix)))
        names = (str(o.object_name)[len(root) + len(prefix) :].rstrip("/") for o in found if o.is_dir)
        return tuple(sorted(names))

    def delete(self, key: str) -> None:
        self._call(key, lambda: self._client.remove_object(self.bucket, self._key(key)))

    def url(self, key: str, expires_s: int = 3600) -> str:
        return self._client.presigned_get_object(self.bucket, self._key(key), expires=timedelta(seconds=expires_s))

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{check_key(key)}" if self.prefix else check_key(key)

    def _call(self, key: str, request: Callable[[], R]) -> R:
        """Send a request, again while the failure is a passing one; its last failure as an error of ours."""
        import urllib3
        from minio.error import MinioException

        def log(error: BaseException, attempt: int, wait_s: float) -> None:
            again = f"try {attempt + 1} of {self.attempts} in {wait_s:.1f} s"
            _log(f"object store {self.endpoint}: {_reason(error)}; {again}")

        try:
            return retry(request, _passes, attempts=self.attempts, first_s=0.5, max_s=8.0, log=log)
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._error(key, error) from None
        except (SyntaxError, ValueError) as error:  # what minio's reader of XML raises for a page with status 200
            if isinstance(error, SyntaxError) or "XML element" in str(error):
                raise self._no_s3() from None
            raise

    def _no_s3(self) -> StoreError:
        return StoreError(
            f"{self.endpoint} answers, but not as an S3 server does: is POSEWATCH_S3_ENDPOINT its S3 port, "
            "not its web page, and with https:// if it speaks TLS?"
        )

    def _error(self, key: str, error: Exception) -> StoreError:
        from minio.error import InvalidResponseError, S3Error

        if not_tls := _tls(error):
            return StoreError(f"object store {self.endpoint}: {not_tls}")
        if _passes(error):
            return Unreachable(
                f"object store {self.endpoint} gave no answer in {self.attempts} tries ({_reason(error)}): "
                "is it running? see `posewatch status`, or check POSEWATCH_S3_ENDPOINT"
            )
        if isinstance(error, InvalidResponseError):
            return self._no_s3()
        if isinstance(error, OSError):
            return StoreError(f"cannot use the local file {error.filename}: {error.strerror}")
        code = (error.code or "") if isinstance(error, S3Error) else ""
        missing = code in ("NoSuchKey", "NoSuchObject")
        if code == "NoSuchBucket" or (missing and not self._bucket_exists()):
            return NoBucket(f"no such bucket: {self.bucket} at {self.endpoint} (create it, or correct --store)")
        if missing:
            return NotFound(f"no such object: {self.uri}/{key}")
        if code in DENIED:
            return AccessDenied(
                f"{self.endpoint} refused the credentials for s3://{self.bucket} ({code}): "
                "check POSEWATCH_S3_ACCESS_KEY and POSEWATCH_S3_SECRET_KEY"
            )
        message = error.message if isinstance(error, S3Error) else error
        remedy = " (set POSEWATCH_S3_REGION to the bucket's region)" if "region" in str(message).lower() else ""
        answer = f"{self.endpoint} answered {code or type(error).__name__} for {self.uri}/{key}: {message}{remedy}"
        return AccessDenied(answer) if code == "AuthorizationHeaderMalformed" else StoreError(answer)

    def _bucket_exists(self) -> bool:
        """True also when the server does not answer: then only the object is known to be missing."""
        import urllib3
        from minio.error import MinioException

        try:
            return bool(self._client.bucket_exists(self.bucket))
        except (MinioException, urllib3.exceptions.HTTPError, OSError):
            return True


def _whole(written: Any) -> None:
    """Check that there is an object. Raises ServerError.

    A server may answer 200 before it has put the parts of an upload together, and tell a failure in the page that
    follows (AWS documents it). The client takes any page for success; only that of an object names its ETag.
    """
    from minio.error import ServerError

    if written.etag is None:
        raise ServerError("the parts of the upload were not put together", 200)


def _passes(error: BaseException) -> bool:
    """Whether the same request may succeed later: no connection, or a server that is busy or starting."""
    import urllib3
    from minio.error import InvalidResponseError, S3Error, ServerError

    if isinstance(error, S3Error):
        return error.code in PASSING or error.response.status in BUSY
    if isinstance(error, InvalidResponseError):  # a page of the proxy before a store that is away
        return error._code in BUSY
    if isinstance(error, OSError):
        return error.filename is None  # one with a file name is about the local file
    if _tls(error):
        return False
    return isinstance(error, ServerError | urllib3.exceptions.HTTPError)


def _tls(error: BaseException) -> str:
    """What is wrong with the server's certificate or with https://, and its remedy; "" for another error."""
    reason = error.args[0] if error.args else None
    if isinstance(reason, ssl.SSLCertVerificationError):
        why = reason.verify_message or reason.reason
        return (
            f"its certificate is not trusted ({why}): set SSL_CERT_FILE to the file of its certificate authority, and"
            " name the host in POSEWATCH_S3_ENDPOINT as the certificate does"
        )
    if isinstance(reason, ssl.SSLError) and reason.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return "it does not speak TLS: write http:// in POSEWATCH_S3_ENDPOINT"
    return ""


def _reason(error: BaseException) -> str:
    import urllib3
    from minio.error import InvalidResponseError, S3Error, ServerError

    if isinstance(error, S3Error):
        return error.code or "S3Error"
    if isinstance(error, InvalidResponseError):
        return f"HTTP {error._code}"
    if isinstance(error, ServerError):
        return str(error) if error.status_code == 200 else f"HTTP {error.status_code}"
    refused = isinstance(error, urllib3.exceptions.NewConnectionError | ConnectionRefusedError)
    return "no connection" if refused else type(error).__name__


def _variable(*names: str) -> str:
    """The first of the environment variables that is set, without the line's end that files and Secrets often have."""
    return next((value for name in names if (value := os.environ.get(name, "").strip())), "")


def _keys() -> tuple[str, str, str]:
    """Access key, secret key and session token, "" where there is none; a token belongs to the keys of AWS only."""
    access = _variable("POSEWATCH_S3_ACCESS_KEY", "AWS_ACCESS_KEY_ID")
    secret = _variable("POSEWATCH_S3_SECRET_KEY", "AWS_SECRET_ACCESS_KEY")
    if bool(access) != bool(secret):
        raise InputError(f"POSEWATCH_S3_{'SECRET' if access else 'ACCESS'}_KEY is not set: the store needs both keys")
    token = "" if _variable("POSEWATCH_S3_ACCESS_KEY") else _variable("AWS_SESSION_TOKEN")
    return access, secret, token


def _region(scheme: str, host: str) -> str | None:
    """The region to sign for; None where ``Minio`` has to ask AWS. A region in the name of an endpoint of AWS counts,
    because ``Minio`` would send the requests to the one it is told."""
    from minio.helpers import BaseURL

    told = _variable("POSEWATCH_S3_REGION")
    if told:
        return told
    named = BaseURL(f"{scheme}://{host}", None)
    if named.region:
        return named.region
    if not _variable("POSEWATCH_S3_ACCESS_KEY") and (aws := _variable("AWS_REGION", "AWS_DEFAULT_REGION")):
        return aws
    return None if named.is_aws_host else "us-east-1"


def _content_type(key: str) -> str:
    if key.endswith((".jsonl", ".parquet", ".pbtxt")):
        return "text/plain" if key.endswith("pbtxt") else "application/octet-stream"
    return mimetypes.guess_type(key)[0] or "application/octet-stream"


def _log(message: str) -> None:
    from tqdm import tqdm

    tqdm.write(f"posewatch: {message}", file=sys.stderr)
