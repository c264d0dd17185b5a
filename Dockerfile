# One image for every container of compose.yaml: authority, nodes, client. Nothing is fetched while it is built from
# programs that are there (`packaged`); `built` makes them of this tree, with crates from the registry.
ARG BASE_IMAGE=debian:12-slim
ARG BUILD_IMAGE=rust:1.95-slim-bookworm

FROM ${BASE_IMAGE} AS base
# Volumes that are new take owners and modes from these folders. One user is enough: nobody has a capability.
RUN groupadd --gid 990 fogmix && useradd --uid 990 --gid 990 --no-create-home --home-dir /home/fogmix fogmix \
  && install -d -o fogmix -g fogmix -m 0750 /etc/fogmix /run/fogmix /var/lib/fogmix /home/fogmix \
  && install -d -o fogmix -g fogmix -m 0755 /shared/network /shared/nodes /shared/tokens
COPY compose/node compose/authority /usr/libexec/fogmix/
USER fogmix
WORKDIR /home/fogmix

# Of the folder that `systemd/build-release programs` fills.
FROM base AS packaged
ARG PROGRAMS=programs
COPY ${PROGRAMS}/mixnode ${PROGRAMS}/mixctld ${PROGRAMS}/mixctl ${PROGRAMS}/fog /usr/bin/

FROM ${BUILD_IMAGE} AS source
ARG FOGMIX_COMMIT=unknown
WORKDIR /source
COPY . .
RUN FOGMIX_COMMIT=${FOGMIX_COMMIT} CARGO_PROFILE_RELEASE_STRIP=symbols \
  cargo build --locked --release --bin mixnode --bin mixctld --bin mixctl --bin fog

FROM base AS built
COPY --from=source /source/target/release/mixnode /source/target/release/mixctld /source/target/release/mixctl \
  /source/target/release/fog /usr/bin/
