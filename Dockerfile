# This file has never been built; hadolint checks it. It targets the CPU by default. `docker build --build-arg DEVICE=cuda .`
# installs the extra `gpu`, replaces onnxruntime with onnxruntime-gpu, and adds the C compiler that Triton needs to launch the
# project's kernels.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG DEVICE=cpu
# With DEVICE=cuda: another index of PyTorch's wheels, if the card's driver needs another CUDA than that of the default ones.
ARG TORCH_INDEX=""
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --create-home --uid 10001 lipstream \
    && install -d -o lipstream -g lipstream /home/lipstream/.cache /recordings

# hadolint ignore=DL3008,DL3013
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    wheel=$(echo /wheels/lipstream-*.whl) \
    && if [ "$DEVICE" = cuda ]; then \
        apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/* && \
        { [ -z "$TORCH_INDEX" ] || pip install --index-url "$TORCH_INDEX" torch==2.13.0; } && \
        pip install "$wheel[gpu]" && pip uninstall -y onnxruntime && pip install onnxruntime-gpu; \
    else \
        pip install "$wheel"; \
    fi

USER 10001
WORKDIR /home/lipstream
EXPOSE 8080/tcp 50000-50100/udp

# Every option is such a variable. LIPSTREAM_TOKEN is required, because the server listens on all addresses.
ENV LIPSTREAM_HOST=0.0.0.0 LIPSTREAM_PORT=8080 LIPSTREAM_UDP_PORTS=50000-50100

HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["python", "-c", "\
import os, ssl, urllib.request as request; \
scheme = 'https' if os.environ.get('LIPSTREAM_TLS_CERT') else 'http'; \
url = f\"{scheme}://127.0.0.1:{os.environ['LIPSTREAM_PORT']}/healthz\"; \
request.urlopen(url, timeout=2, context=ssl._create_unverified_context() if scheme == 'https' else None)"]

# `docker run … lipstream` starts the server; `docker run … lipstream doctor` runs another command.
ENTRYPOINT ["lipstream"]
