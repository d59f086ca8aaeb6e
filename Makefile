SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := node_modules/.bin
PROTO := $(shell find api internal/conf third_party -name '*.proto')
NPM_STAMP := node_modules/.package-lock.json
# A compiled file outlives its source, and a test that was deleted would still run.
REMOVE_ORPHANS = mkdir -p dist; find dist -name '*.js' -not -path 'dist/gen/*' 2>/dev/null | while read -r f; do \
	t=$${f\#dist/}; [ -e "$${t%.js}.ts" ] || rm -f "$$f" "$$f.map"; done

.PHONY: help run test api openapi build bench lint deps clean
.PHONY: lint-format lint-types lint-layers lint-proto lint-breaking lint-openapi lint-dead-code

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## start everything on this machine; Ctrl-C stops it
	@exec node dist/cmd/kaimai/main.js up

test: build ## every test, on real servers of its own; T="order seckill" runs the files with that in their path
	@exec node --enable-source-maps dist/test/run.js $(T)

api: gen/.stamp ## generate gen/ from api/: ts-proto, error helpers, descriptor set

openapi: build ## write openapi.yaml from api/
	@node dist/cmd/openapi/main.js

build: gen/.stamp ## compile to dist/
	@$(REMOVE_ORPHANS)
	$(BIN)/tsc -p .
	@mkdir -p dist/gen && cp gen/descriptor.binpb dist/gen/
	@mkdir -p dist/internal/data/redis/lua && cp internal/data/redis/lua/*.lua dist/internal/data/redis/lua/
	@mkdir -p dist/internal/kratos/transport/openapi/docs && cp internal/kratos/transport/openapi/docs/page.html dist/internal/kratos/transport/openapi/docs/
	@chmod +x dist/cmd/kaimai/main.js

bench: build ## measure against references and peers: bench/README.md; B="--short" for a quick look
	@exec node --enable-source-maps dist/bench/main.js $(B)

lint: lint-format lint-types lint-layers lint-proto lint-breaking lint-openapi lint-dead-code ## format, types, layers, protos, openapi.yaml, dead code

lint-format: $(NPM_STAMP)
	$(BIN)/biome ci --error-on-warnings .

lint-types: build

lint-layers: build
	$(BIN)/mocha --reporter dot dist/test/layers.test.js

lint-proto: $(NPM_STAMP)
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code

lint-breaking: $(NPM_STAMP)
	@.ci/breaking

lint-openapi: build
	@node dist/cmd/openapi/main.js --check

# gen/ is ignored by git, and uses what would else look unused.
lint-dead-code: gen/.stamp
	$(BIN)/knip --no-gitignore --include files,exports,types,duplicates,unresolved,unlisted

deps: $(NPM_STAMP) ## npm packages, as package-lock.json pins them

clean: ## remove what was built
	rm -rf dist gen

$(NPM_STAMP): package.json package-lock.json
	npm ci --no-audit --no-fund --loglevel=error
	@touch $@

gen/.stamp: $(NPM_STAMP) $(PROTO) $(wildcard cmd/protoc-gen-errors/*.ts) buf.yaml buf.gen.yaml
	$(BIN)/buf generate
	$(BIN)/buf build --as-file-descriptor-set -o gen/descriptor.binpb
	@touch $@
