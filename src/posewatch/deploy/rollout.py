"""Brings a published version into service step by step: it is tested where it runs before users meet it.

Each release is an InferenceService of its own (see ``manifests``). A new one starts beside the one that serves, behind
the canary Service. There it must say that it is this version and answer the held-out clips as its export does. Then it
gets traffic: a share (``percent``, until ``promote``), or all, when the stable Service is pointed at its pods. It is
live when the stable Service, over fresh connections, is answered by nothing else any more; only then the version before
is deleted. So nothing that serves is restarted, and until the last step the way back is one selector.

Every step states what should be, and each command first reads from the cluster what is: after a kill at any point, the
same command goes on from there. ``history`` records each act, before it where it may fail.
"""

from __future__ import annotations

import copy
import dataclasses
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from posewatch.artifact import get
from posewatch.config import ServingConfig
from posewatch.deploy import figures, history, proof, traffic
from posewatch.deploy.gates import Gate, require_unit_served
from posewatch.deploy.manifests import AUTOSCALER, Endpoint, inference_service, versioned
from posewatch.deploy.runtime import ensure_runtime
from posewatch.deploy.state import API, KIND, State, Version, look
from posewatch.deploy.target import Release, SmokeTest
from posewatch.errors import InputError, NotFound, PosewatchError, ServingError
from posewatch.kube.cluster import FIELD_MANAGER, Cluster, ClusterUnavailable
from posewatch.progress import Progress
from posewatch.store import ObjectStore


