from __future__ import annotations

import pytest

from posewatch.errors import ConfigError, NotAllowed
from posewatch.labels.team import identity, roles
from posewatch.labels.team.identity import IdentityConfig, is_local, oidc_user, proxy_user


def test_the_configuration_comes_from_the_environment_and_is_checked():
    env = {
        "POSEWATCH_AUTH": "proxy",
        "POSEWATCH_TRUSTED_PROXIES": "10.0.0.0/8, 127.0.0.6",
        "POSEWATCH_ADMINS": "a@x, b@x",
    }
    config = IdentityConfig.from_env(env)
    assert (config.trusted, config.admins) == (("10.0.0.0/8", "127.0.0.6"), ("a@x", "b@x"))
    assert IdentityConfig.from_env({}).mode == "dev"
    for wrong, message in (
        ({"POSEWATCH_AUTH": "none"}, "POSEWATCH_AUTH must be dev, oidc or proxy, not 'none'"),
        ({"POSEWATCH_AUTH": "proxy"}, "name the proxies that may set it"),
        ({"POSEWATCH_AUTH": "proxy", "POSEWATCH_TRUSTED_PROXIES": "gateway"}, "'gateway' is not a network"),
    ):
        with pytest.raises(ConfigError, match=message):
            IdentityConfig.from_env(wrong)


SECRET = {identity.SECRET_HEADER: "s"}


@pytest.mark.parametrize(
    ("trusted", "secret", "headers", "peer", "who"),
    [
        (("10.0.0.0/8",), "", {"kubeflow-userid": "ann@x"}, "10.1.2.3", "ann@x"),
        (("10.0.0.0/8",), "", {"kubeflow-userid": "ann@x"}, "11.1.2.3", None),
        (("10.0.0.0/8",), "", {"kubeflow-userid": "ann@x"}, None, None),
        (("127.0.0.0/8",), "", {"kubeflow-userid": "ann@x"}, None, "ann@x"),
        (("10.0.0.0/8",), "", {"kubeflow-userid": "ann@x"}, "not an address", None),
        ((), "s", {"kubeflow-userid": "ann@x", **SECRET}, "9.9.9.9", "ann@x"),
        ((), "s", {"kubeflow-userid": "ann@x", identity.SECRET_HEADER: "S"}, "9.9.9.9", None),
        ((), "s", {"kubeflow-userid": "ann@x"}, "127.0.0.1", None),
        (("10.0.0.0/8",), "s", {"kubeflow-userid": "ann@x", **SECRET}, "9.9.9.9", None),
        (("10.0.0.0/8",), "s", {"kubeflow-userid": "ann@x", **SECRET}, "10.0.0.9", "ann@x"),
        ((), "s", {"kubeflow-userid": " ", **SECRET}, "9.9.9.9", None),
        ((), "s", SECRET, "9.9.9.9", None),
        (("fd00::/8",), "", {"kubeflow-userid": "ann@x"}, "fd00::1", "ann@x"),
    ],
)
def test_a_header_is_believed_from_a_trusted_proxy_only(trusted, secret, headers, peer, who):
    config = IdentityConfig("proxy", trusted=trusted, secret=secret)
    if who is None:
        with pytest.raises(NotAllowed):
            proxy_user(config, headers, peer)
    else:
        assert proxy_user(config, headers, peer) == who


def test_a_prefix_of_the_proxy_is_taken_off():
    config = IdentityConfig("proxy", prefix="accounts.google.com:", secret="s")
    assert proxy_user(config, {"kubeflow-userid": "accounts.google.com:ann@x", **SECRET}, None) == "ann@x"


@pytest.mark.parametrize(("sent", "who"), [("김철수".encode(), "김철수"), ("Jürgen".encode("latin-1"), "Jürgen")])
def test_a_name_that_is_not_ascii(sent, who):
    config = IdentityConfig("proxy", secret="s")
    assert proxy_user(config, {"kubeflow-userid": sent.decode("latin-1"), **SECRET}, None) == who
    assert proxy_user(config, {"kubeflow-userid": who, **SECRET}, None) == who


def test_an_oidc_account_needs_a_verified_address_or_a_name():
    assert oidc_user({"email": "ann@x", "email_verified": True, "sub": "1"}) == "ann@x"
    assert oidc_user({"sub": "1"}) == "1"
    for unverified in (False, "false"):
        with pytest.raises(NotAllowed, match="ann@x is not verified"):
            oidc_user({"email": "ann@x", "email_verified": unverified})
    with pytest.raises(NotAllowed, match="neither an address nor an account name"):
        oidc_user({})


def test_the_development_user_sits_at_this_machine(monkeypatch):
    assert [is_local(peer) for peer in (None, "127.0.0.1", "::1", "10.0.0.1", "x")] == [True, True, True, False, False]
    assert identity.dev_user({"POSEWATCH_USER": "ann"}) == "ann"


def test_the_first_admins(sqlite_store):
    config = IdentityConfig("proxy", secret="s", admins=("boss@x",))
    identity.grant_first_roles(sqlite_store, config, "ann@x")
    identity.grant_first_roles(sqlite_store, config, "boss@x")
    assert roles.all_roles(sqlite_store) == {"boss@x": "admin"}
    roles.set_role(sqlite_store, "boss@x", "labeler", "operator")
    identity.grant_first_roles(sqlite_store, config, "boss@x")
    assert roles.role_of(sqlite_store, "boss@x") == "labeler", "what an operator changed stays"
    identity.grant_first_roles(sqlite_store, IdentityConfig("dev"), "eve")
    assert roles.role_of(sqlite_store, "eve") == "none", "only the first user of a fresh store is its admin"
