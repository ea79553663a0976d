# Every target does all its set-up; nothing is installed outside .venv and the cache folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A CPU build of torch on machines whose index serves CUDA builds: make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH := $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
STAMP := $(VENV)/.installed
DATA ?=
ARGS ?=
# Many tests wait for servers and browsers: three at a time on two cores. Files with few, dear tests must not come last.
JOBS ?= 3

.PHONY: components test-cluster manifests dashboards test-chart golden images test-images sbom audit licences secrets help setup demo demo-loop test lint compile up down status label bench-train bench-perception bench-quality bench-cctv bench-persons bench-serving bench-fewshot bench-falls bench-labeling bench-labeling-ui bench-loop bench-watch bench-rollout bench-gpu gpu-wheels clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "posewatch needs Python 3.11: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@echo "setting up $(VENV) (once, some minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH) "$$(grep '^torch==' constraints.txt)" 2>&1 | grep -v "is ignored: it is neither" >&2 || true
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]' 2>&1 | grep -v "is ignored: it is neither" >&2 || true
	@SAM2_BUILD_CUDA=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps "$$(grep '^sam2==' constraints.txt)" 2>&1 | grep -v "is ignored: it is neither" >&2 || true
	@$(BIN)/python -c 'import sam2' 2> /dev/null || echo "Meta's package sam2 could not be built: its test is skipped (docs/perception.md)"
	@$(BIN)/python -c 'import posewatch, kfp, torch, streamlit'
	@touch $@

setup: $(STAMP) ## the environment, the embedded servers and the default weights
	@$(BIN)/posewatch install
	@$(BIN)/posewatch weights fetch > /dev/null

demo: setup ## raw video to a served recogniser and a report; DATA=folder takes your own videos
	@$(BIN)/python -m pipelines.demo $(if $(DATA),--data "$(DATA)") $(ARGS)

demo-loop: setup ## rendered cameras, alarms judged on the page, a new version, its gate and canary, a plot; minutes
	@$(BIN)/python -m pipelines.demo_loop $(ARGS)

