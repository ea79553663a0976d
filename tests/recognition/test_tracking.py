import shutil
import subprocess
import sys
import threading
import warnings
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from posewatch.recognition.training.mlflow import RUN, SETTINGS, Tracker, open_tracker

PARAMS = {"model": "protogcn", "lr": 0.003, "augment": {"flip": True}}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """MLflow's tables, made once: that takes seconds."""
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    pytest.importorskip("alembic", reason="MLflow's database needs alembic")
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for key, value in SETTINGS.items():
            patch.setenv(key, value)
        from mlflow.tracking import MlflowClient

        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def server(tmp_path, monkeypatch, database):
    """A real tracking database; gives a client to look at it with."""
    shutil.copy(database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for key, value in {**SETTINGS, "MLFLOW_TRACKING_URI": uri}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient

        yield MlflowClient(tracking_uri=uri)


def runs(client):
    return client.search_runs([client.get_experiment_by_name("posewatch").experiment_id])


def test_without_a_server_there_is_nothing_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracker = open_tracker(tmp_path)
    assert type(tracker) is Tracker
    tracker.start(PARAMS)
    tracker.section("validation").epoch({"loss": 1.0}, 1)
    tracker.finish({}, [])
    assert not list(tmp_path.iterdir())


def test_a_killed_training_goes_on_in_the_run_that_it_began(tmp_path, server):
    out = tmp_path / "run7"
    out.mkdir()
    first = open_tracker(out)
    first.start(PARAMS)
    first.section("validation").epoch({"epoch": 1, "loss": 0.9}, 1)
    first.epoch({"loss": 0.7, "note": "x", "worse": float("nan"), "ok": True}, 1)
    # Killed here.
    second = open_tracker(out)
    second.start(PARAMS)
    second.epoch({"loss": 0.5}, 2)
    (out / "metrics.json").write_text("{}")
    metrics = {"f1": 0.9, "per_class": {"waves/at": {"recall": 1}}, "confusion": [[1, 0], [0, 1]]}
    second.finish(metrics, [out / "metrics.json"])
    (run,) = runs(server)
    assert run.info.run_name == "run7"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"model": "protogcn", "lr": "0.003", "augment/flip": "True"}
    assert len(run.data.tags["posewatch.config_digest"]) == 64
    assert [(m.step, m.value) for m in server.get_metric_history(run.info.run_id, "loss")] == [(1, 0.7), (2, 0.5)]
    assert run.data.metrics == {
        "loss": 0.5, "validation/epoch": 1, "validation/loss": 0.9,
        "final/f1": 0.9, "final/per_class/waves/at/recall": 1,
    }  # fmt: skip
    assert [f.path for f in server.list_artifacts(run.info.run_id)] == ["metrics.json"]


def test_another_configuration_or_a_deleted_run_begins_a_new_one(tmp_path, server):
    for params in (PARAMS, PARAMS, {**PARAMS, "lr": 0.1}):
        tracker = open_tracker(tmp_path)
        tracker.start(params)
        tracker.finish({}, [])
    assert len(runs(server)) == 2
    server.delete_run(next(r for r in runs(server) if r.data.params["lr"] == "0.1").info.run_id)
    open_tracker(tmp_path).start({**PARAMS, "lr": 0.1})
    assert len(runs(server)) == 2
    (tmp_path / RUN).write_text("[broken")
    open_tracker(tmp_path).start(PARAMS)
    assert len(runs(server)) == 3


def test_a_missing_file_does_not_keep_the_run_open(tmp_path, server, capsys):
    tracker = open_tracker(tmp_path)
    tracker.start(PARAMS)
    tracker.finish({"f1": 1.0}, [tmp_path / "gone.png"])
    assert [r.info.status for r in runs(server)] == ["FINISHED"]
    assert capsys.readouterr().err.count("posewatch: warning: MLflow") == 1


class Unwell(BaseHTTPRequestHandler):
    """A tracking server that is up and out of order."""

    asked = 0

    def do_GET(self):
        Unwell.asked += 1
        self.send_response(500)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *args):
        pass


@pytest.mark.parametrize("up", [False, True])
def test_a_server_that_is_down_or_broken_costs_one_warning(tmp_path, monkeypatch, capsys, up):
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    for key, value in {**SETTINGS, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}.items():
        monkeypatch.setenv(key, value)
    with HTTPServer(("127.0.0.1", 0), Unwell) as http:
        port = http.server_port
        if up:
            threading.Thread(target=http.serve_forever, daemon=True).start()
        else:
            http.server_close()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
        Unwell.asked = 0
        tracker = open_tracker(tmp_path)
        tracker.start(PARAMS)
        for step in range(40):
            tracker.epoch({"loss": 1.0}, step)
        tracker.finish({"f1": 1.0}, [])
        if up:
            http.shutdown()
            assert 2 <= Unwell.asked <= 10, "asked at the start and at the end, not in every epoch"
    said = capsys.readouterr().err
    assert said.count("warning: MLflow") == said.count("\n") == 1
    assert "secret" not in said
    assert str(port) in said


def test_what_a_server_missed_is_sent_when_it_is_back(tmp_path, monkeypatch, capsys):
    """MLflow's own folder of runs refuses to work until a variable allows it."""
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    for key, value in {**SETTINGS, "MLFLOW_TRACKING_URI": f"file://{tmp_path}/runs"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    tracker = open_tracker(tmp_path)
    tracker.start(PARAMS)
    tracker.epoch({"loss": 0.9}, 1)
    assert "training goes on" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    tracker.finish({"f1": 1.0}, [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient

        (run,) = runs(MlflowClient(tracking_uri=f"file://{tmp_path}/runs"))
    assert run.data.metrics == {"loss": 0.9, "final/f1": 1.0}
    assert run.info.status == "FINISHED"


def test_without_mlflow_the_extra_is_named(tmp_path):
    code = (
        "import sys; sys.modules['mlflow'] = None\n"
        "from pathlib import Path\n"
        "from posewatch.errors import InputError\n"
        "from posewatch.recognition.training.mlflow import open_tracker\n"
        "try: open_tracker(Path('.'))\n"
        "except InputError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, cwd=tmp_path, env={"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert done.stdout == "MLFLOW_TRACKING_URI is set, but mlflow is not installed: pip install 'posewatch[tracking]'\n"