@dataclass(frozen=True)
class Rollout:
    """One service on one cluster. With ``smoke`` None there is no smoke test; ``smoke_url`` (``http://host:port``) is
    asked instead of the canary Service, for a command that runs outside the cluster."""

    store: ObjectStore
    config: ServingConfig
    smoke: SmokeTest | None = None
    smoke_url: str = ""
    image: str = ""
    context: str | None = None
    force: bool = False
    progress: Progress | None = None

    def __post_init__(self) -> None:
        address = self.smoke_url.rstrip("/")
        if address and not re.fullmatch(r"(http|grpc)://[^/\s]+:\d+", address):
            raise InputError(f"bad --smoke-url {self.smoke_url!r}: write http://127.0.0.1:8080, without a path")
        object.__setattr__(self, "smoke_url", address)

    def deploy(
        self, release: Release, gates: tuple[Gate, ...] = (), *, override: str = "", percent: int = 100
    ) -> Endpoint:
        """Serve ``release`` with ``percent`` of the traffic (1 to 100); the same call again changes nothing.

        ``gates`` and ``override`` are recorded; the caller has judged them. Raises ServingError when the version
        does not become ready or fails its test; the version before serves on then.
        """
        inference_service(self.config, release)  # refuses what cannot be deployed before anything is done
        with Cluster(self.context) as cluster:
            step, state = _Steps(self, cluster), look(cluster, self.config)
            if state.trial and state.percent and not state.trial.release.same(release):
                raise InputError(
                    f"version {state.trial.release.version} is a canary with {state.percent} % of the traffic: promote"
                    " or roll it back first"
                )
            other = self._unit_gate(release, state.stable, override)
            if other and percent < 100:
                raise InputError(
                    "a canary of another unit would be sent clips of this one: give it another serving.name, or all of"
                    " the traffic (--canary-percent 100)"
                )
            self._admit(release, (*gates, *other), override)
            runtime = ensure_runtime(self.config, image=self.image, context=self.context, progress=self.progress)
            body = inference_service(self.config, release, runtime)
            version = Version(body["metadata"]["name"], release, body)
            replaces = state.stable is not None and state.stable.name != version.name
            if replaces and percent < 100 and self.config.strategy == "recreate":
                raise InputError("serving.strategy=recreate runs one version at a time: it has no --canary-percent")
            if not replaces and percent < 100 and self.progress is not None:
                self.progress.say(f"nothing else serves {self.config.name}: {release.version} gets all of the traffic")
            if not replaces:
                return step.first(version, state)
            if self.config.strategy == "recreate":
                return step.recreate(version, state)
            tested = step.try_out(version, state)
            if percent == 100:
                return step.take_over(version, state, tested)
            return step.share(version, state, percent, tested)

    def promote(self) -> Endpoint:
        """Give the canary all of the traffic. Raises InputError when there is none."""
        with Cluster(self.context) as cluster:
            step, state = _Steps(self, cluster), look(cluster, self.config)
            if state.trial is None:
                here = f"{self.config.namespace}/{self.config.name}"
                raise InputError(f"{here} has no canary: `posewatch deploy --canary-percent N` makes one")
            if self._last(state.trial.release, "admitted") is None:
                version = state.trial.release.version
                raise ServingError(
                    f"version {version} was never judged by its gates: deploy it with `posewatch deploy`"
                )
            return step.take_over(state.trial, state, step.try_out(state.trial, state))

    def rollback(self, to: str = "", *, reason: str = "") -> Endpoint:
        """Remove a canary; if there is none, serve the version ``to``, or else the one that served before.

        The old version is not judged by its gates again: it has served. It takes over when it answers; until then the
        present one serves. Raises InputError if there is no such version.
        """
        with Cluster(self.context) as cluster:
            step, state = _Steps(self, cluster), look(cluster, self.config)
            if state.stable is None:
                here = f"{self.config.namespace}/{self.config.name}"
                raise InputError(f"nothing serves {here}: nothing to roll back")
            now = state.stable
            if state.trial and to in ("", now.release.version):
                step.withdraw(state)
                self._record("withdrawn", state.trial.release, reason=reason)
                return step.endpoint(now.release)
            served = self._earlier(now.release.version, to)
            old = Release(served.version, served.uri, served.digest)
            why = reason or (f"from {now.release.version}" if now.release.version != old.version else "")
            if now.release.version == old.version:
                # a rollback that was killed before it was recorded
                return step.take_over(now, state, {}, act="rolled-back", reason=why)
            version = step.as_now(old, now)
            units = self._unit(old), self._unit(now.release)
            if not to and None not in units and units[0] != units[1]:
                raise InputError(
                    f"version {old.version} before {now.release.version} is of the unit {units[0]}, clients now send"
                    f" clips of the unit {units[1]}: name it if they no longer do, --to {old.version}"
                )
            if self.config.strategy == "recreate":
                return step.recreate(version, state, act="rolled-back", reason=why)
            return step.take_over(version, state, step.try_out(version, state), act="rolled-back", reason=why)

    def _earlier(self, here: str, to: str) -> history.Event:
        """The event to go back to. After a command was killed, the cluster is ahead of the history by one step."""
        events = self._events()
        if to:
            event = history.last(events, *history.SERVING, version=to)
        else:
            last = history.last(events, *history.SERVING)
            event = history.before(events, last.version) if last else None
            # A promotion that was not finished is undone; a rollback that was not finished is finished.
            if last is not None and here != last.version and (event is None or event.version != here):
                event = last
        if event is None:
            known = sorted({e.version for e in events if e.act in history.SERVING} - {here})
            raise InputError(
                f"there is no {'version ' + to if to else 'earlier version'} to go back to (have served:"
                f" {', '.join(known) or 'none but ' + here}; --to names one)"
            )
        return event

    def _unit_gate(self, release: Release, stable: Version | None, override: str) -> tuple[Gate, ...]:
        """See ``require_unit_served``; no gate where nothing serves, or what serves is not in this store."""
        served = self._unit(stable.release) if stable is not None else None
        new = self._unit(release)
        if new is None or served is None:
            return ()
        return require_unit_served(new, served, self.config.name, override)

    def _unit(self, release: Release) -> str | None:
        """The unit of a version; None if it is not in this store."""
        try:
            return proof.unit_published(self._config_text(release))
        except NotFound:
            return None

    def _config_text(self, release: Release) -> str:
        """The ``config.pbtxt`` of a published version."""
        return get(self.store, release.uri).read(f"{self.config.name}/config.pbtxt").decode()

    def _admit(self, release: Release, gates: tuple[Gate, ...], override: str) -> None:
        judged = tuple(dataclasses.asdict(gate) for gate in gates)
        # Recorded only if a gate is missed: else there is nothing to override.
        why = override.strip() if any(not gate.passed for gate in gates) else ""
        last, admitted = self._last(release), self._last(release, "admitted")
        goes_on = last is not None and last.act in ("admitted", "canary", *history.SERVING)
        if not goes_on or admitted is None or (admitted.gates, admitted.override) != (judged, why):
            self._record("admitted", release, gates=judged, override=why)

    def _events(self) -> list[history.Event]:
        return history.read(self.store, self.config.namespace, self.config.name)

    def _last(self, release: Release, *acts: str) -> history.Event | None:
        return history.last(self._events(), *acts, version=release.version, digest=release.digest)

    def _watched(self) -> dict[str, dict[str, float]]:
        """What cameras saw since the canary that ends now began; {} if there was none. It holds up no rollout."""
        last = history.last(self._events(), "canary", *history.SERVING)
        if last is None or last.act != "canary":
            return {}
        began = datetime.fromisoformat(last.when)
        try:
            hours = (datetime.now(UTC) - began).total_seconds() / 3600
            return figures.rows(figures.watched(self.config, hours))
        except ServingError as error:
            if self.progress is not None:
                self.progress.say(str(error))
            return {}

    def _record(self, act: str, release: Release, **of: Any) -> None:
        if act in (*history.SERVING, "canary"):
            admitted = self._last(release, "admitted")
            of |= {} if admitted is None else {"gates": admitted.gates, "override": admitted.override}
        if act in ("live", "rolled-back", "withdrawn"):
            of |= {"watched": self._watched()}
        event = history.Event(act, release.version, release.digest, release.root, history.now(), history.user(), **of)
        history.record(self.store, self.config.namespace, self.config.name, event)


