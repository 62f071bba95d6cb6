# Small and non-root. Built in two stages, so that no compiler and no pip cache is in what runs.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md ./
COPY gateway gateway
COPY config config
RUN python -m venv /opt/gateway && /opt/gateway/bin/pip install --no-cache-dir .

FROM python:3.12-slim-bookworm
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
