# comet in a container: the same scripts as on a bare host, a small image, no root.
#   docker build -t comet .
#   docker build -t comet --build-arg BUILD_IMAGE=IMAGE .   # with GPU code; IMAGE: Debian 12 with the CUDA 13 toolkit
# How to make that image, and how to run this one, in Kubernetes too: server/deployment.md
ARG BUILD_IMAGE=debian:12
FROM ${BUILD_IMAGE} AS build
ARG BUILD_IMAGE
WORKDIR /src
COPY scripts/install_deps.sh scripts/install_deps.sh
RUN scripts/install_deps.sh build
COPY . .
# An image named for its toolkit must have one.
RUN if [ "$BUILD_IMAGE" = debian:12 ]; then gpu=--cpu; else gpu=--cuda; fi \
 && scripts/build.sh "$gpu" release comet && strip build/release/bin/comet \
 && scripts/copy_licenses.sh /licenses build/release/bin/comet

# CUDA's runtime is linked in and the driver is the host's, so a GPU needs nothing more here.
FROM debian:12-slim
COPY scripts/install_deps.sh /tmp/install_deps.sh
# A fixed id, so that a volume can be made readable for it.
RUN /tmp/install_deps.sh runtime && rm -rf /var/lib/apt/lists/* /tmp/install_deps.sh \
 && useradd --system --uid 999 --user-group --no-create-home comet
COPY --from=build /src/build/release/bin/comet /usr/local/bin/comet
# Of comet and what is compiled in; the packages bring their own.
COPY --from=build /licenses /usr/share/doc/comet
# `comet bench` looks for configs/ where it runs.
WORKDIR /usr/share/comet
COPY configs configs
# By number: Kubernetes' runAsNonRoot cannot look a name up.
USER 999:999
EXPOSE 8000 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD curl -fsS http://127.0.0.1:8000/ready || exit 1
ENTRYPOINT ["comet"]
CMD ["serve", "--model", "/model", "--host", "0.0.0.0"]
