"""A container's CPU limit counts, not the machine's processors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from posewatch import cores

ALL = len(os.sched_getaffinity(0))
GROUPS = {  # what /proc/self/cgroup says, files below /sys/fs/cgroup -> processors
    "a pod of 1500m": ("0::/", {"cpu.max": "150000 100000"}, 1),
    "a pod of 500m": ("0::/", {"cpu.max": "50000 100000"}, 1),
    "no limit": ("0::/", {"cpu.max": "max 100000"}, ALL),
    "more than there is": ("0::/", {"cpu.max": "99900000 100000"}, ALL),
    "a service below a slice with a quota": (
        "0::/jobs.slice/train.service",
        {"jobs.slice/cpu.max": "100000 100000", "jobs.slice/train.service/cpu.max": "max 100000"},
        1,
    ),
    "version 1, the path of the host": (
        "12:memory:/kubepods/pod1/c1\n4:cpu,cpuacct:/kubepods/pod1/c1\n0::/",
        {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"},
        1,
    ),
    "version 1, no limit": ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, ALL),
    "cpuset and cpuacct have none": ("3:cpuset:/\n2:cpuacct:/", {"cpu.max": "100000 100000"}, ALL),
}


@pytest.mark.parametrize("case", GROUPS)
def test_quotas_are_read_where_the_kernel_shows_them(case: str, tmp_path: Path) -> None:
    membership, files, expected = GROUPS[case]
    for name, text in ({"proc/self/cgroup": membership} | {f"sys/fs/cgroup/{k}": v for k, v in files.items()}).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert cores.usable(tmp_path) == expected


def test_a_system_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert cores.usable(tmp_path) == ALL


@pytest.fixture
def one_processor() -> Iterator[Path]:
    """A real control group with a quota of one processor, as a container with that limit is in."""
    mount = Path("/sys/fs/cgroup")
    old = (mount / "cpu/cpu.cfs_quota_us").exists()
    group = mount / ("cpu" if old else "") / f"posewatch-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here ({error.strerror})")
    try:
        try:
            (group / ("cpu.cfs_quota_us" if old else "cpu.max")).write_text("100000" if old else "100000 100000")
        except OSError as error:
            pytest.skip(f"no quota can be set here ({error.strerror})")
        yield group
    finally:
        group.rmdir()


@pytest.mark.skipif(ALL < 2, reason="needs two processors")
def test_workers_and_threads_follow_a_real_quota(one_processor: Path) -> None:
    code = (
        "from posewatch.boundary import begin; begin();"
        "import torch; from posewatch.stages.per_video import workers; print(workers(), torch.get_num_threads())"
    )
    into = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(one_processor)]
    left = {k: v for k, v in os.environ.items() if k not in ("POSEWATCH_WORKERS", "OMP_NUM_THREADS")}
    for group, expected in ((into, "1 1"), ([], f"{ALL} ")):
        done = subprocess.run([*group, sys.executable, "-c", code], env=left, capture_output=True, text=True)
        assert done.stdout.startswith(expected), done.stderr


WAITS = """
import os, sys
from posewatch.cli import main
try:
    main.app(sys.argv[1:], standalone_mode=False)
except BaseException as error:
    print(type(error).__name__)
print(os.environ.get("OMP_WAIT_POLICY"))
"""


@pytest.mark.parametrize(
    "words",
    [
        "predict no.pt no.pkl",
        "watch no.mp4 --model no.pt --out {out}",
        "watch-service --config no.yaml",
        "train --annotations no.pkl --out {out}",
    ],
)
@pytest.mark.parametrize(("given", "wanted"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_verbs_that_compute_let_waiting_threads_sleep(
    words: str, given: dict[str, str], wanted: str, tmp_path: Path
) -> None:
    """Threads that spin take most of the processor's time from whatever runs beside them."""
    env = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"} | given
    command = [sys.executable, "-c", WAITS, *words.format(out=tmp_path / "out").split()]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=300)
    assert done.stdout.split()[-1] == wanted, done.stderr
    assert "no such file" in done.stderr.lower(), "the verb ran"
