"""A physical fall: the figure's skeleton is let go in mid-motion, with weak muscles, and the physics does the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from posewatch.footage.figure import FILE_SCALE
from posewatch.footage.motion import JOINTS, OFFSETS, POSE_SIZE, RATE, Poses

_STEPS = 8  # physics steps per pose: 240 a second, what the engine is tuned for
_MUSCLES = {"chest": 30.0, "neck": 8.0, "hip": 22.0, "knee": 9.0, "ankle": 4.0, "shoulder": 8.0, "elbow": 4.0}
"""Torque (N m) with which a joint still holds: enough for a body to fold like one, too little to stay upright."""


def joint_numbers(p: Any, client: int, body: int) -> dict[str, int]:
    """The engine's number of every joint (and of the link that it moves) by name."""
    count = p.getNumJoints(body, physicsClientId=client)
    return {p.getJointInfo(body, i, physicsClientId=client)[1].decode(): i for i in range(count)}


def set_pose(p: Any, client: int, body: int, numbers: dict[str, int], pose: Poses, height: float) -> None:
    """Put the figure ``body`` into one ``pose`` (43,); the path over the floor is not scaled, the root's height is."""
    place = [pose[0], pose[1] * height, pose[2]]
    p.resetBasePositionAndOrientation(body, place, pose[3:7], physicsClientId=client)
    for name, size in JOINTS:
        at = OFFSETS[name]
        if size == 4:
            p.resetJointStateMultiDof(body, numbers[name], pose[at : at + 4], physicsClientId=client)
        else:
            p.resetJointState(body, numbers[name], pose[at], physicsClientId=client)


def _loosen(p: Any, client: int, body: int, numbers: dict[str, int], pose: Poses) -> None:
    for name, size in JOINTS:
        force = next(f for part, f in _MUSCLES.items() if name.endswith(part))
        at = OFFSETS[name]
        if size == 4:
            # the muscles pull towards half the present bend, so that nobody lies there in mid-stride
            target = 0.5 * pose[at : at + 4] + np.array([0, 0, 0, 0.5 if pose[at + 3] >= 0 else -0.5])
            p.setJointMotorControlMultiDof(
                body, numbers[name], p.POSITION_CONTROL, targetPosition=target / np.linalg.norm(target),
                targetVelocity=[0, 0, 0], positionGain=0.1, velocityGain=1.0, force=[force] * 3, physicsClientId=client,
            )  # fmt: skip
        else:
            p.setJointMotorControl2(
                body, numbers[name], p.POSITION_CONTROL, targetPosition=0.5 * pose[at], targetVelocity=0,
                positionGain=0.1, velocityGain=1.0, force=force, physicsClientId=client,
            )  # fmt: skip


def fall(urdf: Path, height: float, before: Poses, steps: int, push: tuple[float, float]) -> Poses:
    """Poses (steps, 43) at ``RATE`` of a fall that begins with the last pose of ``before`` (N >= 2, 43) and its speed.

    ``push`` is a horizontal change of speed (x, z; metres per second) given to the trunk while the feet stay behind.
    """
    import pybullet as p

    client = p.connect(p.DIRECT)
    try:
        p.setGravity(0, -9.81, 0, physicsClientId=client)
        p.setPhysicsEngineParameter(fixedTimeStep=1 / (RATE * _STEPS), deterministicOverlappingPairs=1, physicsClientId=client)
        ground = p.createCollisionShape(p.GEOM_BOX, halfExtents=[20, 0.5, 20], physicsClientId=client)
        floor = p.createMultiBody(0, ground, -1, [0, -0.5, 0], physicsClientId=client)
        p.changeDynamics(floor, -1, lateralFriction=0.9, physicsClientId=client)
        body = p.loadURDF(
            str(urdf), [0, 1, 0], globalScaling=height / FILE_SCALE, useFixedBase=False,
            flags=p.URDF_MAINTAIN_LINK_ORDER | p.URDF_USE_SELF_COLLISION_EXCLUDE_PARENT, physicsClientId=client,
        )  # fmt: skip
        numbers = joint_numbers(p, client, body)
        pose = before[-1]
        set_pose(p, client, body, numbers, pose, height)
        for link in range(-1, len(numbers)):
            p.changeDynamics(
                body, link, lateralFriction=0.8, linearDamping=0.1, angularDamping=0.25, jointDamping=0.6,
                restitution=0.0, physicsClientId=client,
            )  # fmt: skip
        speed = (before[-1, :3] - before[-2, :3]) * RATE
        p.resetBaseVelocity(body, [speed[0] + 0.5 * push[0], 0, speed[2] + 0.5 * push[1]], [0, 0, 0], physicsClientId=client)
        _loosen(p, client, body, numbers, pose)
        out = np.empty((steps, POSE_SIZE))
        for i in range(steps):
            if i < 6:  # a shove of 0.2 s, in newtons: mass of the trunk (22 kg) times the change of speed
                for _ in range(_STEPS):
                    force = [22 * push[0] / 0.2, 0, 22 * push[1] / 0.2]
                    at = p.getLinkState(body, numbers["chest"], physicsClientId=client)[0]
                    p.applyExternalForce(body, numbers["chest"], force, at, p.WORLD_FRAME, physicsClientId=client)
                    p.stepSimulation(physicsClientId=client)
            else:
                for _ in range(_STEPS):
                    p.stepSimulation(physicsClientId=client)
            place, turn = p.getBasePositionAndOrientation(body, physicsClientId=client)
            out[i, :3], out[i, 3:7] = place, turn
            out[i, 1] /= height
            for name, size in JOINTS:
                at = OFFSETS[name]
                if size == 4:
                    state = p.getJointStateMultiDof(body, numbers[name], physicsClientId=client)[0]
                else:
                    state = p.getJointState(body, numbers[name], physicsClientId=client)[0]
                out[i, at : at + size] = state
        return out
    finally:
        p.disconnect(physicsClientId=client)
