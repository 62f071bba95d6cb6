# Two stages, so that no compiler, no pip and no cache is in what runs. Each package is the one whose hash requirements.lock has.
# BASE is an image of Debian with Python 3.11 or newer and its venv module. Whoever wants the same base again names its digest:
#   docker build --build-arg BASE=python:3.12-slim-bookworm@sha256:… .
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE} AS build
WORKDIR /src
COPY requirements.lock ./
COPY deploy/locks/build.lock deploy/locks/
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r deploy/locks/build.lock \
    && python3 -m venv --without-pip /opt/gateway \
    && /opt/build/bin/pip --python /opt/gateway/bin/python install --no-cache-dir --require-hashes \
        --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md ./
COPY gateway gateway
COPY deploy/avara-gateway.1 deploy/
RUN /opt/build/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /wheel . \
    && /opt/build/bin/pip --python /opt/gateway/bin/python install --no-deps --no-index /wheel/*.whl

FROM ${BASE}
RUN useradd --system --uid 10001 --home-dir /var/lib/avara-gateway --create-home avara
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /var/lib/avara-gateway
VOLUME /var/lib/avara-gateway
EXPOSE 8080 11112
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=8)"]
ENTRYPOINT ["avara-gateway"]
CMD ["serve", "-c", "/etc/avara-gateway/gateway.yaml"]
