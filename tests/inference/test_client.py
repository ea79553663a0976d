"""Predictors against a real Triton: equal answers, and a clear word for everything that goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles import ConstantPredictor
from support import counted
from tiny_models import LABELS, SHAPE, slow_model, tiny_model
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from posewatch.errors import InputError, ServingError
from posewatch.inference import triton_admin, triton_shared
from posewatch.inference import triton_client as triton
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.inference.open import open_predictor
from posewatch.inference.pytorch import TorchPredictor
from posewatch.inference.triton import TritonPredictor
from posewatch.serving.repository import write_repository
from posewatch.stack import TritonServer
from posewatch.stack.process import wait_until

PROTOCOLS = ["grpc", "http"]


@pytest.fixture(scope="module")
def served(server: TritonServer, tiny: Path) -> Iterator[TritonServer]:
    """The model ``tiny``: batches of up to 16 after 20 ms."""
    write_repository(tiny, server.repository, name="tiny", queue_delay_us=20_000)
    triton_admin.load_model(server.grpc, "tiny")
    yield server
    triton_admin.unload_model(server.grpc, "tiny")


def _url(server: TritonServer, protocol: str) -> str:
    return server.http if protocol == "http" else server.grpc


@pytest.mark.parametrize("protocol", [*PROTOCOLS, "grpc+shm"])
@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_equal_to_onnx_runtime(served: TritonServer, tiny: Path, clips, protocol: str, count: int) -> None:
    wanted = OnnxPredictor(tiny).predict(clips[:count])
    with TritonPredictor(_url(served, protocol), "tiny", protocol) as predictor:
        got = predictor.predict(clips[:count])
        assert (predictor.people, predictor.frames, predictor.joints, predictor.max_batch) == (2, 6, 17, 16)
    assert got.labels == wanted.labels == tuple(LABELS)
    np.testing.assert_allclose(got.probabilities, wanted.probabilities, atol=1e-6)
    if count:
        np.testing.assert_allclose(got.embedding, wanted.embedding, atol=1e-6)


def test_how_strange_clips_are_to_a_model_that_tells_it(
    server: TritonServer, tiny: Path, clips, tmp_path: Path
) -> None:
    """A graph that skips absent persons is warmed up with random bytes as clips: no number may upset the server."""
    path = tiny_model(tmp_path / "model.onnx", novelty=True, absent="skipped")
    write_repository(path, server.repository, name="novel", model_warmup="powers")
    triton_admin.load_model(server.grpc, "novel")
    wanted = OnnxPredictor(path).predict(clips[:20])
    assert wanted.novelty is not None
    for protocol in PROTOCOLS:
        with TritonPredictor(_url(server, protocol), "novel", protocol) as predictor:
            got = predictor.predict(clips[:20]).novelty
        np.testing.assert_allclose(got, wanted.novelty, rtol=1e-5)
    assert OnnxPredictor(tiny).predict(clips[:2]).novelty is None
    triton_admin.unload_model(server.grpc, "novel")


def test_concurrent_requests_share_executions(served: TritonServer, tiny: Path, clips) -> None:
    wanted = OnnxPredictor(tiny).predict(clips).probabilities
    before = triton_admin.statistics(served.grpc, "tiny")
    with TritonPredictor(served.grpc, "tiny") as predictor, ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda i: predictor.predict(clips[i : i + 1]).probabilities[0], range(len(clips))))
    since = counted(served.grpc, "tiny", before, requests=len(clips), inferences=len(clips))
    assert since["executions"] < len(clips) / 2
    np.testing.assert_allclose(np.array(answers), wanted, atol=1e-6)  # each got its own answer, not a neighbour's


def _regions(server: TritonServer) -> dict[str, Any]:
    with InferenceServerClient(server.grpc) as client:
        return dict(client.get_system_shared_memory_status(as_json=True).get("regions", {}))


def _exist(regions: Iterable[str]) -> list[bool]:
    return [Path("/dev/shm", name).exists() for name in regions]


def test_clips_go_through_shared_memory_which_is_given_back(
    served: TritonServer, tiny: Path, clips, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = OnnxPredictor(tiny).predict(clips).probabilities
    with open_predictor(f"grpc+shm://{served.grpc}/tiny") as predictor, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: predictor.predict(clips[i : i + 1]).probabilities[0], range(len(clips))))
        np.testing.assert_allclose(np.array(answers), wanted, atol=1e-6)  # from its own memory, not a neighbour's
        regions = _regions(served)
        assert 1 <= len(regions) <= 8
        assert all(_exist(regions))
        with InferenceServerClient(served.grpc) as client:  # as a server that was started anew
            client.unregister_system_shared_memory()
        for _ in range(2):
            np.testing.assert_allclose(predictor.predict(clips[:3]).probabilities, wanted[:3], atol=1e-6)
        again = _regions(served)
        assert len(again) == 1
    assert not _regions(served)
    assert not any(_exist([*regions, *again]))
    assert not caplog.records


def test_memory_that_a_request_still_reads_is_given_back_later(served: TritonServer, tmp_path: Path, clips) -> None:
    """Triton forgets no such region; its caller may have gone long since."""
    write_repository(slow_model(tmp_path / "model.onnx", products=120), served.repository, name="slow", max_batch=1)
    triton_admin.load_model(served.grpc, "slow")
    with open_predictor(f"grpc+shm://{served.grpc}/slow") as predictor:
        for _ in range(2):
            with pytest.raises(ServingError, match="did not answer within"):
                predictor.predict(clips[:1], timeout_s=0.15)
        assert 1 <= len(left := _regions(served)) <= 2
        assert not any(_exist(left))  # no other call gets them
        for _ in range(3):
            predictor.predict(clips[:1])
        assert _exist(_regions(served)) == [True]
        with pytest.raises(ServingError, match="did not answer within"):
            predictor.predict(clips[:1], timeout_s=0.15)
    assert not _regions(served)
    triton_admin.unload_model(served.grpc, "slow")


KILLED = """
import os, signal, sys
from multiprocessing import resource_tracker
import numpy as np
from posewatch.inference.open import open_predictor

