# One image for all phases: docker run IMAGE setup.py http://…/dataset.csv
FROM ghcr.io/astral-sh/uv:0.9 AS uv

FROM docker.io/library/python:3.13-slim AS build
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /app
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=uv.lock,target=/app/uv.lock \
    --mount=type=bind,source=pyproject.toml,target=/app/pyproject.toml \
    uv sync --locked --no-install-project --no-dev --extra samples
COPY pyproject.toml uv.lock README.md LICENSE ./
COPY testbench testbench
RUN --mount=type=cache,target=/root/.cache/uv uv sync --locked --no-editable --no-dev --extra samples

FROM docker.io/library/python:3.13-slim
LABEL org.opencontainers.image.title="Testbench" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.description="Decides whether an AI agent is good enough to ship"
RUN useradd --uid 10001 --user-group --no-create-home testbench && install -d -m 2775 -o 10001 -g 10001 /app/data
COPY --from=build /app/.venv /app/.venv
COPY testbench /app/testbench
COPY --chmod=755 docker-entrypoint.sh /usr/local/bin/phase
ENV PATH=/app/.venv/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    RAGAS_DO_NOT_TRACK=true DEEPEVAL_TELEMETRY_OPT_OUT=1
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["phase"]
CMD ["pipeline.py", "--help"]
