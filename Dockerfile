# 4 workers under supervisord. Keys and the MongoDB URL are mounted as files: see docker-compose.yml.

# Build tools stay in this stage.
FROM python:3.13.13-slim AS build
WORKDIR /build
COPY confs/docker/uv.txt ./
RUN python -m venv /opt/uv \
 && /opt/uv/bin/pip install --quiet --disable-pip-version-check --no-cache-dir --require-hashes --requirement uv.txt
COPY pyproject.toml uv.lock ./
# Install only the server's dependencies, pinned by hash, and only wheels, because there is no compiler.
RUN python -m venv --without-pip /opt/venv \
 && /opt/uv/bin/uv export --quiet --frozen --no-default-groups --extra server --no-emit-project --output-file requirements.txt \
 && /opt/uv/bin/uv pip install --quiet --no-cache --python /opt/venv/bin/python --only-binary :all: --compile-bytecode \
      --require-hashes --requirements requirements.txt
WORKDIR /app
COPY src src
COPY confs confs
# Compile to bytecode here, because the root file system may be read-only.
RUN /opt/venv/bin/python -m compileall -q src

FROM python:3.13.13-slim
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Sealpost" \
      org.opencontainers.image.description="A self-hosted backend for words that should not outlive their purpose." \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.licenses="MIT"
# The container has no package installer.
RUN groupadd --gid 10001 sealpost \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /app --shell /usr/sbin/nologin sealpost \
 && python -c "import importlib.util as modules, pathlib, shutil; [shutil.rmtree(pathlib.Path(found.origin).parent) \
      for name in ('ensurepip', 'pip') if (found := modules.find_spec(name))]" \
 && rm -f /usr/local/bin/pip*
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    APP_MODULE=src.app \
    RUN_DIR=/run/sealpost \
    LOG_DIR=/app/logs \
    METRICS_DIR=/tmp/metrics
RUN install -d -o sealpost -g sealpost -m 0750 "$RUN_DIR" "$LOG_DIR"
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 CMD ["python", "-m", "src.stack.healthcheck"]
CMD ["python", "-m", "supervisor.supervisord", "-c", "confs/supervisor/supervisord.conf"]