predictor = open_predictor(sys.argv[1])
predictor.predict(np.zeros((1, *predictor.shape), np.float32))
if sys.argv[2] == "all":  # else Python's own helper removes the memory, and the registration is left
    os.kill(resource_tracker._resource_tracker._pid, signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_memory_that_its_client_has_not_locked_yet_is_nobodys_to_give_up(tmp_path: Path) -> None:
    region = tmp_path / "posewatch-0"
    region.write_bytes(b"0")
    assert not triton_shared._abandoned(region)
    os.utime(region, (0, 0))
    assert triton_shared._abandoned(region)


@pytest.mark.parametrize("killed", ["all", "client"])
def test_what_a_killed_client_leaves_is_given_up_by_the_next(
    served: TritonServer, clips, killed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each would keep its memory until the server ends."""
    url = f"grpc+shm://{served.grpc}/tiny"
    with open_predictor(url) as other:
        other.predict(clips[:1])
        (busy,) = _regions(served)
        done = subprocess.run([sys.executable, "-c", KILLED, url, killed], capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        left = set(_regions(served)) - {busy}
        assert len(left) == 1
        assert wait_until(lambda: _exist(left) == [killed == "all"], 10)
        monkeypatch.setattr(triton_shared, "YOUNG_S", 0.0)
        with open_predictor(url) as predictor:
            predictor.predict(clips[:1])
            assert not left & set(_regions(served))
            assert not any(_exist(left))
            assert busy in _regions(served)
            assert _exist([busy]) == [True]
    assert not _regions(served)


def test_a_region_holds_what_is_put_into_it(served: TritonServer, tiny: Path, clips, monkeypatch) -> None:
    monkeypatch.setattr(triton_shared, "LEAST", 1)
    wanted = OnnxPredictor(tiny).predict(clips[:5]).probabilities
    with open_predictor(f"grpc+shm://{served.grpc}/tiny") as predictor:
        for count in (1, 5, 2, 5):
            np.testing.assert_allclose(predictor.predict(clips[:count]).probabilities, wanted[:count], atol=1e-6)
        assert len(_regions(served)) == 2, "the larger one is taken again"


def test_a_server_that_starts_again_shares_memory_as_before(
    served: TritonServer, clips, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object, **__: object) -> None:
        raise InferenceServerException("failed to connect", status="StatusCode.UNAVAILABLE")

    with open_predictor(f"grpc+shm://{served.grpc}/tiny", retries=0) as predictor:
        with monkeypatch.context() as patch:
            patch.setattr(InferenceServerClient, "register_system_shared_memory", away)
            with pytest.raises(ServingError, match="no answer"):
                predictor.predict(clips[:1])
        predictor.predict(clips[:1])
        assert len(_regions(served)) == 1
    assert not caplog.records


def test_a_server_that_cannot_read_the_memory_gets_clips_by_grpc(
    served: TritonServer, tiny: Path, clips, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere(SharedMemory):
        """Memory that the server does not see, as if it ran on another machine."""

        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            made.append(super().name)

        @property
        def name(self) -> str:
            return f"{super().name}-elsewhere"

        def unlink(self) -> None:
            SharedMemory(super().name).unlink()

    made: list[str] = []
    monkeypatch.setattr(triton_shared, "SharedMemory", Elsewhere)
    wanted = OnnxPredictor(tiny).predict(clips[:3]).probabilities
    with open_predictor(f"grpc+shm://{served.grpc}/tiny") as predictor:
        for _ in range(2):
            np.testing.assert_allclose(predictor.predict(clips[:3]).probabilities, wanted, atol=1e-6)
        assert len(made) == 1
        assert not any(_exist(made)), "what the server refuses is not kept"
    (line,) = caplog.messages
    assert line == f"Triton at {served.grpc} and this process share no memory: clips go by gRPC"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_server_refuses_a_wrong_shape(served: TritonServer, clips, protocol: str) -> None:
    connection = triton.connect(_url(served, protocol), protocol)
    with pytest.raises(ServingError, match=r"unexpected shape for input 'keypoints'.*Expected \[-1,2,6,17,3\]"):
        connection.infer("tiny", {"keypoints": clips[:2, :, :5]})
    connection.close()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((1, 2, 5, 17, 3), np.float32), r"\(N, 2, 6, 17, 3\), not \(1, 2, 5, 17, 3\)"),
        (np.zeros((2, 6, 17, 3), np.float32), r"not \(2, 6, 17, 3\)"),
        (np.zeros((1, *SHAPE), np.float64), "float32 keypoints, not float64"),
    ],
)
def test_a_wrong_shape_is_refused_before_it_is_sent(served: TritonServer, tiny: Path, bad, message: str) -> None:
    with TritonPredictor(served.grpc, "tiny") as predictor, pytest.raises(InputError, match=message):
        predictor.predict(bad)
    with pytest.raises(InputError, match=message):
        OnnxPredictor(tiny).predict(bad)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nan(served: TritonServer, clips, protocol: str) -> None:
    spoiled = clips[:2].copy()
    spoiled[0, 0, 0, 0, 0] = np.nan
    with (
        TritonPredictor(_url(served, protocol), "tiny", protocol) as predictor,
        pytest.raises(ServingError, match="NaN"),
    ):
        predictor.predict(spoiled)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_unknown_model(served: TritonServer, protocol: str) -> None:
    with pytest.raises(ServingError, match=r"serves no model 'nobody'; it serves: tiny"):
        TritonPredictor(_url(served, protocol), "nobody", protocol)
    with pytest.raises(ServingError, match="cannot load 'nobody'"):
        triton_admin.load_model(_url(served, protocol), "nobody", protocol)
    assert not triton_admin.model_ready(_url(served, protocol), "nobody", protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_server(protocol: str) -> None:
    with pytest.raises(ServingError, match=r"Triton at 127\.0\.0\.1:9: no answer \(is the server up"):
        TritonPredictor("127.0.0.1:9", "tiny", protocol, retries=1)


def test_bad_address() -> None:
    with pytest.raises(InputError, match="write host:port"):
        TritonPredictor("grpc://127.0.0.1:9", "tiny")
    with pytest.raises(InputError, match=r"use grpc, http, grpcs, https, grpc\+shm"):
        TritonPredictor("127.0.0.1:9", "tiny", "soap")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_queue_full_and_too_late(server: TritonServer, tiny: Path, clips, protocol: str) -> None:
    name = f"narrow_{protocol}"
    write_repository(
        tiny, server.repository, name=name, max_batch=4, queue_delay_us=3_000_000, instances=1, max_queue=1
    )
    triton_admin.load_model(server.grpc, name)
    url = _url(server, protocol)
    with TritonPredictor(url, name, protocol, retries=0) as predictor, ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(predictor.predict, clips[i : i + 1]) for i in range(6)]
        errors = [str(a.exception()) for a in asked if a.exception()]
        assert errors
        assert all("its queue is full" in e for e in errors), errors
        assert len(errors) < 6
    with (
        TritonPredictor(url, name, protocol, retries=0) as hasty,
        pytest.raises(ServingError, match=r"did not answer within 0\.3 s"),
    ):
        hasty.predict(clips[:1], timeout_s=0.3)
    triton_admin.unload_model(server.grpc, name)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_broken_model_names_its_reason(server: TritonServer, tiny: Path, protocol: str) -> None:
    folder = write_repository(tiny, server.repository, name="broken")
    (folder / "1/model.onnx").write_bytes(b"this is no model")
    with pytest.raises(ServingError, match=r"cannot load 'broken'.*not a model that ONNX Runtime can run") as caught:
        triton_admin.load_model(_url(server, protocol), "broken", protocol)
    assert "\n" not in str(caught.value)
    with pytest.raises(ServingError, match=r"serves no model 'broken'"):
        TritonPredictor(_url(server, protocol), "broken", protocol)


def test_a_failed_reload_keeps_the_old_version(server: TritonServer, tiny: Path, clips) -> None:
    folder = write_repository(tiny, server.repository, name="kept")
    triton_admin.load_model(server.grpc, "kept")
    (folder / "1/model.onnx").write_bytes(b"this is no model")
    with pytest.raises(ServingError, match="cannot load 'kept'"):
        triton_admin.load_model(server.grpc, "kept")
    with TritonPredictor(server.grpc, "kept") as predictor:
        assert len(predictor.predict(clips[:2]).probabilities) == 2
    triton_admin.unload_model(server.grpc, "kept")


def test_a_new_file_is_served_after_load(server: TritonServer, tiny: Path, clips, tmp_path: Path) -> None:
    other = tiny_model(tmp_path / "other.onnx", seed=5)
    for path in (tiny, other):
        write_repository(path, server.repository, name="renewed")
        triton_admin.load_model(server.grpc, "renewed")
        with TritonPredictor(server.grpc, "renewed") as predictor:
            got = predictor.predict(clips[:3]).probabilities
        np.testing.assert_allclose(got, OnnxPredictor(path).predict(clips[:3]).probabilities, atol=1e-6)
    triton_admin.unload_model(server.grpc, "renewed")


def _stubs(server: TritonServer) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == server.process.pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def test_a_killed_model_process_is_noticed_and_repaired(served: TritonServer, clips) -> None:
    stubs = _stubs(served)
    assert stubs
    for pid in stubs:
        os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not triton_admin.model_ready(served.grpc, "tiny"), 20)
    triton_admin.load_model(served.grpc, "tiny")
    assert triton_admin.model_ready(served.grpc, "tiny")
    with TritonPredictor(served.grpc, "tiny") as predictor:
        assert len(predictor.predict(clips[:2]).probabilities) == 2


def test_a_server_that_crashed_leaves_no_process(tiny: Path, tmp_path: Path) -> None:
    with TritonServer.start(tmp_path / "models", log=tmp_path / "triton.log") as mine:
        write_repository(tiny, mine.repository, name="tiny")
        triton_admin.load_model(mine.grpc, "tiny")
        stubs = _stubs(mine)
        assert stubs
        for pid in stubs:
            os.kill(pid, signal.SIGSTOP)  # one that sees the server go ends by itself
        os.kill(mine.process.pid, signal.SIGKILL)
        assert wait_until(lambda: not mine.process.alive, 20)
    assert wait_until(lambda: not any(_lives(pid) for pid in stubs), 20)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_onnx_predictor_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such ONNX file"):
        OnnxPredictor(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(InputError, match="not a model that ONNX Runtime can run"):
        OnnxPredictor(tmp_path / "text.onnx")
    with pytest.raises(InputError, match="labels"):
        OnnxPredictor(tiny_model(tmp_path / "m.onnx", labels=None))


@pytest.mark.parametrize("runtime", ["onnx", "torch", "grpc", "http"])
def test_every_predictor_knows_its_shape(served: TritonServer, tiny: Path, tmp_path: Path, runtime: str) -> None:
    if runtime == "torch":
        pytest.importorskip("torch")
        from posewatch.config import TrainConfig
        from posewatch.datasets import layouts
        from posewatch.recognition.recogniser import Recogniser, save

        config = TrainConfig(model="stgcn", width=0.1, clip_frames=6, people=2)
        network = Recogniser(config, layouts.get("coco17"), tuple(LABELS), "abnormal", 10.0)
        save(tmp_path / "small.pt", network, network.state_dict())
        reference = str(tmp_path / "small.pt")
    else:
        reference = str(tiny) if runtime == "onnx" else f"{runtime}://{_url(served, runtime)}/tiny"
    with open_predictor(reference) as predictor:
        assert predictor.shape == (predictor.people, predictor.frames, predictor.joints, 3) == SHAPE
        assert (predictor.labels, predictor.layout, predictor.fps) == (tuple(LABELS), "coco17", 10.0)
        assert (predictor.positive, predictor.threshold) == ("abnormal", 0.5)


def test_torch_predictor(clips) -> None:
    torch = pytest.importorskip("torch")

    class Mean(torch.nn.Module):
        def forward(self, keypoints):
            embedding = keypoints.mean((1, 2, 3))
            return embedding[:, :2].softmax(1), embedding

    predictor = TorchPredictor(Mean(), LABELS, SHAPE)
    got = predictor.predict(clips)
    embedding = clips.mean((1, 2, 3))
    np.testing.assert_allclose(got.embedding, embedding, atol=1e-6)
    np.testing.assert_allclose(got.probabilities[:, 0] > 0.5, embedding[:, 0] > embedding[:, 1])
    with pytest.raises(InputError, match=r"\(N, 2, 6, 17, 3\)"):
        predictor.predict(clips[0])

    class Scaled(Mean):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, keypoints):
            return super().forward(keypoints * self.scale)

    with pytest.raises(RuntimeError, match="Cannot copy out of meta tensor"):  # it computed there, without values
        TorchPredictor(Scaled(), LABELS, SHAPE).to("meta").predict(clips)


def test_constant_predictor(clips) -> None:
    got = ConstantPredictor(LABELS, [0.2, 0.8], SHAPE).predict(clips)
    assert got.probabilities.shape == (40, 2)
    assert got.probabilities[7].tolist() == pytest.approx([0.2, 0.8])
