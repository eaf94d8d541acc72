# Only the two static programs: no shell, no package. The lock file, the toolchain's version and the folder are the same in
# every build; for identical bytes also pin the digest of the first image.
FROM rust:1.95-alpine AS build
RUN apk add --no-cache musl-dev
WORKDIR /src
COPY . .
RUN cargo build --locked --release -p etcd-sync -p etcd-sync-monitor

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/release/etcd-sync /src/target/release/etcd-sync-monitor /usr/local/bin/
ENV PATH=/usr/local/bin
USER 65532:65532
CMD ["etcd-sync", "--help"]
