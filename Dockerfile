# CPU by default; `docker build --build-arg DEVICE=cuda .` puts onnxruntime-gpu in onnxruntime's place, and a C compiler
# there, which Triton needs to launch the project's kernels.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim AS wheel

WORKDIR /source
COPY pyproject.toml setup.py MANIFEST.in README.md CHANGELOG.md LICENSE NOTICE ./
COPY streamer streamer
COPY kernels kernels
COPY clients clients
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:${PYTHON}-slim

ARG DEVICE=cpu
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --create-home --uid 10001 lipstream
WORKDIR /home/lipstream

# On Linux PyTorch's default wheels bring CUDA along. TORCH_INDEX may name an index with CPU wheels, a tenth the size.
ARG TORCH_INDEX=""
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch==2.13.0
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    pip install /dist/lipstream-*.whl \
    && if [ "$DEVICE" = cuda ]; then \
        apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/* && \
        pip uninstall -y onnxruntime && pip install onnxruntime-gpu; \
    fi

USER lipstream
EXPOSE 8080/tcp 50000-50100/udp

HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]

# A token is required (LIPSTREAM_TOKEN), for the container binds all addresses.
ENTRYPOINT ["lipstream", "serve", "--host", "0.0.0.0", "--udp-ports", "50000-50100"]
