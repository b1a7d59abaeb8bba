# Where a stranger's program runs: Python and a C++ compiler, nothing of ours, no network.
#   docker build -f docker/sandbox.Dockerfile -t posttrain/sandbox:0.4.0 docker
#   docker run --rm --network none --read-only --tmpfs /tmp:rw,exec,mode=1777,size=64m --cap-drop ALL \
#     --security-opt no-new-privileges --pids-limit 64 --memory 1g posttrain/sandbox:0.4.0 python3 PROGRAM
# A tag can move; `docker buildx imagetools inspect TAG` prints the digest that pins it: --build-arg BASE=TAG@sha256:…
ARG BASE=debian:bookworm-20251229-slim

FROM ${BASE}
ARG VERSION=0.4.0
LABEL org.opencontainers.image.title="posttrain sandbox" \
      org.opencontainers.image.description="Python and g++ for graded programs" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# A base that has all three is taken as it is, so that the image can be made where there is no network.
RUN { command -v g++ && command -v python3 && command -v tini; } \
    || { apt-get update \
        && apt-get install --yes --no-install-recommends g++ python3 tini \
        && rm -rf /var/lib/apt/lists/*; }
# Most programs include all of the standard library, which takes the compiler a second to read; so it is read once, for
# the flags that CppConfig (infra/sandbox/cpp.py) has by default. -I/opt/headers finds it first.
RUN mkdir -p /opt/headers/bits \
    && echo '#include <bits/stdc++.h>' >/opt/headers/all.h \
    && g++ -O2 -std=c++20 -x c++-header /opt/headers/all.h -o /opt/headers/bits/stdc++.h.gch
# A fixed hash seed: the order of sets must not decide a verdict.
ENV LANG=C.UTF-8 \
    HOME=/tmp \
    PYTHONHASHSEED=0
USER 65534:65534
WORKDIR /tmp
HEALTHCHECK --interval=60s --timeout=5s CMD ["python3", "-I", "-S", "-c", "pass"]
ENTRYPOINT ["tini", "--"]
CMD ["python3", "-I", "-c", "print('give a command, such as: python3 program.py')"]
