# Two images from one file, for the classic builder and BuildKit alike:
#   docker build --target service -t online-matching/service:0.1.0 .    the API and the fold: no JAX
#   docker build --target trainer -t online-matching/trainer:0.1.0 .    the offline job
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
LABEL org.opencontainers.image.title="Online Matching" \
      org.opencontainers.image.description="A self-hosted recommendation service that learns from every click." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
# Only /tmp and volumes are written to, so the root may be read-only. Numba keeps what it compiles at start (1 s) there.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/tmp/numba \
    MPLCONFIGDIR=/tmp/matplotlib
# A new volume takes over its folder's owner: bundles, snapshots, and what a training leaves, belong to the user.
RUN groupadd --gid 10001 app \
 && useradd --uid 10001 --gid app --no-create-home --home-dir /app app \
 && install -d -o app -g app /app /app/build /bundles /snapshots
WORKDIR /app

FROM ${PYTHON_IMAGE} AS builder
WORKDIR /source
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_PYTHON=/opt/venv/bin/python
RUN python -m venv --without-pip /opt/venv
COPY pyproject.toml constraints.txt ./
# The dependencies of an extra as a list of their own: they stay installed while only our code changes.
RUN printf '%s\n' \
  'import sys, tomllib' \
  'project = tomllib.load(open("pyproject.toml", "rb"))["project"]' \
  'print(*project["dependencies"], *project["optional-dependencies"][sys.argv[1]], sep="\n")' >dependencies.py

FROM builder AS service-builder
RUN python dependencies.py service >dependencies.txt && pip install -c constraints.txt -r dependencies.txt
COPY . .
RUN pip install --no-deps .

FROM base AS service
COPY --from=service-builder /opt/venv /opt/venv
USER 10001:10001
EXPOSE 8000 8001 8002
CMD ["python", "-m", "service"]

FROM builder AS trainer-builder
RUN python dependencies.py offline >dependencies.txt && pip install -c constraints.txt -r dependencies.txt
COPY . .
RUN pip install --no-deps .

FROM base AS trainer
COPY --from=trainer-builder /opt/venv /opt/venv
USER 10001:10001
CMD ["python", "-m", "offline", "run", "--bundles", "/bundles"]
