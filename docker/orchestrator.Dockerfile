# Prefect server, MLflow server, and the workers of the pools `cpu` and `llm`: one image, and the command says which.
#   docker build -f docker/orchestrator.Dockerfile -t posttrain/orchestrator:0.4.0 .
# A tag can move; `docker buildx imagetools inspect TAG` prints the digest that pins it: --build-arg BASE=TAG@sha256:…
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
WORKDIR /opt/posttrain/src
# pip knows no overrides, and the project needs those of its pyproject.toml.
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir uv==0.13.9
COPY pyproject.toml README.md LICENSE ./
COPY docker/constraints.txt docker/
# Dependencies before code: a change of the code leaves this layer, the large one, as it is.
RUN python3 -m venv --without-pip /opt/posttrain \
    && /opt/uv/bin/uv pip install --no-cache --python /opt/posttrain/bin/python --constraints docker/constraints.txt \
        --requirements pyproject.toml --extra stack --extra pools --extra postgres
COPY flows flows
COPY tasks tasks
COPY infra infra
COPY deployments deployments
# Editable: the code finds the deployments beside it, as in a checkout.
RUN /opt/uv/bin/uv pip install --no-cache --no-deps --python /opt/posttrain/bin/python --editable .

FROM ${BASE}
ARG VERSION=0.4.0
LABEL org.opencontainers.image.title="posttrain orchestrator" \
      org.opencontainers.image.description="Prefect server, MLflow server and the workers that need no GPU" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# bubblewrap: the jail of graded code (see compose.yaml for the rights that it needs); tini: reaps what a worker leaves.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap ca-certificates tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 posttrain \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin posttrain \
    && install --directory --owner=posttrain --group=posttrain /var/lib/posttrain /home/posttrain/empty
COPY --from=build /opt/posttrain /opt/posttrain
COPY docker/profile.toml /etc/posttrain/profile.toml
ENV PATH=/opt/posttrain/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PREFECT_HOME=/home/posttrain/.prefect \
    POSTTRAIN_PROFILE=/etc/posttrain/profile.toml \
    DO_NOT_TRACK=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    VLLM_NO_USAGE_STATS=1 \
    TOKENIZERS_PARALLELISM=false \
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT=true \
    GIT_PYTHON_REFRESH=quiet
USER 10001:10001
# Prefect copies the folder that a container starts in, as if it were the flow's code; ours is installed.
WORKDIR /home/posttrain/empty
# Says that the installation is whole; a service asks its own server instead (compose.yaml).
HEALTHCHECK --interval=60s --timeout=20s --start-period=30s CMD ["posttrain", "--help"]
ENTRYPOINT ["tini", "--"]
CMD ["posttrain", "--help"]
