# syntax=docker/dockerfile:1
# One image with every program of Propylon: `docker build -t propylon/propylon:0.1.0 .`
# What is copied into the last stage is compared with what the tests import (e2e/src/image/catalog.rs).

FROM docker.io/library/rust:1.95-bookworm AS build
# aws-lc-sys compiles C; setcap writes the file capability.
RUN apt-get update \
    && apt-get install -q -y --no-install-recommends cmake libcap2-bin \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
ARG PROFILE=dist
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --locked --profile "$PROFILE" \
        --package propylon-cli --package propylon-controller --package propylon-proxy \
    && mkdir /out \
    && cp "target/$PROFILE/propylon" "target/$PROFILE/propylon-controller" "target/$PROFILE/propylon-proxy" /out/
# Ports 80 and 443 on the network of the host without being root. A container that runs this program must keep
# NET_BIND_SERVICE in its capabilities: without it the kernel refuses to start a file that has it in effect.
RUN setcap cap_net_bind_service=+ep /out/propylon-proxy

# glibc, libgcc, the certificates of public authorities, and the user 65532; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Propylon" \
      org.opencontainers.image.description="Ingress controller and edge load balancer for bare-metal Kubernetes" \
      org.opencontainers.image.source="https://github.com/propylon/propylon" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /out/propylon /propylon
COPY --from=build /out/propylon-controller /propylon-controller
COPY --from=build /out/propylon-proxy /propylon-proxy
# Nothing is written to the root file system: `docker run --read-only` serves a folder of manifests as well.
USER 65532:65532
ENTRYPOINT ["/propylon"]
