"""`posewatch pipeline` against a server that speaks Kubeflow Pipelines' REST API (see kfp_server: no real one)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kfp_server_api as api
import pytest
from kfp_server import AT, Server

from pipelines.__main__ import main
from pipelines.remote import Remote

VALUES = ["source=s3://videos/in", "store=s3://posewatch"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    for name in ("POSEWATCH_IMAGE", "POSEWATCH_KFP_TOKEN", "POSEWATCH_STORE", "POSEWATCH_RESOURCES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("POSEWATCH_TAG", "abc123")
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", made.url)
    yield made
    made.close()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line in which a command fails."""
    assert main(list(arguments)) != 0
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_submit_starts_a_run_of_the_compiled_pipeline(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "prepare", *VALUES, "shard_size=20", "--name", "monday", "--service-account", "runner"]) == 0
    assert capsys.readouterr().out == "run-0\n"
    run = server.state.runs["run-0"]
    assert (run.display_name, run.experiment_id, run.service_account) == ("monday", "experiment-0", "runner")
    told = run.runtime_config["parameters"]
    assert (told["source"], told["store"], told["shard_size"]) == ("s3://videos/in", "s3://posewatch", 20)
    assert '"mask"' in told["config"]
    spec = run.pipeline_spec["pipeline_spec"]
    assert spec["pipelineInfo"]["name"] == "posewatch-prepare"
    assert "platform_spec" in run.pipeline_spec, "pods keep what Kubernetes is told"
    assert main(["submit", "prepare", *VALUES]) == 0
    assert len(server.state.experiments) == 1, "the experiment is made once"


