"""Brings a published version into service step by step: it is tested where it runs before it gets any traffic.

A new version first runs beside the one that serves, as a canary with 0 % of the traffic (``spec.canary`` of KServe's
Standard mode). There it must load and answer the held-out clips as its export does. Only then it gets traffic: a part
(``percent``, until ``promote``) or all. If it fails it is removed; the old version serves all the time.

Promoting changes the stable predictor while the canary still runs, and removes the canary last. Every step is a
server-side apply of the whole desired state, and each command first reads the state from the cluster: after a kill at
any point, the same command goes on from there. ``history`` records each act, before it where it may fail.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NoReturn

from posewatch.config import ServingConfig
from posewatch.deploy import history
from posewatch.deploy.gates import Gate
from posewatch.deploy.manifests import Endpoint
from posewatch.deploy.readiness import wait_ready
from posewatch.deploy.runtime import ensure_runtime
from posewatch.deploy.service import State, body, canary_name, canary_url, look, same
from posewatch.deploy.target import Release, SmokeTest
from posewatch.errors import InputError, PosewatchError, ServingError
from posewatch.kube.cluster import ClusterUnavailable, apply
from posewatch.progress import Progress
from posewatch.store import ObjectStore


@dataclass(frozen=True)
class Rollout:
    """One service on one cluster. With ``smoke`` None there is no smoke test; ``smoke_url`` (``http://host:port``) is
    tested instead of KServe's address, for a command that runs outside the cluster."""

    store: ObjectStore
    config: ServingConfig
    smoke: SmokeTest | None = None
    smoke_url: str = ""
    image: str = ""
    context: str | None = None
    force: bool = False
    progress: Progress | None = None

    def deploy(
        self, release: Release, gates: tuple[Gate, ...] = (), *, override: str = "", percent: int = 100
    ) -> Endpoint:
        """Serve ``release`` with ``percent`` of the traffic (1 to 100); the same call again changes nothing.

        ``gates`` and ``override`` are recorded; the caller has judged them. Raises InputError for a percentage out of
        range, ServingError when the version does not become ready or fails its test; the version before serves on then.
        """
        if not 1 <= percent <= 100:
            raise InputError(f"--canary-percent must be between 1 and 100, not {percent}")
        body(self.config, State(release, release))  # refuses what cannot be deployed before anything is recorded
        state = look(self.config, self.context)
        fresh = state.stable is None or same(state.stable, release)
        if state.stable is None and percent < 100 and self.progress is not None:
            self.progress.say(f"nothing serves {self.config.name} yet: {release.version} gets all of the traffic")
        if not fresh and state.canary and not same(state.canary, release) and state.traffic:
            raise InputError(
                f"version {state.canary.version} is a canary with {state.traffic} % of the traffic: promote or roll it"
                " back first"
            )
        self._admit(release, gates, override)
        runtime = ensure_runtime(self.config, image=self.image, context=self.context, progress=self.progress)
        target = dataclasses.replace(
            state,
            runtime=runtime,
            gpus=self.config.gpus,
            min_replicas=self.config.min_replicas,
            max_replicas=self.config.max_replicas,
            autoscaler=self.config.autoscaler,
        )
        if fresh:
            return self._stable(dataclasses.replace(target, stable=release, canary=None, traffic=0), release)
        # The serving version keeps its replicas and GPUs until the new one takes its place.
        beside = dataclasses.replace(state, canary=release, traffic=state.traffic if state.canary else 0)
        figures = self._try(beside, release)
        if percent == 100:
            return self._take_over(dataclasses.replace(target, canary=release, traffic=beside.traffic), figures)
        after = dataclasses.replace(beside, traffic=percent)
        self._apply(after)
        self._wait(canary_name(release.version))
        last = self._last(release)
        if last is None or (last.act, last.traffic) != ("canary", percent):
            self._record("canary", release, traffic=percent, smoke=figures)
        return self._endpoint(release, canary_url(self.config, after))

    def promote(self) -> Endpoint:
        """Give the canary all of the traffic. Raises InputError when there is none."""
        state = look(self.config, self.context)
        if state.canary is None:
            raise InputError(f"{self.config.namespace}/{self.config.name} has no canary: `posewatch deploy` makes one")
        if self._last(state.canary, "admitted") is None:
            raise ServingError(
                f"version {state.canary.version} was never judged by its gates: deploy it with `posewatch deploy`"
            )
        return self._take_over(state, self._try(state, state.canary))

    def rollback(self, to: str = "", *, reason: str = "") -> Endpoint:
        """Remove a canary; if there is none, serve the version ``to``, or else the one that served before.

        The old version is not judged again: it has served. Raises InputError if there is no such version.
        """
        state = look(self.config, self.context)
        if state.stable is None:
            raise InputError(f"nothing serves {self.config.namespace}/{self.config.name}: nothing to roll back")
        halfway = same(state.canary, state.stable)
        if state.canary is not None and not halfway and to in ("", state.stable.version):
            self._apply(dataclasses.replace(state, canary=None, traffic=0))
            url = self._wait()
            self._record("withdrawn", state.canary, reason=reason)
            return self._endpoint(state.stable, url)
        served = self._earlier(state, to)
        old = Release(served.version, served.uri, served.digest)
        previous = state.stable.version
        self._apply(dataclasses.replace(state, stable=old, canary=None, traffic=0))
        url = self._wait()
        why = reason or (f"from {previous}" if previous != old.version else "")
        try:
            figures = self._test(url, old)
        except PosewatchError as error:
            self._record("rolled-back", old, traffic=100, reason=f"{why}; its smoke test failed: {error}")
            raise
        self._record("rolled-back", old, traffic=100, smoke=figures, reason=why)
        return self._endpoint(old, url)

    def _earlier(self, state: State, to: str) -> history.Event:
        """The event to go back to. After a command was killed, the cluster is ahead of the history by one step."""
        assert state.stable is not None
        events, here = self._events(), state.stable.version
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

    # steps

    def _stable(self, want: State, release: Release) -> Endpoint:
        """Serve the first version of a service, or the one that serves already."""
        self._apply(want)
        try:
            url = self._wait()
            figures = self._test(url, release)
        except ClusterUnavailable:
            raise
        except PosewatchError as error:
            self._give_up(want, release, None, error)
        self._live(release, figures)
        return self._endpoint(release, url)

    def _give_up(self, state: State, release: Release, old: Release | None, error: Exception) -> NoReturn:
        """``release`` failed: serve ``old`` again. None: the cluster no longer has it, the history does."""
        last = history.last(self._events(), *history.SERVING)
        if old is None and last is not None and last.version != release.version:
            old = Release(last.version, last.uri, last.digest)
        if old is None:
            self._record("rejected", release, reason=str(error))
            raise ServingError(f"version {release.version} does not serve, and none did before it: {error}") from None
        self._apply(dataclasses.replace(state, stable=old, canary=None, traffic=0))
        self._record("rejected", release, reason=str(error))
        raise ServingError(
            f"version {release.version} was taken back, version {old.version} serves on: {error}"
        ) from None

    def _try(self, beside: State, release: Release) -> dict[str, Any]:
        """Run ``release`` as a canary and test it; remove it if it fails."""
        assert beside.stable is not None
        self._apply(beside)
        try:
            self._wait(canary_name(release.version))
            # Read again: KServe fills in the address late, and its port is that of a Service of this cluster.
            ready = dataclasses.replace(look(self.config, self.context), canary=release)
            return self._test(canary_url(self.config, ready), release)
        except ClusterUnavailable:
            raise
        except PosewatchError as error:
            self._give_up(beside, release, None if same(beside.stable, release) else beside.stable, error)

    def _take_over(self, state: State, figures: dict[str, Any]) -> Endpoint:
        """Give the canary's version all of the traffic; go back to the old one if it fails as the stable one."""
        assert state.canary is not None
        assert state.stable is not None
        release, old = state.canary, state.stable
        self._apply(dataclasses.replace(state, stable=release))
        try:
            url = self._wait()
            figures = self._test(url, release) or figures
        except ClusterUnavailable:
            raise
        except PosewatchError as error:
            self._give_up(state, release, None if same(old, release) else old, error)
        self._apply(dataclasses.replace(state, stable=release, canary=None, traffic=0))
        url = self._wait()
        self._live(release, figures)
        return self._endpoint(release, url)

    @property
    def _at(self) -> dict[str, Any]:
        return {"context": self.context, "namespace": self.config.namespace, "force": self.force}

    def _apply(self, want: State) -> None:
        apply([body(self.config, want)], **self._at)

    def _wait(self, canary: str = "") -> str:
        config = self.config
        return wait_ready(
            config.name, config.namespace, config.ready_timeout_s, self.progress, canary=canary, context=self.context
        )

    def _test(self, url: str, release: Release) -> dict[str, Any]:
        if self.smoke is None:
            return {}
        return self.smoke(self._endpoint(release, self.smoke_url or url).uri, release)

    def _endpoint(self, release: Release, url: str) -> Endpoint:
        config = self.config
        return Endpoint(config.name, config.namespace, config.name, release.version, url)

    # history

    def _admit(self, release: Release, gates: tuple[Gate, ...], override: str) -> None:
        judged = tuple(dataclasses.asdict(gate) for gate in gates)
        # Recorded only if a gate is missed: else there is nothing to override.
        why = override.strip() if any(not gate.passed for gate in gates) else ""
        last, admitted = self._last(release), self._last(release, "admitted")
        goes_on = last is not None and last.act in ("admitted", "canary", *history.SERVING)
        if not goes_on or admitted is None or (admitted.gates, admitted.override) != (judged, why):
            self._record("admitted", release, gates=judged, override=why)

    def _live(self, release: Release, figures: dict[str, Any]) -> None:
        last = history.last(self._events(), *history.SERVING)
        if last is None or (last.version, last.digest) != (release.version, release.digest):
            self._record("live", release, traffic=100, smoke=figures)

    def _events(self) -> list[history.Event]:
        return history.read(self.store, self.config.namespace, self.config.name)

    def _last(self, release: Release, *acts: str) -> history.Event | None:
        return history.last(self._events(), *acts, version=release.version, digest=release.digest)

    def _record(self, act: str, release: Release, **of: Any) -> None:
        if act in (*history.SERVING, "canary"):
            admitted = self._last(release, "admitted")
            of |= {} if admitted is None else {"gates": admitted.gates, "override": admitted.override}
        event = history.Event(act, release.version, release.digest, release.root, history.now(), history.user(), **of)
        history.record(self.store, self.config.namespace, self.config.name, event)
