# Images of Nuncio:
#   docker build --target nuncio -t nuncio .                Control plane
#   docker build --target nuncio-envoy -t nuncio-envoy .    Envoy pod
#
# images/assemble decides what is in them; the tests run the same files without a container runtime. They are based on
# nothing: what a distroless base would bring (libc, certificate authorities, a user) comes from the build stage, in the
# versions that the programs were linked with. Envoy comes from its wheel on PyPI, whose hash is in
# e2e/tools/requirements.txt, and every crate from Cargo.lock. For a reproducible build, pin the build stage too:
# --build-arg BUILD_IMAGE=docker.io/library/rust@sha256:...
ARG BUILD_IMAGE=docker.io/library/rust:1.95.0-slim-bookworm

FROM ${BUILD_IMAGE} AS build
RUN apt-get update \
  && apt-get install --no-install-recommends --yes ca-certificates gcc libc6-dev python3 python3-pip \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --profile dist --locked --package nuncio && strip target/dist/nuncio
RUN e2e/tools/install envoy
RUN images/assemble nuncio /image/nuncio && images/assemble nuncio-envoy /image/nuncio-envoy

FROM scratch AS nuncio
COPY --from=build /image/nuncio/ /
# any other user works, too
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/nuncio"]
CMD ["operator"]

FROM scratch AS nuncio-envoy
COPY --from=build /image/nuncio-envoy/ /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/nuncio"]
CMD ["envoy"]
