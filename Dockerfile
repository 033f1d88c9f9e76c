# The image of joulefloor: `docker build -t joulefloor .`
#
# Build arguments: EXTRAS are optional parts of joulefloor (of pyproject.toml), BASE another Python
# 3.11 or newer on Debian. `--target sbom --output .` writes only the list of what the image holds.
# Nothing of ours is compiled, so the same file builds on amd64 and arm64.

ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS wheel
RUN python -m venv /build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
RUN /build/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM ${BASE} AS install
ARG EXTRAS=auth,kubernetes
COPY --from=wheel /wheel /wheel
# A venv without pip, filled by the pip of another, is all that the image gets.
# Bytecode that no start compares with its source: nothing changes on a read-only root.
RUN python -m venv /build && python -m venv --without-pip /opt/joulefloor \
 && /build/bin/pip --python /opt/joulefloor/bin/python install --no-cache-dir --no-compile \
      "$(echo /wheel/*.whl)${EXTRAS:+[$EXTRAS]}" \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/joulefloor/lib
COPY docker/sbom.py /build/sbom.py
RUN /opt/joulefloor/bin/python /build/sbom.py >/opt/joulefloor/sbom.cdx.json

FROM scratch AS sbom
COPY --from=install /opt/joulefloor/sbom.cdx.json /

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="joulefloor" \
      org.opencontainers.image.description="Prometheus exporter for the energy cost of AI" \
      org.opencontainers.image.url="https://github.com/joulefloor/joulefloor" \
      org.opencontainers.image.source="https://github.com/joulefloor/joulefloor" \
      org.opencontainers.image.documentation="https://github.com/joulefloor/joulefloor#readme" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=install /opt/joulefloor /opt/joulefloor
# The official images come without bytecode of the standard library; on a read-only root every start
# and every health check would compile it again.
RUN python -m compileall -q --invalidation-mode unchecked-hash \
      -x '/(site-packages|dist-packages|test|tests|idlelib|lib2to3|ensurepip|tkinter|turtledemo)/' \
      "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
ENV PATH=/opt/joulefloor/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Nobody, by number: Kubernetes can check that a number is not root.
USER 65534:65534
WORKDIR /
EXPOSE 13806
STOPSIGNAL SIGTERM
# Asks this container's own /healthz over a bare socket: an HTTP client costs more to import than to use.
# With TLS, passwords or another port, run with --no-healthcheck and let the orchestrator ask.
HEALTHCHECK --interval=60s --timeout=5s --start-period=10s \
  CMD ["python", "-ISc", "import socket; s = socket.create_connection(('127.0.0.1', 13806), 3); s.sendall(b'GET /healthz HTTP/1.0\\r\\n\\r\\n'); raise SystemExit(b' 200 ' not in s.recv(64))"]
ENTRYPOINT ["joulefloor", "run"]
