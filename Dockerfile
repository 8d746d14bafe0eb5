# comet in a container: the same scripts as on a bare host, a small image, no root.
#   docker build -t comet .
#   docker run -p 8000:8000 -p 50051:50051 -v /path/to/checkpoint:/model comet
FROM debian:12 AS build
WORKDIR /src
COPY scripts/install_deps.sh scripts/install_deps.sh
RUN scripts/install_deps.sh build
COPY . .
RUN scripts/build.sh --cpu release comet && strip build/release/bin/comet

FROM debian:12-slim
COPY scripts/install_deps.sh /tmp/install_deps.sh
RUN /tmp/install_deps.sh runtime && rm -rf /var/lib/apt/lists/* /tmp/install_deps.sh \
 && useradd --system --user-group --no-create-home comet
COPY --from=build /src/build/release/bin/comet /usr/local/bin/comet
COPY LICENSE /usr/share/doc/comet/LICENSE
USER comet
EXPOSE 8000 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD curl -fsS http://127.0.0.1:8000/ready || exit 1
ENTRYPOINT ["comet"]
CMD ["serve", "--model", "/model", "--host", "0.0.0.0"]
