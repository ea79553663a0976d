"""A small real HTTP server that speaks the parts of Kubeflow Pipelines' v2beta1 REST API that kfp.Client uses.

Its answers are made by the API's own generated models (kfp_server_api), so their fields and names are the API's. It is
no Kubeflow Pipelines: it runs nothing, and it believes every pipeline.
"""

from __future__ import annotations

import email
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as api

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class State:
    """What the server holds; ``states`` are what a run answers in turn, the last one for ever."""

    token: str = ""
    release: str = "2.17.0"
    broken: int = 0
    states: list[str] = field(default_factory=lambda: ["SUCCEEDED"])
    experiments: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    pipelines: dict[str, Any] = field(default_factory=dict)
    versions: list[Any] = field(default_factory=list)
    schedules: list[Any] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)


class Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text


class Server:
    def __init__(self) -> None:
        self.state = state = State()

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                try:
                    if state.token and self.headers.get("Authorization") != f"Bearer {state.token}":
                        raise Refused(401, "Request header error: there is no user identity header.")
                    if state.broken:
                        state.broken -= 1
                        raise Refused(503, "upstream connect error")
                    found = reply(state, self.command, self.path, body, self.headers.get("Content-Type", ""))
                    status = 200
                except Refused as refused:
                    status = refused.status
                    found = {"error_message": refused.text, "error_details": refused.text}
                data = found.encode() if isinstance(found, str) else json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain" if isinstance(found, str) else "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = answer

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = Thread(target=self.http.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


def shaped(model: Any) -> Any:
    """A model as the API writes it."""
    return api.ApiClient().sanitize_for_serialization(model)


def read(body: bytes, model: type) -> Any:
    """A request as the API's model; a field that the model does not have is an error."""
    told = json.loads(body)
    unknown = set(told) - set(model.attribute_map.values())
    if unknown:
        raise Refused(400, f"unknown field {sorted(unknown)[0]!r}")
    return model(**{name: told[key] for name, key in model.attribute_map.items() if key in told})


def reply(state: State, verb: str, path: str, body: bytes, kind: str) -> Any:
    where, query = urlsplit(path).path, parse_qs(urlsplit(path).query)
    if found := re.fullmatch(r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", where):
        # the server sends its status before it looks for the log (run_log_server.go)
        missing = {
            "error_message": f"Failed to read logs for run {found[1]}",
            "error_details": "not found\ngoroutine 1",
        }
        return state.logs.get(found[2], missing)
    match verb, where.removeprefix("/apis/v2beta1/"):
        case "GET", "healthz":
            # the image's release beside what the API's model has (apiserver/main.go)
            return {**shaped(api.V2beta1GetHealthzResponse(multi_user=False)), "tag_name": state.release}
        case "GET", "experiments":
            name = _wanted(query)
            return shaped(api.V2beta1ListExperimentsResponse([e for n, e in state.experiments.items() if n == name]))
        case "POST", "experiments":
            made = read(body, api.V2beta1Experiment)
            made.experiment_id = f"experiment-{len(state.experiments)}"
            state.experiments[made.display_name] = made
            return shaped(made)
        case "POST", "runs":
            made = read(body, api.V2beta1Run)
            _known(state, made.experiment_id)
            made.run_id, made.created_at, made.state = f"run-{len(state.runs)}", AT, "PENDING"
            state.runs[made.run_id] = made
            return shaped(made)
        case "GET", "runs":
            runs = list(reversed(state.runs.values()))[: int(query["page_size"][0])]
            return shaped(api.V2beta1ListRunsResponse(runs=runs, total_size=len(state.runs)))
        case "POST", "recurringruns":
            made = read(body, api.V2beta1RecurringRun)
            _known(state, made.experiment_id)
            made.recurring_run_id = f"schedule-{len(state.schedules)}"
            state.schedules.append(made)
            return shaped(made)
        case "GET", "pipelines":
            # of the namespace that is asked for only, as a multi-user server does
            name = _in(query, _wanted(query))
            return shaped(
                api.V2beta1ListPipelinesResponse([p for n, p in state.pipelines.items() if n == name] or None)
            )
        case "POST", "pipelines/upload":
            name = query["name"][0]
            _uploaded(body, kind)
            if _in(query, name) in state.pipelines:
                raise Refused(
                    409, f"Already exist error: Failed to create a new pipeline. The name {name} already exists"
                )
            made = api.V2beta1Pipeline(pipeline_id=f"pipeline-{len(state.pipelines)}", display_name=name)
            state.pipelines[_in(query, name)] = made
            # the server makes a first version under the pipeline's own name
            state.versions.append(api.V2beta1PipelineVersion(made.pipeline_id, "first", display_name=name))
            return shaped(made)
        case "POST", "pipelines/upload_version":
            text = _uploaded(body, kind)
            made = api.V2beta1PipelineVersion(
                query["pipelineid"][0],
                f"version-{len(state.versions)}",
                display_name=query["name"][0],
                description=text,
            )
            state.versions.append(made)
            return shaped(made)
        case "GET", rest if found := re.fullmatch(r"pipelines/([^/]+)/versions", rest):
            mine = [v for v in state.versions if v.pipeline_id == found[1]]
            mine = [v for v in mine if "filter" not in query or v.display_name == _wanted(query)]
            return shaped(api.V2beta1ListPipelineVersionsResponse(pipeline_versions=mine))
        case "GET", rest if found := re.fullmatch(r"runs/([^/]+)", rest):
            if found[1] not in state.runs:
                raise Refused(404, f"Failed to get run: ResourceNotFoundError: Run {found[1]} not found")
            run = state.runs[found[1]]
            run.state = state.states.pop(0) if len(state.states) > 1 else state.states[0]
            return shaped(run)
    raise Refused(404, f"Not Found: {verb} {where}")


def _wanted(query: dict[str, list[str]]) -> str:
    (predicate,) = json.loads(query["filter"][0])["predicates"]
    assert predicate["key"] in ("name", "display_name")
    return str(predicate["stringValue"])


def _in(query: dict[str, list[str]], name: str) -> str:
    return "/".join([*query.get("namespace", []), name])


def _known(state: State, experiment: str) -> None:
    if experiment not in {e.experiment_id for e in state.experiments.values()}:
        raise Refused(404, f"Experiment {experiment} not found")


def _uploaded(body: bytes, kind: str) -> str:
    message = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    (part,) = message.get_payload()
    return part.get_payload(decode=True).decode()
