# syntax=docker/dockerfile:1
#
# The image of Afflux: one binary, run as 65532, on a root file system that may be read-only.
#
#   docker build -t afflux:local .
#
# With an SBOM and the record of how it was built, as attestations (BuildKit; `--push` or `--output type=oci`, since
# the classic image store does not keep attestations):
#
#   docker buildx build --sbom=true --provenance=mode=max -t REGISTRY/afflux:TAG --push .
#   docker buildx imagetools inspect REGISTRY/afflux:TAG --format '{{ json .SBOM }}'
#
# What is compiled is fixed by Cargo.lock. To fix the base images as well, give them with their digests:
#
#   --build-arg RUST_IMAGE=rust:1.95-bookworm@sha256:…
#   --build-arg BASE_IMAGE=gcr.io/distroless/cc-debian12:nonroot@sha256:…
#
# and SOURCE_DATE_EPOCH=$(git log -1 --format=%ct), which BuildKit takes for the times in the image
# (`--output type=oci,rewrite-timestamp=true`).

ARG RUST_IMAGE=rust:1.95-bookworm
ARG BASE_IMAGE=gcr.io/distroless/cc-debian12:nonroot

# Crates are linked into the binary, where no scanner finds them: the SBOM takes them from Cargo.lock in the context.
ARG BUILDKIT_SBOM_SCAN_CONTEXT=true

FROM ${RUST_IMAGE} AS build
# Another profile, such as one for size, is `--build-arg PROFILE=NAME`.
ARG PROFILE=release
ENV CARGO_TERM_COLOR=never
# Paths are part of panic messages: always the same ones.
WORKDIR /src
COPY . .
# Caches of the builder, not of the image: a second build compiles what has changed.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --locked --profile "$PROFILE" --bin afflux \
 && mkdir -p /out/data \
 && cp "target/$PROFILE/afflux" /out/afflux \
 && strip /out/afflux
# What the base image has: anything else would be missed only at the start. And a limit to what is pulled, which with the
# base image, some 10 MB, is to stay below 80 MB.
RUN set -eu; \
    ldd /out/afflux | awk '{ print $1 }' \
      | grep -Ev '^(linux-vdso|libc|libm|libgcc_s|libpthread|libdl|librt)\.so|^/lib.*/ld-linux' > /tmp/missing || true; \
    if [ -s /tmp/missing ]; then echo 'the base image lacks:' >&2; cat /tmp/missing >&2; exit 1; fi; \
    bytes=$(gzip -c /out/afflux | wc -c); \
    echo "binary: $(wc -c < /out/afflux) bytes, compressed $bytes"; \
    test "$bytes" -lt 70000000

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="Afflux" \
      org.opencontainers.image.description="A telemetry pipeline: OpenTelemetry and Kubernetes events over a durable bus" \
      org.opencontainers.image.source="https://github.com/afflux/afflux" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/afflux /afflux
COPY LICENSE /usr/share/doc/afflux/LICENSE
# Only for `up` and the local bus; with Kafka nothing is written, and the root file system may be read-only.
COPY --from=build --chown=65532:65532 /out/data /data
WORKDIR /data
USER 65532:65532
# OTLP over gRPC and HTTP; health, metrics and status. They listen on 127.0.0.1 unless configured.
EXPOSE 4317 4318 9464
# There is no shell and no curl. Fails while a component is not ready.
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["/afflux", "health"]
ENTRYPOINT ["/afflux"]
