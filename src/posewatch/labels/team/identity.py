"""Who is at the page: a development user on a laptop, an OIDC account, or what an identity proxy says.

Identity only; what somebody may do is ``posewatch.labels.team.roles``.
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
    """How people are told apart.

    ``mode``: ``dev`` (whoever sits at this machine, by the name they give), ``oidc`` (an account of st.login's
    provider) or ``proxy`` (Kubeflow's and others' identity header, from a trusted proxy only: one of ``trusted``
    networks, or one that knows ``secret``). ``admins`` are admins from the start.
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
                raise ConfigError(f"POSEWATCH_TRUSTED_PROXIES: {network!r} is no network such as 10.0.0.0/8") from None
        if self.mode == "proxy" and not self.trusted and not self.secret:
            raise ConfigError(
                "POSEWATCH_AUTH=proxy believes a header: say which proxies may set it, with "
                "POSEWATCH_TRUSTED_PROXIES (networks) or POSEWATCH_PROXY_SECRET"
            )

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> IdentityConfig:
        """From POSEWATCH_AUTH, _USER_HEADER, _USER_PREFIX, _TRUSTED_PROXIES, _PROXY_SECRET and _ADMINS."""
        env = os.environ if env is None else env

        def several(name: str) -> tuple[str, ...]:
            return tuple(part.strip() for part in env.get(name, "").split(",") if part.strip())

        return cls(
            mode=env.get("POSEWATCH_AUTH") or "dev",  # type: ignore[arg-type]
            header=(env.get("POSEWATCH_USER_HEADER") or "kubeflow-userid").lower(),
            prefix=env.get("POSEWATCH_USER_PREFIX", ""),
            trusted=several("POSEWATCH_TRUSTED_PROXIES"),
            secret=env.get("POSEWATCH_PROXY_SECRET", ""),
            admins=several("POSEWATCH_ADMINS"),
        )


def dev_name(env: Mapping[str, str] | None = None) -> str:
    """The name that is filled in for the development user; "" when the system knows none."""
    try:
        return (os.environ if env is None else env).get("POSEWATCH_USER") or getpass.getuser()
    except (KeyError, OSError):
        return ""


def is_local(peer: str | None) -> bool:
    """Whether a connection comes from this machine; None is what Streamlit says of one."""
    return peer is None or (_address(peer) is not None and ipaddress.ip_address(peer).is_loopback)


def by_proxy(config: IdentityConfig, headers: Mapping[str, str], peer: str | None) -> str:
    """Who a trusted proxy says is there; ``headers`` with lower-case names. Raises NotAllowed."""
    given = headers.get(SECRET_HEADER, "")
    knows = bool(config.secret) and hmac.compare_digest(given.encode(), config.secret.encode())
    address = _address(peer or "127.0.0.1")
    listed = address is not None and any(address in ipaddress.ip_network(network) for network in config.trusted)
    # with both configured both must hold: a secret that leaked is no use from elsewhere
    trusted = (knows or not config.secret) and (listed or not config.trusted)
    if not trusted:
        raise NotAllowed("this page is reached through its identity proxy only: the request did not come from there")
    who = headers.get(config.header, "").strip().removeprefix(config.prefix).strip()
    if not who:
        raise NotAllowed(f"the proxy did not say who you are (header {config.header}): sign in there first")
    return who


def by_oidc(user: Mapping[str, Any]) -> str:
    """Who an OIDC provider says is there. Raises NotAllowed for an account without a verified address."""
    if user.get("email_verified") is False:
        raise NotAllowed(f"the address {user.get('email')} is not verified: verify it with your identity provider")
    who = str(user.get("email") or user.get("preferred_username") or user.get("sub") or "").strip()
    if not who:
        raise NotAllowed("the identity provider names neither an address nor an account")
    return who


def welcome(store: LabelStore, config: IdentityConfig, who: str) -> None:
    """Make the configured admins admins, and on a laptop whose store knows no role yet its first user too."""
    first = config.mode == "dev" and not roles.everybody(store)
    if who and (who in config.admins or first) and roles.role_of(store, who) == "none":
        roles.appoint(store, who, "admin", "configuration" if who in config.admins else "laptop")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
