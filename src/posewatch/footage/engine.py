"""pybullet without its output: a headless client, figures that take a pose, and ragdolls that fall."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.footage.figure import FILE_SCALE
from posewatch.footage.motion import JOINTS, OFFSETS, POSE_SIZE, RATE, Poses, data_folder
from posewatch.quiet import quiet

LINKS: dict[str, int] = {
    "root": 0, "chest": 1, "neck": 2, "right_hip": 3, "right_knee": 4, "right_ankle": 5, "right_shoulder": 6,
    "right_elbow": 7, "right_wrist": 8, "left_hip": 9, "left_knee": 10, "left_ankle": 11, "left_shoulder": 12,
    "left_elbow": 13, "left_wrist": 14,
}  # fmt: skip
"""Links of the humanoid by name, in the order of its file."""

_STEP = 1 / 240
# how hard each joint resists while falling (newton metres): enough to look like a body, too little to stand
_MUSCLE = {"chest": 60.0, "neck": 25.0, "hip": 14.0, "knee": 9.0, "ankle": 6.0, "shoulder": 8.0, "elbow": 5.0}


@contextlib.contextmanager
def world() -> Iterator[Any]:
    """A headless pybullet client of its own, with gravity down -y. Raises PosewatchError without pybullet."""
    data_folder()
    with quiet(1, 2):
        import pybullet
        from pybullet_utils.bullet_client import BulletClient

        client = BulletClient(connection_mode=pybullet.DIRECT)
        client.setGravity(0, -9.81, 0)
    try:
        yield client
    finally:
        with quiet(1, 2):
            client.disconnect()


class Figure:
    """One person in a world; poses are in the units of the unscaled body, places in metres of the room."""

    def __init__(self, client: Any, urdf: Path, height: float, *, fixed: bool = True) -> None:
        self._client, self.height = client, height
        flags = client.URDF_MAINTAIN_LINK_ORDER
        if not fixed:
            flags |= client.URDF_USE_SELF_COLLISION
        with quiet(1, 2):
            self.body: int = client.loadURDF(
                str(urdf), [0, 1, 0], globalScaling=height / FILE_SCALE, useFixedBase=fixed, flags=flags
            )

    def pose(self, row: NDArray[np.float64]) -> None:
        """Take the pose (43,); the height over the floor scales with the body, the place does not."""
        place = [row[0], row[1] * self.height, row[2]]
        self._client.resetBasePositionAndOrientation(self.body, place, row[3:7])
        for name, size in JOINTS:
            at = OFFSETS[name]
            if size == 4:
                self._client.resetJointStateMultiDof(self.body, LINKS[name], row[at : at + 4])
            else:
                self._client.resetJointState(self.body, LINKS[name], row[at])

    def read(self) -> NDArray[np.float64]:
        """The current pose (43,) of the body."""
        row = np.zeros(POSE_SIZE)
        place, turn = self._client.getBasePositionAndOrientation(self.body)
        row[:3], row[3:7] = place, turn
        row[1] /= self.height
        for name, size in JOINTS:
            state = self._client.getJointStateMultiDof(self.body, LINKS[name])[0]
            row[OFFSETS[name] : OFFSETS[name] + size] = state
        return row

    def frames(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Origins (15, 3) in metres and rotations (15, 3, 3) of the links."""
        states = self._client.getLinkStates(self.body, list(range(len(LINKS))), computeForwardKinematics=True)
        origins = np.array([s[4] for s in states])
        turns = np.array([self._client.getMatrixFromQuaternion(s[5]) for s in states]).reshape(-1, 3, 3)
        return origins, turns


def fall(urdf: Path, height: float, before: Poses, seconds: float, rng: np.random.Generator) -> Poses:
    """The simulated fall of a person who loses all strength after ``before`` (N >= 2, 43): a track at ``RATE``.

    The body keeps its speed and gets a push in a random direction; muscles only slow the joints.
    """
    with world() as client:
        floor = client.createCollisionShape(client.GEOM_BOX, halfExtents=[20, 0.5, 20])
        ground = client.createMultiBody(0, floor, -1, [0, -0.5, 0])
        client.changeDynamics(ground, -1, lateralFriction=0.9, restitution=0.0)
        figure = Figure(client, urdf, height, fixed=False)
        figure.pose(before[-1])
        body = figure.body
        for link in range(-1, len(LINKS)):
            client.changeDynamics(
                body, link, lateralFriction=0.8, linearDamping=0.05, angularDamping=0.4, restitution=0.0
            )
        for link in LINKS.values():
            for other in LINKS.values():  # neighbours overlap by design; only far limbs may push one another
                if link < other and (other - link <= 2 or min(link, other) <= 1):
                    client.setCollisionFilterPair(body, body, link, other, 0)
        speed = (before[-1, :3] - before[-2, :3]) * RATE
        angle = rng.uniform(0, 2 * np.pi)
        push = rng.uniform(0.6, 1.1) * np.array([np.cos(angle), 0.0, np.sin(angle)])
        velocity = np.clip(speed * [1, height, 1], -1.5, 1.5) + push
        # tipping over the feet: the trunk turns about the axis on the floor across the direction of the fall
        client.resetBaseVelocity(body, velocity, np.cross([0.0, 1.0, 0.0], velocity) * 0.9)
        _slacken(client, body, before[-1])
        rows = []
        for _ in range(max(1, round(seconds * RATE))):
            for _ in range(round(1 / RATE / _STEP)):
                client.stepSimulation()
            rows.append(figure.read())
    return np.array(rows)


def _slacken(client: Any, body: int, start: NDArray[np.float64]) -> None:
    for name, size in JOINTS:
        strength = next(v for k, v in _MUSCLE.items() if name.endswith(k))
        at, mode = OFFSETS[name], client.POSITION_CONTROL
        if size == 4:
            client.setJointMotorControlMultiDof(
                body, LINKS[name], mode, targetPosition=[0, 0, 0, 1], positionGain=0.03, velocityGain=1.0,
                force=[strength] * 3,
            )  # fmt: skip
        else:
            client.setJointMotorControl2(
                body, LINKS[name], mode, targetPosition=float(start[at]) * 0.5, positionGain=0.03, velocityGain=1.0,
                force=strength,
            )  # fmt: skip
