SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := node_modules/.bin
PROTO := $(shell find api internal/conf third_party -name '*.proto')
NPM_STAMP := node_modules/.package-lock.json

.PHONY: help deps api build clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: $(NPM_STAMP) ## npm packages, as package-lock.json pins them

$(NPM_STAMP): package.json package-lock.json
	npm ci --no-audit --no-fund --loglevel=error
	@touch $@

api: gen/.stamp ## generate gen/ from api/ (ts-proto, error helpers, descriptor set)

gen/.stamp: $(NPM_STAMP) $(PROTO) buf.yaml buf.gen.yaml
	$(BIN)/buf generate
	$(BIN)/buf build --as-file-descriptor-set -o gen/descriptor.binpb
	@touch $@

build: gen/.stamp ## compile to dist/
	$(BIN)/tsc -p .
	@mkdir -p dist/gen && cp gen/descriptor.binpb dist/gen/

clean: ## remove what was built
	rm -rf dist gen