@dataclass(frozen=True)
class _Steps:
    """The steps of a rollout on an open connection to the cluster."""

    rollout: Rollout
    cluster: Cluster

    def first(self, version: Version, state: State) -> Endpoint:
        """Serve the first version of a service, or the one that serves already."""
        served = self._serves(version)
        self._apply(dict(version.body), *self._services(version, version), *self._shares(version, None, 0))
        with self._or_back(version, version if served and state.stable is not None else None):
            tested = self._prove(version, self._stable)
        return self.serve(version, state, tested)

    def try_out(self, version: Version, state: State) -> dict[str, Any]:
        """Start ``version`` behind the canary Service, prove and test it; remove it if it fails."""
        assert state.stable is not None
        if state.trial is None or state.trial.name != version.name:
            # first the share, then the Service: users meet no version that was not tested
            self._apply(*self._shares(state.stable, None, 0))
        self._apply(dict(version.body), *self._services(state.stable, version))
        with self._or_back(version, state.stable):
            return self._prove(version, self._canary)

    def share(self, version: Version, state: State, percent: int, tested: dict[str, Any]) -> Endpoint:
        """Give a tested version ``percent`` of the traffic."""
        assert state.stable is not None
        self._apply(*self._shares(state.stable, version, percent))
        last = self.rollout._last(version.release)
        if last is None or (last.act, last.traffic) != ("canary", percent):
            self.rollout._record("canary", version.release, traffic=percent, smoke=tested)
        return traffic.endpoint(self._config, traffic.canary_name(self._config), version.release)

    def take_over(
        self, version: Version, state: State, tested: dict[str, Any], *, act: str = "live", reason: str = ""
    ) -> Endpoint:
        """Point the stable Service at a tested version, and back if another one goes on answering there."""
        assert state.stable is not None
        self._apply(*self._services(version, version))
        with self._or_back(version, state.stable):
            self._wait_answers(version, self._stable)
        return self.serve(version, state, tested, act=act, reason=reason)

    def recreate(self, version: Version, state: State, *, act: str = "live", reason: str = "") -> Endpoint:
        """Stop the version that serves, then start the new one in its place; start the old one again if it fails."""
        old, began = state.stable, time.monotonic()
        assert old is not None
        if old.name not in [v.name for v in state.versions]:
            old = None
        self._remove(state, keep=version.name)
        self._apply(dict(version.body), *self._services(version, version), *self._shares(version, None, 0))
        with self._or_back(version, old):
            tested = self._prove(version, self._stable)
        gap = f"nothing served for {time.monotonic() - began:.0f} s"
        return self.serve(version, state, tested, act=act, reason=f"{reason}; {gap}" if reason else gap)

    def serve(
        self, version: Version, state: State, tested: dict[str, Any], *, act: str = "live", reason: str = ""
    ) -> Endpoint:
        """``version`` is what the stable Service answers with: end its trial, record it, delete the other versions."""
        self._apply(*self._services(version, version), *self._shares(version, None, 0))
        if not self._serves(version):
            self.rollout._record(act, version.release, traffic=100, smoke=tested, reason=reason)
        self._remove(state, keep=version.name)
        return self.endpoint(version.release)

    def _serves(self, version: Version) -> bool:
        """Whether the history says that it serves."""
        last = history.last(self.rollout._events(), *history.SERVING)
        return last is not None and (last.version, last.digest) == (version.release.version, version.release.digest)

    def withdraw(self, state: State) -> None:
        """Take the version on trial out of the traffic and delete it."""
        assert state.stable is not None
        self._apply(*self._shares(state.stable, None, 0), *self._services(state.stable, state.stable))
        self._remove(state, keep=state.stable.name)

    def as_now(self, release: Release, now: Version) -> Version:
        """``release`` with the GPUs, replicas and account of the version that serves."""
        spec = copy.deepcopy(now.body["spec"]["predictor"])
        autoscaler = (now.body["metadata"].get("annotations") or {}).get(AUTOSCALER, "")
        body = versioned(self._config, release, spec, autoscaler, now.name)
        return Version(body["metadata"]["name"], release, body)

    def endpoint(self, release: Release) -> Endpoint:
        return traffic.endpoint(self._config, traffic.stable_name(self._config), release)

    @contextmanager
    def _or_back(self, version: Version, old: Version | None) -> Iterator[None]:
        """Inside, a failure of ``version`` is its end, see ``_give_up``; one of the API server is not."""
        try:
            yield
        except ClusterUnavailable:
            raise
        except PosewatchError as error:
            self._give_up(version, old, error)

    def _give_up(self, version: Version, old: Version | None, error: Exception) -> NoReturn:
        """``version`` failed: serve ``old`` again. None: the cluster no longer has it, the history may."""
        release = version.release
        if old is not None and old.name == version.name:
            raise error
        if old is None:
            last = history.last(self.rollout._events(), *history.SERVING)
            if last is not None and last.version != release.version:
                old = self.as_now(Release(last.version, last.uri, last.digest), version)
        if old is None:
            self._delete(version)
            self.rollout._record("rejected", release, reason=str(error))
            raise ServingError(f"version {release.version} does not serve, and none did before it: {error}") from None
        if old.name not in [v.name for v in look(self.cluster, self._config).versions]:
            self._apply(_clean(old.body))
        self._apply(*self._shares(old, None, 0), *self._services(old, old))
        self._remove(look(self.cluster, self._config), keep=old.name)
        self.rollout._record("rejected", release, reason=str(error))
        raise ServingError(
            f"version {release.version} was taken back, version {old.release.version} serves on: {error}"
        ) from None

    # proofs

    def _prove(self, version: Version, service: str) -> dict[str, Any]:
        """Wait for the pods of ``version``, and until ``service`` answers as this version; the smoke test's figures."""
        config, rollout = self._config, self.rollout
        proof.wait_loaded(self.cluster, version, config.namespace, config.ready_timeout_s, rollout.progress)
        self._wait_answers(version, service)
        if rollout.smoke is None:
            return {}
        address = rollout.smoke_url or proof.addresses(service, config.namespace)[0]
        return rollout.smoke(f"{address}/{config.name}", version.release)

    def _wait_answers(self, version: Version, service: str) -> None:
        config, rollout = self._config, self.rollout
        where = proof.addresses(service, config.namespace)
        if not proof.reachable(where[0]):
            if not rollout.smoke_url:
                raise ServingError(
                    f"cannot ask {where[0]}: run this inside the cluster (a pipeline does), or forward a port of"
                    f" Service {version.name}-predictor and name it with --smoke-url http://127.0.0.1:8080"
                )
            where = (rollout.smoke_url,)
        release = version.release
        expected = proof.identity(rollout._config_text(release))
        proof.wait_answers(where, config.name, release.version, expected, config.ready_timeout_s, rollout.progress)

    # objects

    @property
    def _config(self) -> ServingConfig:
        return self.rollout.config

    @property
    def _stable(self) -> str:
        return traffic.stable_name(self._config)

    @property
    def _canary(self) -> str:
        return traffic.canary_name(self._config)

    def _services(self, stable: Version, canary: Version) -> tuple[dict[str, Any], ...]:
        selected = ((self._stable, stable.name), (self._canary, canary.name))
        return tuple(traffic.service(self._config, name, version) for name, version in selected)

    def _shares(self, stable: Version, canary: Version | None, percent: int) -> tuple[dict[str, Any], ...]:
        release = canary.release if canary else None
        routing = traffic.routing_file(self._config, stable.release, release, percent)
        return (routing, *traffic.gateway_routes(self._config, percent))

    def _apply(self, *bodies: dict[str, Any]) -> None:
        for body in bodies:
            self.cluster.apply(body, self._config.namespace, FIELD_MANAGER, force=self.rollout.force)

    def _remove(self, state: State, keep: str) -> None:
        """Delete every version but one. One that a former posewatch deployed has an address of its own: see below."""
        for version in state.versions:
            if version.name == keep:
                continue
            if version.former and self.rollout.config.strategy != "recreate":
                if self.rollout.progress is not None:
                    self.rollout.progress.say(
                        f"InferenceService {version.name} of an earlier posewatch still runs, for clients of its"
                        f" address {version.name}-predictor: lead them to {self._stable}, then delete it with kubectl"
                    )
                continue
            self._delete(version)

    def _delete(self, version: Version) -> None:
        self.cluster.delete(API, KIND, version.name, self._config.namespace)


def _clean(body: Any) -> dict[str, Any]:
    """An object as it was applied, from what the cluster reports of it."""
    meta = {k: v for k, v in body["metadata"].items() if k in ("name", "namespace", "labels", "annotations")}
    return {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": meta, "spec": body["spec"]}
