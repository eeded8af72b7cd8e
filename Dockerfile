# One image for all phases: docker run IMAGE setup http://…/dataset.csv, or setup.py as its script is called
#
# The final stage has Python, the locked dependencies and Testbench: no uv, no pip, no development tools. It runs as a
# user without rights, with any group, and on a read-only root; only /app/data (a volume) and /tmp need to be writable.

ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim
ARG UV_IMAGE=ghcr.io/astral-sh/uv:0.13

FROM ${UV_IMAGE} AS uv

FROM ${PYTHON_IMAGE} AS build
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /app

# Packages that a dependency names and that nothing of Testbench ever imports (sizes unpacked):
#   scikit-network (35 MB), networkx (19 MB)      RAGAS's generator of test sets
#   sqlalchemy (28 MB), langchain-classic (15 MB)  databases and chains of langchain-community, of which RAGAS needs two classes
#   langchain, langgraph and its parts (8 MB)      agents; RAGAS imports langchain-core
#   hf-xet (11 MB)                                 downloads from the Hugging Face Hub
#   robotframework (8 MB)                          of robotframework-dashboard only the Chart.js file is read
ENV SYNC="--locked --no-dev --extra arena --extra operator \
    --no-install-package scikit-network --no-install-package networkx \
    --no-install-package sqlalchemy --no-install-package langchain-classic \
    --no-install-package langchain --no-install-package langgraph --no-install-package langgraph-sdk \
    --no-install-package langgraph-prebuilt --no-install-package langgraph-checkpoint \
    --no-install-package hf-xet --no-install-package robotframework"

# Files of installed packages that nothing of Testbench ever loads:
#   */tests              the packages' own tests (113 MB, pandas alone 43 MB)
#   pyarrow: *flight*    Arrow's RPC (33 MB)
#   pyarrow: *s3*        Arrow's own S3 client (18 MB): obstore reads S3; pyarrow.fs goes without it
#   pyarrow: include, src, *.pyx, *.pxd, *.pxi, libarrow_python*.so, *.so.*.*.*  for compiling against Arrow (17 MB)
#   zstandard: _cffi     the variant for PyPy (12 MB)
#   *.cpp                sources of compiled modules
#   langchain_community  its vector stores, document loaders and tools (10 MB)
#   scipy: io, signal    Matlab files and signal processing (9 MB): scipy.stats imports neither
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=uv.lock,target=/app/uv.lock \
    --mount=type=bind,source=pyproject.toml,target=/app/pyproject.toml \
    uv sync $SYNC --no-install-project \
    && cd /app/.venv/lib/python3*/site-packages \
    && find . -type d -name tests -prune -exec rm -rf {} + \
    && find . -type f -name '*.cpp' -delete \
    && rm -rf pyarrow/*flight* pyarrow/_s3fs.* pyarrow/libarrow_s3.* \
        pyarrow/include pyarrow/src pyarrow/*.pyx pyarrow/*.pxd pyarrow/*.pxi \
        pyarrow/libarrow_python*.so pyarrow/*.so.*.*.* \
        zstandard/_cffi.* \
        langchain_community/vectorstores langchain_community/document_loaders langchain_community/tools \
        scipy/io scipy/signal

COPY pyproject.toml uv.lock README.md LICENSE ./
COPY testbench testbench
# The project is installed as a link to /app/testbench, which uv does not compile.
RUN --mount=type=cache,target=/root/.cache/uv uv sync $SYNC \
    && rm -f .venv/.lock \
    && python3 -m compileall -q /app/testbench

FROM ${PYTHON_IMAGE}
COPY --from=build /app/.venv /app/.venv
COPY --from=build /app/testbench /app/testbench
COPY --chmod=755 docker-entrypoint.sh /usr/local/bin/phase
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp testbench \
    && install -d -m 2775 -o 10001 -g 10001 /app/data \
    && rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Testbench" \
      org.opencontainers.image.description="Decides whether an AI agent is good enough to ship" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="https://github.com/agentic-layer/testbench" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/app/.venv/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    RAGAS_DO_NOT_TRACK=true DEEPEVAL_TELEMETRY_OPT_OUT=1
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["phase"]
CMD ["pipeline.py", "--help"]
