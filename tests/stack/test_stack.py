"""The embedded stack with the real servers: up, status, repair, down, and nothing left behind."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from minio import Minio
from support import heeds_ctrl_c, stop_and_wait

from posewatch import stack
from posewatch.errors import StackError
from posewatch.stack import triton
from posewatch.stack.process import PortInUse, Process, pick_ports, wait_until


def _minio(info: stack.StackInfo) -> Minio:
    env = stack.env(info)
    return Minio(
        env["POSEWATCH_S3_ENDPOINT"].removeprefix("http://"),
        access_key=env["POSEWATCH_S3_ACCESS_KEY"],
        secret_key=env["POSEWATCH_S3_SECRET_KEY"],
        secure=False,
    )


def _put(info: stack.StackInfo, key: str) -> None:
    _minio(info).put_object("posewatch", key, io.BytesIO(b"data"), 4)


def _get(info: stack.StackInfo, key: str) -> bytes:
    answer = _minio(info).get_object("posewatch", key)
    try:
        return answer.read()
    finally:
        answer.close()
        answer.release_conn()


def _pid(home: Path, name: str) -> int:
    return next(s.pid for s in stack.status(home).servers if s.name == name)


def _all_up(home: Path) -> bool:
    """On a busy machine a server does not always answer within the seconds that ``status`` waits."""
    return wait_until(lambda: all(s.state == "up" for s in stack.status(home).servers), 60)


def test_up_again_changes_nothing(home: Path) -> None:
    info = stack.current(home)
    assert info is not None
    pids = [s.pid for s in stack.status(home).servers]
    assert stack.up(home) == info
    assert [s.pid for s in stack.status(home).servers] == pids
    assert _all_up(home)
    assert info.secret_key not in repr(info)
    assert info.secret_key not in str(stack.status(home))


def test_only_the_owner_reads_the_credentials(home: Path) -> None:
    assert (home / "credentials.json").stat().st_mode & 0o777 == 0o600


def test_servers_listen_on_loopback_only(home: Path, listening) -> None:
    info = stack.current(home)
    ports = [*info.triton_ports, *info.s3_ports, *(p + 10000 for p in info.s3_ports)]
    # some open after the first answers; and the kernel's table may miss a line while it changes
    assert wait_until(lambda: set(ports) <= set(listening()), 60)
    addresses = {port: {a for table in (listening(), listening()) for a in table.get(port, ())} for port in ports}
    for port in ports:
        assert addresses[port] <= {"127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1"}, port


def test_the_s3_server_has_no_fixed_memory_limit(home: Path) -> None:
    """At a limit below what it uses it collects garbage for ever. conftest.py has set one for all."""
    environment = Path(f"/proc/{_pid(home, 's3')}/environ").read_bytes().split(b"\0")
    assert b"GOGC=50" in environment
    assert not [entry for entry in environment if entry.startswith(b"GOMEMLIMIT=")]


def test_other_ports_while_up(home: Path) -> None:
    with pytest.raises(StackError, match="posewatch down"):
        stack.up(home, s3_port=stack.current(home).s3_port + 1)
    assert _all_up(home)


@pytest.mark.parametrize("name", ["s3", "triton"])
def test_a_killed_server_is_seen_and_repaired(home: Path, name: str) -> None:
    info = stack.current(home)
    _put(info, f"before/{name}")
    os.kill(_pid(home, name), signal.SIGKILL)

    def server() -> stack.ServerStatus:
        return next(s for s in stack.status(home).servers if s.name == name)

    # on a busy machine a killed process takes a moment to end
    assert wait_until(lambda: server().state == "dead", 60)
    assert "posewatch up" in str(server())
    assert stack.current(home) == info
    assert stack.up(home) == info
    assert _all_up(home)
    assert _get(info, f"before/{name}") == b"data"


def test_a_server_that_answers_late_is_not_started_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid, answers, late = _pid(home, "triton"), triton.answers, [False, False]
    monkeypatch.setattr(triton, "answers", lambda address: late.pop() if late else answers(address))
    stack.up(home)
    assert (_pid(home, "triton"), late) == (pid, [])


def test_a_server_that_hangs_is_seen(home: Path) -> None:
    pid = _pid(home, "triton")
    stop_and_wait(pid)
    assert wait_until(lambda: [s.state for s in stack.status(home).servers] == ["up", "not answering"], 60)
    os.kill(pid, signal.SIGCONT)
    assert _all_up(home)


def test_down_leaves_nothing_and_up_keeps_the_data(tmp_path: Path, listening) -> None:
    info = stack.up(tmp_path)
    _put(info, "a/b")
    pids = [s.pid for s in stack.status(tmp_path).servers]
    stack.down(tmp_path)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not {*info.s3_ports, *info.triton_ports} & set(listening())
    assert not list(Path("/dev/shm").glob(f"posewatch_{info.triton_ports[0]}_*"))
    assert not list(Path("/tmp").glob(f"seaweedfs-*{info.s3_port}.sock"))
    assert [s.state for s in stack.status(tmp_path).servers] == ["down", "down"]
    assert stack.current(tmp_path) is None
    stack.down(tmp_path)
    try:
        again = stack.up(tmp_path)
        assert (again.access_key, again.secret_key) == (info.access_key, info.secret_key)
        assert _get(again, "a/b") == b"data"
    finally:
        stack.down(tmp_path)


def test_status_and_down_of_nothing(tmp_path: Path) -> None:
    assert {server.state for server in stack.status(tmp_path / "none").servers} == {"down"}
    stack.down(tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("shift", [0, 10000])
def test_s3_port_taken(tmp_path: Path, shift: int) -> None:
    (port,) = pick_ports(1, os.getpid() + shift, twin=True)
    with (
        socket.create_server(("127.0.0.1", port + shift)),
        pytest.raises(StackError, match=rf"port {port + shift} is taken.*choose another"),
    ):
        stack.up(tmp_path, s3_port=port)
    assert stack.current(tmp_path) is None


def test_triton_port_taken_stops_s3_again(tmp_path: Path) -> None:
    # not a port beside one that the system gave: its neighbours may be in use by outgoing connections
    other, port, third = pick_ports(3, os.getpid() + 20000)
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(StackError, match=rf"port {port} \(Triton gRPC\) is taken"),
    ):
        stack.up(tmp_path, triton_ports=(other, port, third))
    assert stack.current(tmp_path) is None
    assert json.loads((tmp_path / "stack.json").read_text())["processes"] == {}


def _fake(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_server_that_dies_at_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weed = _fake(tmp_path / "weed", "echo starting; echo 'F0101 fatal: the disk is on fire'; exit 1")
    monkeypatch.setattr("posewatch.stack.seaweed.find_weed", lambda: weed)
    with pytest.raises(StackError, match=r"S3 server died at its start: .*the disk is on fire \(log: .*s3\.log\)"):
        stack.up(tmp_path / "home")
    assert stack.current(tmp_path / "home") is None


@pytest.mark.parametrize(("given", "starts"), [(False, 3), (True, 1)])
def test_other_ports_are_tried_when_one_is_taken_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool, starts: int
) -> None:
    """A port that we chose ourselves is replaced; one that the user gave is not."""
    script = f"echo start >> {tmp_path}/starts; echo 'listen: bind: address already in use'; exit 1"
    weed = _fake(tmp_path / "weed", script)
    monkeypatch.setattr("posewatch.stack.seaweed.find_weed", lambda: weed)
    port = pick_ports(1, os.getpid() + 30000, twin=True)[0] if given else None
    with pytest.raises(PortInUse, match="address already in use"):
        stack.up(tmp_path / "home", s3_port=port)
    assert (tmp_path / "starts").read_text().count("start") == starts


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "s3").write_text("")
    with pytest.raises(StackError, match=r"cannot use .*s3"):
        stack.up(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match="POSEWATCH_HOME"):
        stack.up(tmp_path / "file")


_UP = """
import sys
from pathlib import Path
from posewatch import stack
from posewatch.stack import seaweed
seaweed.find_weed = lambda: sys.argv[2]
stack.up(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_half_way(tmp_path: Path, number: signal.Signals) -> None:
    weed = _fake(tmp_path / "weed", "exec sleep 300")
    home = tmp_path / "home"
    command = [sys.executable, "-c", _UP, str(home), weed]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=heeds_ctrl_c) as running:
        assert wait_until((home / "stack.json").exists, 60)
        process = Process(**json.loads((home / "stack.json").read_text())["processes"]["s3"])
        assert process.alive
        running.send_signal(number)
        assert running.wait(120) != 0
    assert not process.alive
    assert stack.current(home) is None


_RUNNING = """
import sys, time
from pathlib import Path
from posewatch import stack
with stack.running(Path(sys.argv[1])):
    print("up", flush=True)
    time.sleep(300)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_running_goes_down_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", _RUNNING, str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=heeds_ctrl_c
    ) as running:
        assert running.stdout.readline() == "up\n"
        pids = [s.pid for s in stack.status(tmp_path).servers]
        running.send_signal(number)
        assert running.wait(120) != 0
    # their new parent may take a moment to reap them
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 60)


_PRIVATE = """
import os, signal, sys
from pathlib import Path
from posewatch.stack import TritonServer
server = TritonServer.start(Path(sys.argv[1]) / "models", log=Path(sys.argv[1]) / "log")
print(server.process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_private_triton_ends_with_its_owner(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PRIVATE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    assert wait_until(lambda: not Path(f"/proc/{pid}").exists(), 60)


def test_a_recycled_process_id_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        stranger = Process(other.pid, 1)
        assert not stranger.alive
        assert stranger.stop(signal.SIGKILL, 1)
        time.sleep(0.1)
        assert other.poll() is None
        other.kill()
