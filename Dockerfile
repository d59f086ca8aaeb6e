# One image for all processes; the command selects one: product, resource, or the command line kaimai.
FROM node:20-bookworm-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY . .
RUN make build && npm prune --omit=dev && find dist -name "*.test.*" -delete

FROM node:20-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist/cmd ./dist/cmd
COPY --from=build /app/dist/internal ./dist/internal
COPY --from=build /app/dist/gen ./dist/gen
COPY configs ./configs
COPY migrations ./migrations
USER node
EXPOSE 8000 9000 9100 8001 9001 9101
CMD ["node", "--enable-source-maps", "dist/cmd/product/main.js", "-conf", "configs/product.yaml"]
