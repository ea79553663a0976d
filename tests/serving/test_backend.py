"""The embedded Triton's backend: a batch that takes long is answered portion by portion."""

from __future__ import annotations

import runpy
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from support import counted
from tiny_models import SHAPE, slow_model, tiny_model

from posewatch.errors import ServingError
from posewatch.inference import triton_admin
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.inference.triton import TritonPredictor
from posewatch.serving.repository import write_repository
from posewatch.stack import TritonServer, triton_install

CLIPS = 8


def _batch(
    server: TritonServer, name: str, clips: np.ndarray, patience_s: Sequence[float] = (60.0,) * CLIPS
) -> tuple[np.ndarray, float, float]:
    """The probabilities of clips that are asked for at once, NaN for those of which nobody waited for the answer, and
    how long the first and the last answer took."""
    together, took, answers = threading.Barrier(len(clips)), np.zeros(len(clips)), np.full((len(clips), 2), np.nan)

    def ask(i: int) -> None:
        with TritonPredictor(server.grpc, name, retries=0) as predictor:
            together.wait()
            began = time.perf_counter()
            with suppress(ServingError):
                answers[i] = predictor.predict(clips[i : i + 1], patience_s[i]).probabilities[0]
            took[i] = time.perf_counter() - began

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(clips))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers, took.min(), took.max()


@pytest.mark.parametrize("products", [0, 2, 8])
def test_who_came_first_does_not_wait_for_the_last_of_a_long_batch(
    server: TritonServer, tmp_path: Path, products: int
) -> None:
    """A batch that is computed as a whole, and those whose portions hold a few clips and one."""
    name, path = f"portions-{products}", tmp_path / "model.onnx"
    slow_model(path, products=products) if products else tiny_model(path)
    clips = np.random.default_rng(1).uniform(0, 1, (CLIPS, *SHAPE)).astype(np.float32)
    expected = OnnxPredictor(path).predict(clips).probabilities
    write_repository(path, server.repository, name=name, max_batch=CLIPS, queue_delay_us=2_000_000, instances=1)
    triton_admin.load_model(server.grpc, name)
    before = triton_admin.statistics(server.grpc, name)
    for i in range(3):  # how long a clip takes is known from the batches before
        answers, first, last = _batch(server, name, clips)
        np.testing.assert_allclose(answers, expected, atol=1e-6)
        since = counted(server.grpc, name, before, inferences=(i + 1) * CLIPS, requests=(i + 1) * CLIPS, failed=0)
        assert since["executions"] == i + 1
    if products == 8:
        assert last > 1.5 * first
    triton_admin.unload_model(server.grpc, name)


def test_portions_hold_as_many_clips_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", ModuleType("only to import the file"))
    one = runpy.run_path(str(Path(triton_install.__file__).parent / "backend/model.py"))["TritonPythonModel"]()
    expected = {0.0: [[0, 1, 2, 3, 4]], 0.006: [[0, 1], [2], [3, 4]], 0.011: [[0], [1], [2], [3], [4]]}
    for clip_s, portions in expected.items():
        one._clip_s = clip_s
        assert one._portions([1, 1, 4, 2, 1]) == portions


def test_who_does_not_wait_costs_the_others_of_the_batch_nothing(server: TritonServer, tmp_path: Path) -> None:
    path = slow_model(tmp_path / "model.onnx", products=40)
    clips = np.random.default_rng(1).uniform(0, 1, (CLIPS, *SHAPE)).astype(np.float32)
    expected = OnnxPredictor(path).predict(clips).probabilities
    write_repository(path, server.repository, name="impatient", max_batch=CLIPS, queue_delay_us=50_000, instances=1)
    triton_admin.load_model(server.grpc, "impatient")
    for patience in (60.0, 0.1, 0.1, 60.0):  # 0.1 s is enough for a part of the batch
        answers, _, _ = _batch(server, "impatient", clips, [patience, 60.0] * (CLIPS // 2))
        answered = ~np.isnan(answers[:, 0])
        np.testing.assert_allclose(answers[answered], expected[answered], atol=1e-6)
        assert answered[1::2].all()
        assert answered[::2].all() == (patience > 1)
    triton_admin.unload_model(server.grpc, "impatient")
