"""Who uses the page: a development user on a laptop, an OIDC account, or the user that an identity proxy names.

Identity only; permissions are in ``posewatch.labels.team.roles``.
"""

from __future__ import annotations

import getpass
import hmac
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from posewatch.errors import ConfigError, NotAllowed
from posewatch.labels.team import roles

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

Mode = Literal["dev", "oidc", "proxy"]
SECRET_HEADER = "x-posewatch-proxy-secret"


@dataclass(frozen=True)
class IdentityConfig:
    """How people are identified.

    ``mode``: ``dev`` (the user of this machine, by the name they enter), ``oidc`` (an account of st.login's provider)
    or ``proxy`` (the identity header of Kubeflow or another proxy, from a trusted proxy only: one in the ``trusted``
    networks, or one that sends ``secret``). ``admins`` are admins from the start.
    """

    mode: Mode = "dev"
    header: str = "kubeflow-userid"
    prefix: str = ""
    trusted: tuple[str, ...] = ()
    secret: str = ""
    admins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in ("dev", "oidc", "proxy"):
            raise ConfigError(f"POSEWATCH_AUTH must be dev, oidc or proxy, not {self.mode!r}")
        for network in self.trusted:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise ConfigError(f"POSEWATCH_TRUSTED_PROXIES: {network!r} is not a network like 10.0.0.0/8") from None
        if self.mode == "proxy" and not self.trusted and not self.secret:
            raise ConfigError(
                "POSEWATCH_AUTH=proxy trusts a header: name the proxies that may set it, with "
                "POSEWATCH_TRUSTED_PROXIES (networks) or POSEWATCH_PROXY_SECRET"
            )

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> IdentityConfig:
        """From POSEWATCH_AUTH, _USER_HEADER, _USER_PREFIX, _TRUSTED_PROXIES, _PROXY_SECRET and _ADMINS."""
        env = os.environ if env is None else env

        def names(name: str) -> tuple[str, ...]:
            return tuple(part.strip() for part in env.get(name, "").split(",") if part.strip())

        return cls(
            mode=env.get("POSEWATCH_AUTH") or "dev",  # type: ignore[arg-type]
            header=(env.get("POSEWATCH_USER_HEADER") or "kubeflow-userid").lower(),
            prefix=env.get("POSEWATCH_USER_PREFIX", ""),
            trusted=names("POSEWATCH_TRUSTED_PROXIES"),
            secret=env.get("POSEWATCH_PROXY_SECRET", ""),
            admins=names("POSEWATCH_ADMINS"),
        )


def dev_user(env: Mapping[str, str] | None = None) -> str:
    """The default name of the development user; "" when the system has none."""
    try:
        return (os.environ if env is None else env).get("POSEWATCH_USER") or getpass.getuser()
    except (KeyError, OSError):
        return ""


def is_local(peer: str | None) -> bool:
    """Whether a connection comes from this machine; Streamlit reports such a peer as None."""
    return peer is None or (_address(peer) is not None and ipaddress.ip_address(peer).is_loopback)


def proxy_user(config: IdentityConfig, headers: Mapping[str, str], peer: str | None) -> str:
    """The user that a trusted proxy names; ``headers`` with lower-case names. Raises NotAllowed."""
    secret = headers.get(SECRET_HEADER, "")
    authentic = bool(config.secret) and hmac.compare_digest(secret.encode(), config.secret.encode())
    address = _address(peer or "127.0.0.1")
    listed = address is not None and any(address in ipaddress.ip_network(network) for network in config.trusted)
    # with both configured both must hold: a leaked secret is useless from another network
    if not ((authentic or not config.secret) and (listed or not config.trusted)):
        raise NotAllowed("this page accepts requests through its identity proxy only, not directly")
    who = _utf8(headers.get(config.header, "")).strip().removeprefix(config.prefix).strip()
    if not who:
        raise NotAllowed(f"the proxy sent no user name (header {config.header}): sign in there first")
    return who


def oidc_user(user: Mapping[str, Any]) -> str:
    """The user name of an OIDC account. Raises NotAllowed for one without a verified address."""
    if str(user.get("email_verified")).lower() == "false":  # some providers send booleans as text
        raise NotAllowed(f"the address {user.get('email')} is not verified: verify it with your identity provider")
    who = str(user.get("email") or user.get("preferred_username") or user.get("sub") or "").strip()
    if not who:
        raise NotAllowed("the identity provider sent neither an address nor an account name")
    return who


def grant_first_roles(store: LabelStore, config: IdentityConfig, who: str) -> None:
    """Grant the role admin to a configured admin and, on a laptop whose store has no roles yet, to its first user."""
    first = config.mode == "dev" and not roles.all_roles(store)
    admin = who.casefold() in {name.casefold() for name in config.admins}
    if who and (admin or first) and roles.role_of(store, who) == "none":
        roles.set_role(store, who, "admin", "configuration" if admin else "laptop")


def _utf8(header: str) -> str:
    """A header's text: HTTP servers read headers as Latin-1, and proxies write names in UTF-8."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:  # it is Latin-1, or was decoded already
        return header


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
