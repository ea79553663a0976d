"""TLS to receivers of alarms: their authority, and the watcher's own certificate, by files that an address names."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Mapping
from typing import Any

from posewatch.errors import InputError

OPTIONS = ("ca", "cert", "key")
"""``ca``: the receiver's authority, instead of those of the system; ``cert``: the watcher's own certificate (for
receivers that ask for one), with those between it and its authority behind it; ``key``: its key, if not in ``cert``."""


def context_of(options: Mapping[str, str], kind: str) -> ssl.SSLContext:
    """What a client needs for ``options`` of an address of this ``kind``. Raises InputError for files that are none."""
    if "key" in options and "cert" not in options:
        raise InputError(f"the {kind} address has a key without its certificate: give cert, too")
    try:
        context = _Context(options)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"the authority of the {kind} address (ca) cannot be read: {error}") from None
    try:
        context.load()
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"the certificate of the {kind} address (cert, key) cannot be read: {error} (PEM, the key without a"
            " passphrase)"
        ) from None
    return context


class _Context(ssl.SSLContext):
    """Like ``ssl.create_default_context``; the watcher's own certificate is read again for each connection, because
    certificates are renewed while it runs."""

    def __new__(cls, options: Mapping[str, str]) -> _Context:
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, options: Mapping[str, str]) -> None:
        self._cert, self._key = options.get("cert"), options.get("key")
        if "ca" in options:
            self.load_verify_locations(options["ca"])
        else:
            self.load_default_certs()

    def load(self) -> None:
        """Read the certificate. Raises OSError and SSLError."""
        if self._cert is not None:
            # without a password OpenSSL would ask for one at the terminal, and wait
            self.load_cert_chain(self._cert, self._key, password=lambda: b"")

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        self._load_again()
        return super().wrap_socket(*args, **options)

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        self._load_again()
        return super().wrap_bio(*args, **options)

    def _load_again(self) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):  # half written just now: the one before may still do
            self.load()
