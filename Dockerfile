# One image for all processes; the command selects one: product, resource, or the command line kaimai. It needs BuildKit.
# NODE_IMAGE may name a digest: docker build --build-arg NODE_IMAGE=node:26-bookworm-slim@sha256:…
ARG NODE_IMAGE=node:26-bookworm-slim

FROM ${NODE_IMAGE} AS build
RUN --mount=type=cache,id=kaimai-apt,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=kaimai-apt-lists,target=/var/lib/apt,sharing=locked \
    rm -f /etc/apt/apt.conf.d/docker-clean && apt-get update && apt-get install --yes --no-install-recommends make
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN --mount=type=cache,id=kaimai-npm,target=/root/.npm npm ci
COPY . .
# test/image.test.ts runs this line on the files that .dockerignore lets in.
RUN make image-files
# Declarations and source maps of packages are a third of them, and nothing reads them.
RUN npm prune --omit=dev && \
    find node_modules \( -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' -o -name '*.map' \) -delete

FROM ${NODE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Kaimai" \
      org.opencontainers.image.description="Flash-sale admission, orders and cloud instances as gRPC services" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# An init as PID 1: the kernel keeps from PID 1 every signal that it has no handler for, and Node takes a moment to have one.
RUN --mount=type=cache,id=kaimai-apt,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=kaimai-apt-lists,target=/var/lib/apt,sharing=locked \
    rm -f /etc/apt/apt.conf.d/docker-clean && apt-get update && apt-get install --yes --no-install-recommends tini && \
    ln -s /app/dist/cmd/kaimai/main.js /usr/local/bin/kaimai
ENV NODE_ENV=production NODE_OPTIONS=--enable-source-maps
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY configs ./configs
COPY migrations ./migrations
# The account `node` of the base image, by number: Kubernetes cannot tell from a name that it is not root.
USER 1000:1000
EXPOSE 8000 9000 9100 8001 9001 9101
ENTRYPOINT ["tini", "--"]
CMD ["node", "dist/cmd/product/main.js", "-conf", "configs/product.yaml"]
