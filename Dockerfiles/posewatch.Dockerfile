# syntax=docker/dockerfile:1
# One file for every posewatch image: EXTRAS says which stages an image can run. See README.md beside it.
ARG BASE_IMAGE=python:3.11-slim

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS build
ARG EXTRAS="pose,masking,pipelines"
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin
RUN python3 -m venv /opt/venv
WORKDIR /build
# The dependencies first, against an empty package: a change of the code leaves this layer as it is.
COPY constraints.txt pyproject.toml README.md LICENSE ./
RUN mkdir -p src/posewatch \
    && echo '__version__ = "0"' > src/posewatch/__init__.py \
    && pip install --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} ".[${EXTRAS}]" \
    && rm -rf build src
COPY src src
RUN pip install --no-deps --force-reinstall . \
    && pip check
# Weights by name, for a cluster that could not fetch them later; none by default.
ARG WEIGHTS=""
# hadolint ignore=SC2086
RUN mkdir -p /opt/posewatch/cache \
    && if [ -n "$WEIGHTS" ]; then POSEWATCH_CACHE=/opt/posewatch/cache posewatch weights fetch $WEIGHTS; fi

# hadolint ignore=DL3006
FROM ${BASE_IMAGE}
ARG GIT_SHA=""
LABEL org.opencontainers.image.title="posewatch" \
      org.opencontainers.image.description="From raw CCTV video to a served recogniser of abnormal behaviour" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${GIT_SHA}"
RUN groupadd --gid 10001 posewatch \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin posewatch
COPY --from=build /opt/venv /opt/venv
COPY --from=build --chown=10001:10001 /opt/posewatch /opt/posewatch
COPY labeling-service /opt/posewatch/labeling-service
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    POSEWATCH_CACHE=/opt/posewatch/cache \
    POSEWATCH_GIT_SHA="${GIT_SHA}"
USER 10001:10001
WORKDIR /home/posewatch
# No ENTRYPOINT: Kubeflow Pipelines brings its own command.
CMD ["posewatch", "--help"]