def test_an_older_server_is_sent_what_it_knows_and_told_what_it_cannot_run(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """2.16 and older leave all of the Kubernetes part out for one field that they do not know, credentials and all."""
    refresh = ["refresh", "clips=c", "skeletons=s", "store=s3://b", "endpoint=grpc://h:1/m"]

    def told() -> dict[str, Any]:
        return dict(server.state.runs[f"run-{len(server.state.runs) - 1}"].pipeline_spec["platform_spec"])

    server.state.release = "2.16.1"
    assert main(["submit", "prepare", *VALUES]) == 0
    assert "pipelineConfig" not in told()["platforms"]["kubernetes"]
    assert "a server of 2.16 goes without: ttl_s (Kubeflow deletes finished" in capsys.readouterr().err
    server.state.release = "v2.14.4"
    assert main(["submit", "prepare", *VALUES, "--secret-key", "POSEWATCH_S3_REGION"]) == 0
    assert "POSEWATCH_S3_REGION" in str(told())
    assert "'optional': True" not in str(told())
    assert "POSEWATCH_WEBHOOK" not in str(told())
    assert main(["schedule", *refresh, "--cron", "0 0 3 * * *"]) == 0
    server.state.release = "2.5.0"
    capsys.readouterr()
    assert "server of 2.5 cannot run prepare in shards: 2.14" in refused(capsys, "submit", "prepare", *VALUES)
    assert "cannot run prepare in shards" in refused(capsys, "upload-version", "prepare")
    assert main(["upload-version"]) == 0
    shown = capsys.readouterr()
    assert [line.split('"')[3] for line in shown.out.splitlines()] == ["posewatch-train", "posewatch-refresh"]
    assert "cannot run end_to_end in shards" in shown.err
    server.state.release = "2.2.0"
    assert "2.3 or newer is needed" in refused(capsys, "schedule", *refresh, "--cron", "0 0 3 * * *")
    assert len(server.state.schedules) == 1
    for release in ("2.17.0", "unknown", "3.0.0-rc.1", ""):
        server.state.release = release
        assert main(["submit", "prepare", *VALUES]) == 0
        assert told()["platforms"]["kubernetes"]["pipelineConfig"]["resourceTtlOnCompletion"] == 604800


@pytest.mark.parametrize("pipeline", ["prepare", "train"])
def test_no_step_of_a_run_takes_results_from_the_cache(server: Server, pipeline: str) -> None:
    given = VALUES if pipeline == "prepare" else ["clips=c", "skeletons=s", "store=s3://posewatch"]

    def cached() -> set[str]:
        spec = server.state.runs[f"run-{len(server.state.runs) - 1}"].pipeline_spec["pipeline_spec"]
        dags = [spec["root"], *spec["components"].values()]
        tasks = [t for dag in dags for t in dag.get("dag", {}).get("tasks", {}).items()]
        return {name for name, task in tasks if task.get("cachingOptions", {}).get("enableCache")}

    assert main(["submit", pipeline, *given]) == 0
    assert {"mask", "pose"} <= cached() or {"dataset", "evaluate"} <= cached()
    assert main(["submit", pipeline, *given, "--no-cache"]) == 0
    assert cached() == set()


def test_submit_waits_through_answers_that_fail(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        server.state.broken = 1 if len(naps) == 1 else 0

    monkeypatch.setattr("pipelines.remote.sleep", nap)
    server.state.states[:] = ["PENDING", "RUNNING", "SUCCEEDED"]
    assert main(["submit", "prepare", *VALUES, "--wait"]) == 0
    assert len(naps) == 3
    capsys.readouterr()
    server.state.states[:] = ["RUNNING", "FAILED"]
    assert main(["submit", "prepare", *VALUES, "--wait"]) == 1
    assert "the run run-1 has ended as FAILED (posewatch pipeline logs run-1)" in capsys.readouterr().err


def test_runs_newest_first(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        main(["submit", "prepare", *VALUES, "--name", name])
    capsys.readouterr()
    assert main(["runs", "--limit", "1"]) == 0
    assert capsys.readouterr().out.split() == ["run-1", "PENDING", str(AT)[:10], str(AT)[11:19], "two"]


def test_the_client_leaves_logging_as_it_was(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["runs"]) == 0
    logging.getLogger("posewatch").warning("still logged")
    assert "still logged" in caplog.text


def test_logs_show_the_steps_and_what_failed_ones_wrote(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    main(["submit", "prepare", *VALUES, "--name", "monday"])
    detail, child = api.V2beta1PipelineTaskDetail, api.PipelineTaskDetailChildTask
    server.state.states[:] = ["FAILED"]
    server.state.runs["run-0"].run_details = api.V2beta1RunDetails(
        task_details=[
            detail(display_name="mask", state="FAILED", start_time=AT, child_tasks=[child(pod_name="pod-mask")],
                   error=api.GoogleRpcStatus(code=2, message="exit\nstatus 2")),
            detail(display_name="ingest", state="SUCCEEDED", start_time=AT.replace(minute=0), pod_name="pod-in"),
            detail(display_name="pose", state="FAILED", child_tasks=[child(pod_name="pod-gone")]),
        ]
    )  # fmt: skip
    server.state.logs.update({"pod-mask": "posewatch: bad video\n", "pod-in": "4 videos\n"})
    capsys.readouterr()
    assert main(["logs", "run-0"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("monday: FAILED\n")
    assert out.index("SUCCEEDED  ingest") < out.index("FAILED     mask - exit status 2")
    assert "== mask (pod-mask)\nposewatch: bad video\n" in out
    assert "== pose (pod-gone)\nits log is deleted" in out
    assert "4 videos" not in out
    assert main(["logs", "run-0", "--step", "ingest"]) == 0
    assert capsys.readouterr().out == "\n== ingest (pod-in)\n4 videos\n"
    assert "has no step 'none' (it has: " in refused(capsys, "logs", "run-0", "--step", "none")
    assert "Run run-9 not found" in refused(capsys, "logs", "run-9")


WORKFLOW = "posewatch-prepare-x7k2p"


def node(name: str) -> str:
    """The id of a node of Argo's graph by its whole name (Workflow.NodeID, v1alpha1/workflow_types.go)."""
    number = 0x811C9DC5
    for byte in name.encode():
        number = (number ^ byte) * 0x01000193 & 0xFFFFFFFF
    return f"{WORKFLOW}-{number}"


@pytest.mark.parametrize(
    ("tries", "found", "graphs"),
    [(0, "pod", 0), (1, "pod", 0), (3, "pod", 0), (3, "archive", 0), (3, "", 0), (1, "pod", 1), (3, "pod", 2)],
)
def test_logs_of_a_run_as_a_server_tells_it(
    server: Server, capsys: pytest.CaptureFixture[str], tries: int, found: str, graphs: int
) -> None:
    """Every node of the graph with the ids of its children, and neither a pod's name nor an error: 2.17 and before
    (api_converter.go toApiPipelineTaskDetail). ``tries`` 0: a step without retries. ``graphs``: tries of the graph
    around the container, where templateDefaults of Argo's ConfigMap has a retryStrategy, as in the manifests of 2.17
    (operator.go executeTemplate: any template with one becomes a node of tries)."""
    main(["submit", "prepare", *VALUES, "--name", "monday"])
    base = f"{WORKFLOW}.root.exit-handler-1.posewatch-prepare-stages"
    mask = [f"{base}.mask({i})" for i in range(graphs)]
    executor = f"{mask[-1] if mask else f'{base}.mask'}.executor"
    last = f"{executor}({tries - 1})" if tries else executor

    def detail(display: str, state: str, *children: str) -> api.V2beta1PipelineTaskDetail:
        told = [api.PipelineTaskDetailChildTask(pod_name=node(child)) for child in children]
        return api.V2beta1PipelineTaskDetail(display_name=display, state=state, child_tasks=told, start_time=AT)

    details = [
        detail(WORKFLOW, "FAILED", f"{WORKFLOW}.root-driver"),
        detail("root-driver", "SUCCEEDED", f"{WORKFLOW}.root"),
        detail("root", "FAILED", f"{WORKFLOW}.root.exit-handler-1-driver"),
        detail("posewatch-prepare-stages", "FAILED", f"{base}.ingest-driver"),
        detail("mask-driver", "SUCCEEDED", f"{base}.mask"),
        detail("mask", "FAILED", *(mask or [executor])),
        *[detail(f"mask({i})", "FAILED", f"{name}.executor") for i, name in enumerate(mask)],
        detail("executor", "FAILED", *[f"{executor}({i})" for i in range(tries)]),
        *[detail(f"executor({i})", "FAILED") for i in range(tries)],
        detail("split-driver", "FAILED", f"{base}.split"),
    ]
    server.state.states[:] = ["FAILED"]
    server.state.runs["run-0"].run_details = api.V2beta1RunDetails(task_details=details)
    number = node(last).rpartition("-")[2]
    pod = f"{WORKFLOW}-{'retry-' if tries else ''}system-container-impl-{number}"
    server.state.logs.update({"pod": {pod: "bad video\n"}, "archive": {node(last): "bad video\n"}, "": {}}[found])
    capsys.readouterr()
    assert main(["logs", "run-0"]) == 0
    text = "bad video" if found else "its log is deleted: archive logs (docs/pipelines.md)"
    assert capsys.readouterr().out == (
        f"monday: FAILED\n  FAILED     mask\n  FAILED     split-driver\n\n== mask ({pod})\n{text}\n"
    )


def test_versions_are_uploaded_once(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upload-version", "prepare", "refresh"]) == 0
    assert '"version": "abc123"' in capsys.readouterr().out
    assert set(server.state.pipelines) == {"posewatch-prepare", "posewatch-refresh"}
    assert [v.display_name for v in server.state.versions if v.pipeline_id == "pipeline-0"] == [
        "posewatch-prepare", "posewatch-prepare-abc123",
    ]  # fmt: skip
    assert "exec-notify" in server.state.versions[-1].description, "the file arrived whole"
    assert main(["upload-version", "prepare", "refresh"]) == 0
    assert len(server.state.versions) == 4
    assert "no pipeline 'x'" in refused(capsys, "upload-version", "x")


def test_versions_go_to_the_pipeline_of_the_namespace(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["upload-version", "prepare"]) == 0
    for tag in ("abc123", "def456", "def456"):
        monkeypatch.setenv("POSEWATCH_TAG", tag)
        assert main(["upload-version", "prepare", "--namespace", "team"]) == 0, capsys.readouterr().err
    assert set(server.state.pipelines) == {"posewatch-prepare", "team/posewatch-prepare"}
    assert [v.display_name for v in server.state.versions if v.pipeline_id == "pipeline-1"] == [
        "posewatch-prepare", "posewatch-prepare-abc123", "posewatch-prepare-def456",
    ]  # fmt: skip


def test_schedules_run_one_at_a_time(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    values = ["clips=c", "skeletons=s", "store=s3://b", "endpoint=grpc://h:1/m"]
    assert main(["schedule", "refresh", *values, "--cron", "0 0 3 * * *", "--name", "nightly"]) == 0
    (made,) = server.state.schedules
    assert capsys.readouterr().out == f"{made.recurring_run_id}\n"
    assert made.trigger["cron_schedule"]["cron"] == "0 0 3 * * *"
    assert (made.max_concurrency, made.no_catchup, made.mode, made.display_name) == (1, True, "ENABLE", "nightly")
    assert "six fields" in refused(capsys, "schedule", "refresh", *values, "--cron", "0 3 * * *")


def test_the_token_is_sent_and_a_refused_one_is_one_line(
    server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.state.token = "let-me-in"
    assert "refuses (HTTP 401)" in refused(capsys, "runs")
    (tmp_path / "token").write_text("let-me-in\n")
    assert main(["runs", "--token-file", str(tmp_path / "token")]) == 0
    monkeypatch.setenv("POSEWATCH_KFP_TOKEN", "let-me-in")
    assert main(["submit", "prepare", *VALUES]) == 0
    capsys.readouterr()
    monkeypatch.setenv("POSEWATCH_KFP_TOKEN", "another")
    assert "let-me-in" not in refused(capsys, "runs")
    assert "cannot be read: No such file" in refused(capsys, "runs", "--token-file", str(tmp_path / "no"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["submit", "prepare", "source=s3://x"], "prepare needs store=…"),
        (["submit", "prepare", *VALUES, "speed=9"], "prepare has no parameter 'speed' (it has: config, shard_size"),
        (["submit", "prepare", *VALUES, "shard_size=some"], "shard_size must be a whole number, not 'some'"),
        (["submit", "prepare", "source"], "must look like name=value"),
        (["submit", "prepare", "source=/videos", "store=s3://b"], "is a folder of this machine"),
        (["submit", "prepare", "source=rtsp://door/1", "store=s3://b"], "give the time to record rtsp://door/1"),
        (
            ["submit", "prepare", "source=rtsp://door/1?password=pw", "store=s3://b", "source_seconds=9"],
            "source=rtsp://door/1 holds a password",
        ),
        (
            ["submit", "prepare", "source=rtsp://door/1", "store=s3://b", "source_seconds=x"],
            "must be a number, not 'x'",
        ),
        (["submit", "prepare", *VALUES, "--set", "mask.no=1"], "mask.no"),
        (["runs", "--host", "127.0.0.1:1"], "--host must be an http:// or https:// URL"),
        (["runs", "--host", "http://127.0.0.1:9"], "no answer from http://127.0.0.1:9"),
        (["runs", "--limit", "0"], "--limit must be from 1 to 200"),
    ],
)
def test_wrong_input_is_one_line(
    server: Server, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert says in refused(capsys, *arguments)
    assert not server.state.runs


def test_without_a_server_the_way_to_one_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    said = refused(capsys, "runs")
    assert "no Kubeflow Pipelines server: give --host" in said
    assert "port-forward svc/ml-pipeline" in said


def test_in_a_pod_the_clusters_own_server_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def read(self: Remote, path: str) -> bytes:
        asked.append(self.host + path)
        raise KeyboardInterrupt

    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setattr(Remote, "read", read)
    with pytest.raises(KeyboardInterrupt):
        Remote()
    assert asked == ["http://ml-pipeline.kubeflow.svc.cluster.local:8888/apis/v2beta1/healthz"]


def test_a_server_that_is_something_else_is_said(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert "knows no such thing" in refused(capsys, "runs", "--host", f"{server.url}/elsewhere")
    server.state.broken = 1
    assert "answers HTTP 503" in refused(capsys, "runs")
