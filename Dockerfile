# The gateway in two stages: built on rust:bookworm, run on debian:bookworm-slim.
#
#   docker build -t tidegate .
#   docker run -p 8000:8000 -p 127.0.0.1:8001:8001 -e TIDEGATE_ADMIN_LISTEN=0.0.0.0:8001 -v tidegate:/data tidegate

FROM rust:1-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock rustfmt.toml ./
COPY proto proto
COPY bench bench
COPY migrations migrations
COPY src src
# The caches make a second build compile only what changed.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin tidegate && cp target/release/tidegate /tidegate

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 1000 --home-dir /data --shell /usr/sbin/nologin tidegate \
    && install -d -o tidegate -g tidegate /data
COPY --from=build /tidegate /usr/local/bin/tidegate
COPY LICENSE /usr/share/doc/tidegate/LICENSE
ENV TIDEGATE_PREFIX=/data
WORKDIR /data
USER tidegate
# Proxy, proxy with TLS, Admin API, Admin API with TLS, status.
EXPOSE 8000 8443 8001 8444 8007
STOPSIGNAL SIGTERM
# No ENTRYPOINT: a platform's release command replaces CMD and runs as it stands.
CMD ["tidegate", "start"]
