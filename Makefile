SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := node_modules/.bin
# The native compiler: 8 s instead of 35 s for a first build. `typescript` (6) stays for the tools that need its API.
TSC := node_modules/typescript-7/bin/tsc
PROTO := $(shell find api internal/conf third_party -name node_modules -prune -o -name '*.proto' -print)
NPM_STAMP := node_modules/.package-lock.json

# Everything runs on Node 26 or newer. Where the machine's own Node is older, a package of the npm registry is used.
NODE_MAJOR := 26
OWN_NODE := $(shell node --version 2>/dev/null)
ifneq ($(shell [ 0$(firstword $(subst ., ,$(OWN_NODE:v%=%))) -ge $(NODE_MAJOR) ] && echo new),new)
NODE_STAMP := third_party/node/node_modules/.package-lock.json
export PATH := $(CURDIR)/third_party/node/node_modules/.bin:$(PATH)
endif
# tsc does not delete the output of a source file that was removed, so a deleted test would still run.
REMOVE_ORPHANS = mkdir -p dist; find dist -name '*.js' -not -path 'dist/gen/*' 2>/dev/null | while read -r f; do \
	t=$${f\#dist/}; [ -e "$${t%.js}.ts" ] || rm -f "$$f" "$$f.map"; done

LINT_CHECKS := lint-format lint-types lint-layers lint-proto lint-breaking lint-openapi lint-dead-code

.PHONY: help run dev test test-cluster test-kubernetes coverage mutate api openapi conf-docs bff-docs lua build image-files assets bench chaos lint fmt hooks deps clean $(LINT_CHECKS)

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## start everything on this machine; Ctrl-C stops it; K8S=1 creates instances on a Kubernetes cluster; CLUSTER=1 runs clustered engines
	@$(if $(K8S),deploy/kubernetes/local/build >/dev/null;) exec node dist/cmd/kaimai/main.js up $(if $(K8S),--kubernetes) $(if $(CLUSTER),--cluster)

dev: build ## like run, and restart product and resource when a file is saved
	@exec node dist/cmd/kaimai/main.js up --watch --inspect

test: build ## run every test on private servers; T="order seckill" selects files by path, G='cancels' tests by name
	@exec node --enable-source-maps dist/test/run.js $(if $(T)$(G),,--jobs 2) $(T) $${G:+--grep "$$G"}

test-kubernetes: build ## run the tests on a real Kubernetes API server, and build its programs first (ten minutes once)
	@deploy/kubernetes/local/build >/dev/null || { [ $$? -eq 3 ] && echo "skipped: test/kubernetes" && exit 0; exit 1; }; exec node --enable-source-maps dist/test/run.js test/kubernetes

coverage: build ## run the tests (T and G as above) and write a coverage report to coverage/
	@exec $(BIN)/c8 node --enable-source-maps dist/test/run.js $(T) $${G:+--grep "$$G"}

mutate: build ## plant small bugs one at a time and list those that no test finds (docs/mutation.md); M="--count 60 --seed 1"
	@exec node --enable-source-maps dist/test/mutate/main.js $(M)

api: gen/.stamp ## generate gen/ from api/: ts-proto, error helpers, descriptor set

openapi: build ## write openapi.yaml from api/
	@node dist/cmd/openapi/main.js

conf-docs: build ## write docs/configuration.md from internal/conf/conf.proto
	@node dist/cmd/configuration/main.js

bff-docs: build ## write the table of error reasons in docs/bff.md from api/
	@node dist/cmd/bff-guide/main.js

lua: build ## write api/seckill/v1/admit.lua, the published admission script, from internal/data/redis/lua/
	@node --input-type=module -e "import { ADMIT } from './dist/internal/data/redis/lua-script.js'; process.stdout.write(ADMIT.source)" > api/seckill/v1/admit.lua

build: gen/.stamp ## compile to dist/
	@$(REMOVE_ORPHANS)
	$(TSC) -p .
	@$(MAKE) --no-print-directory assets
	@chmod +x dist/cmd/kaimai/main.js

# What the Dockerfile ships, without tests and benchmarks.
image-files: gen/.stamp
	$(TSC) -p tsconfig.image.json
	@$(MAKE) --no-print-directory assets
	@chmod +x dist/cmd/kaimai/main.js

# The files that programs read beside their code.
assets: gen/.stamp
	@mkdir -p dist/gen && cp gen/descriptor.binpb dist/gen/
	@rm -rf dist/internal/data/redis/lua && mkdir -p dist/internal/data/redis/lua && cp -r internal/data/redis/lua/. dist/internal/data/redis/lua/
	@mkdir -p dist/internal/kratos/transport/openapi/docs && cp internal/kratos/transport/openapi/docs/page.html dist/internal/kratos/transport/openapi/docs/

test-cluster: build ## Redis, RabbitMQ and PostgreSQL as clusters under faults; T=redis selects
	@exec node --enable-source-maps dist/test/run.js $(if $(T),$(addprefix test/cluster/,$(T)),test/cluster)

chaos: build ## rounds of faults under load on real processes (docs/chaos.md); C="--seed 7", "--list", "--write"
	@exec node --enable-source-maps dist/test/chaos/main.js $(C)

bench: build ## measure against references and peers (bench/README.md); B="--short" for a quick look
	@exec node --enable-source-maps dist/bench/main.js $(B)

lint: ## run every check (format, types, layers, protos, openapi.yaml, dead code) and list the failures
	@.ci/lint $(LINT_CHECKS)

fmt: $(NPM_STAMP) ## format TypeScript, JSON and protos, and apply the linter's safe fixes
	$(BIN)/biome check --write .
	$(BIN)/buf format --write

hooks: ## install a git hook that checks the format of what is committed
	git config core.hooksPath .githooks

lint-format: $(NPM_STAMP)
	$(BIN)/biome ci --error-on-warnings .

lint-types: build

lint-layers: build
	@node --enable-source-maps dist/test/run.js test/layers test/override

lint-proto: $(NPM_STAMP)
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code

lint-breaking: $(NPM_STAMP)
	@.ci/breaking

lint-openapi: build
	@node dist/cmd/openapi/main.js --check

# Git ignores gen/, but exports that only gen/ uses are in use.
lint-dead-code: gen/.stamp
	$(BIN)/knip --no-gitignore --include files,exports,types,duplicates,unresolved,unlisted

deps: $(NPM_STAMP) ## install the npm packages that package-lock.json pins

clean: ## remove the build output
	rm -rf dist gen coverage

$(NODE_STAMP): third_party/node/package-lock.json
	@echo "Node here: $(or $(OWN_NODE),none). Kaimai needs $(NODE_MAJOR) or newer and takes it from the npm registry (third_party/node)."
	@npm ci --prefix third_party/node --no-audit --no-fund --loglevel=error >/dev/null
	@[ -x third_party/node/node_modules/.bin/node ] || { echo "npm has no package of it for this platform: install Node $(NODE_MAJOR) yourself" >&2; exit 1; }
	@touch $@

# Order-only: another Node needs no other packages.
$(NPM_STAMP): package.json package-lock.json | $(NODE_STAMP)
	npm ci --no-audit --no-fund --loglevel=error
	@touch $@

gen/.stamp: $(NPM_STAMP) $(PROTO) $(wildcard cmd/protoc-gen-errors/*.ts) buf.yaml buf.gen.yaml
	$(BIN)/buf generate
	$(BIN)/buf build --as-file-descriptor-set -o gen/descriptor.binpb
	@touch $@