test: setup lint ## all quick tests, with the real S3 server and the real Triton; JOBS=3 at a time
	@$(BIN)/posewatch install openvino || echo "OpenVINO could not be installed: its tests are skipped"
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(STAMP) secrets ## ruff, mypy, hadolint and a look for secrets
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet . && $(BIN)/mypy
	@$(BIN)/hadolint Dockerfiles/*.Dockerfile

compile: $(STAMP) ## the pipelines as YAML in build/pipelines; RESOURCES=my.yaml (or cpu) says what steps ask for
	@$(BIN)/python -m pipelines compile $(if $(RESOURCES),--resources "$(RESOURCES)")

components: $(STAMP) ## renew README.md and metadata.yaml of the pipelines' components
	@$(BIN)/python -m components.generate

golden: $(STAMP) ## renew the compiled pipelines that tests compare with
	@POSEWATCH_IMAGE= POSEWATCH_RESOURCES= POSEWATCH_IMAGES=registry.example/posewatch POSEWATCH_TAG=abc123 $(BIN)/python -m pipelines compile --force --out tests/pipeline/golden

images: ## the container images, tagged with the commit; KINDS="pose labeling" ARGS="--base-image IMAGE"
	@$(PYTHON) Dockerfiles/images.py $(KINDS) $(ARGS)

test-images: setup ## really build the images on a Debian base with buildah, and run each read-only: root, about 20 minutes
	@$(BIN)/python Dockerfiles/try_images.py $(KINDS) $(ARGS)

up down status label: $(STAMP) ## the embedded servers; the labeling page
	@$(BIN)/posewatch $@

bench-train: $(STAMP) ## ProtoGCN's training against its published arrangement: minutes, 5 GB; ARGS="--width 24 --frames 30" is quick
	@$(BIN)/posewatch bench training --out build/bench-train $(ARGS)

bench-perception: $(STAMP) ## what decoding, networks and encoding cost, and what two workers bring; DATA=video takes yours
	@$(BIN)/posewatch bench perception --out build/bench-perception $(if $(DATA),"$(DATA)") $(ARGS)

bench-cctv: $(STAMP) ## how often people are found in CCTV clips, against counts by eye; DATA=folder, COUNTS=csv file
	@$(BIN)/posewatch bench cctv --out build/bench-cctv --videos "$(or $(DATA),../shared/data/video/fights_dev)" --counts "$(or $(COUNTS),tests/bench/fights_dev_counts.csv)" $(ARGS)

bench-quality: $(STAMP) ## masks, skeletons and detections against exact truth, about 5 minutes; DATA=folder adds real videos
	@$(BIN)/posewatch bench quality --out build/bench-quality --real "$(or $(DATA),../shared/data/video/gmdcsa24)" $(ARGS)

bench-persons: $(STAMP) ## the unit person against the scene, with bystanders, about 15 minutes; DATA=folder adds real videos
	@$(BIN)/posewatch bench persons --out build/bench-persons --config demo --set mask.fps=8 $(if $(DATA),--real "$(DATA)") $(ARGS)

bench-serving: $(STAMP) ## PyTorch, ONNX Runtime, Triton and Triton + batching in one run; ARGS="--model model.onnx"
	@$(BIN)/posewatch bench serving --out build/bench-serving $(ARGS)

LABELLED ?= ../shared/data/skeletons/sbu_violence_coco17.pkl
bench-fewshot: $(STAMP) ## F1 by the number of labels: networks from scratch and pretrained, beside baselines, hours; LABELLED=FILE.pkl
	@$(BIN)/posewatch bench fewshot --annotations "$(LABELLED)" --out build/bench-fewshot $(ARGS)

bench-falls: $(STAMP) ## False alarms of a fall recogniser by kind of act, with and without everyday acts in training; ARGS="--skeletons URI --intervals FOLDER"
	@$(BIN)/posewatch bench falls --out build/bench-falls $(ARGS)

bench-labeling: $(STAMP) ## labels that the uncertain-first queue saves, with a plot; LABELLED=FILE.pkl takes your own
	@$(BIN)/posewatch bench active-learning --annotations "$(LABELLED)" --out build/bench-labeling $(ARGS)

bench-labeling-ui: $(STAMP) ## the labeling page with 10,000 clips and five people, in a real browser
	@$(BIN)/posewatch bench labeling-ui --out build/bench-labeling-ui $(ARGS)

bench-loop: $(STAMP) ## false alarms against verdicts given, beside random labels, with a plot; LABELLED=FILE.pkl takes your own
	@$(BIN)/posewatch bench loop --annotations "$(LABELLED)" --out build/bench-loop $(ARGS)

bench-watch: $(STAMP) ## alarms on people whom the model has not seen, minutes; DATA=folder of GMDCSA-24 videos
	@$(BIN)/posewatch bench watch --videos "$(or $(DATA),../shared/data/video/gmdcsa24)" --out build/bench-watch $(ARGS)

bench-gpu: $(STAMP) ## serving, training and perception on one GPU, under 8 minutes (docs/performance.md); ARGS=--dry-run on a CPU
	@$(BIN)/posewatch bench gpu --out build/bench-gpu $(ARGS)

gpu-wheels: $(STAMP) ## what bench-gpu needs on a machine with PyTorch and no internet, in build/gpu-wheels: 48 MB
	@$(BIN)/python -m pip download --quiet --no-deps --only-binary :all: --constraint constraints.txt --dest build/gpu-wheels -r src/posewatch/bench/gpu/wheels.txt

bench-rollout: $(STAMP) ## which version answers when, through canary, promotion, a kill and a rollback, a minute (docs/deploy.md)
	@$(BIN)/python -m tests.platform.rollout_plot build/bench-rollout

.PHONY: simulate-scale
simulate-scale: $(STAMP) ## the label store, object store and fan-out at growing sizes (docs/scale.md), some minutes; ARGS="--clips 10000,100000"
	@$(BIN)/posewatch bench scale --out build/scale $(ARGS)

KUBE := build/tools/kube
$(KUBE)/helm:
	@$(PYTHON) .ci/kube_tools.py > /dev/null

dashboards: $(STAMP) ## renew the chart's Grafana dashboards
	@$(BIN)/python helm/make_dashboards.py

manifests: $(STAMP) $(KUBE)/helm ## renew the kustomize overlays from the chart
	@$(BIN)/python helm/make_manifests.py $(KUBE)/helm

test-cluster: $(STAMP) $(KUBE)/helm ## all that needs a cluster, on that of KUBECONFIG, with a table of what passed; ARGS="--set images.tag=... --fake-triton"
	@PATH="$(CURDIR)/$(KUBE):$$PATH" $(BIN)/python helm/try_cluster.py $(ARGS)

test-chart: $(STAMP) $(KUBE)/helm ## the Helm chart and manifests alone: lint, strict validation, alerts, credentials
	@$(BIN)/python -m pytest tests/platform/test_chart.py tests/platform/test_chart_runs.py tests/platform/test_monitoring.py tests/platform/test_manifests.py tests/platform/test_operations.py $(ARGS)

secrets: $(STAMP) ## no credential in the repository
	@$(BIN)/python .ci/secrets.py

TOOLS := build/tools
$(TOOLS)/.installed: .ci/tools.txt Dockerfiles/tools.txt
	@$(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -r .ci/tools.txt
	@touch $@

sbom: $(STAMP) $(TOOLS)/.installed ## what is installed, as CycloneDX, in build/sbom.cdx.json
	@$(TOOLS)/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml --output-file build/sbom.cdx.json $(BIN)/python

audit: $(TOOLS)/.installed ## known vulnerabilities of the pinned dependencies, where the index knows any
	@$(TOOLS)/bin/python .ci/audit.py

licences: $(STAMP) $(TOOLS)/.installed ## renew docs/licences.md
	@$(TOOLS)/bin/python .ci/licences.py --python $(BIN)/python

clean: ## remove the environment and everything that was made
	@-test -x $(BIN)/posewatch && $(BIN)/posewatch down 2> /dev/null
	@rm -rf $(VENV) .posewatch build
