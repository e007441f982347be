# Each target's ## line is its help. The test and run targets install what
# they need and do not find; scripts/ says how.

GO ?= go
FUZZTIME ?= 30s
BENCH ?= .

# A failure in STRICT counts at once: no clock can excuse it. The other tests
# watch real servers in real time, beside whatever else the machine does; one
# that fails is asked again, and the summary names it. A data race, or more than
# ten failures (subtests count), are never forgiven.
STRICT = ./journal ./internal/conformance
TIMED = $(shell $(GO) list ./... | grep -vE '/(journal|internal/conformance)$$')
GOTESTSUM = $(GO) run gotest.tools/gotestsum@v1.13.0 --format standard-quiet \
	--rerun-fails --rerun-fails-max-failures 10 --rerun-fails-abort-on-data-race

.DEFAULT_GOAL := help

.PHONY: help run test race fuzz sim chaos soak bench micro lint build clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The demo is built and then run, instead of `go run`, so that a signal to
# make reaches the demo itself.
run: ## see it work: Redis, an origin, two Caddys, and what to try; Ctrl-C ends it
	@sh scripts/install-redis.sh
	@$(GO) build -o bin/demo ./internal/demo
	@bin/demo

test: ## everything that CI runs: vet, and all tests with the race detector
	@sh scripts/install-redis.sh
	@sh scripts/install-cc.sh
	$(GO) vet ./...
	CGO_ENABLED=1 $(GO) test -race -shuffle=on -timeout 20m $(STRICT)
	CGO_ENABLED=1 $(GOTESTSUM) --packages "$(TIMED)" -- -race -shuffle=on -timeout 20m
	$(GO) test ./journal -run 'TestMutants|TestSimulation|Memory' -schedules 3000 -v

race: ## the tests of one package, many times over: make race PKG=./shard COUNT=20
	@sh scripts/install-redis.sh
	@sh scripts/install-cc.sh
	CGO_ENABLED=1 $(GO) test -race -shuffle=on -count=$(or $(COUNT),10) $(or $(PKG),./...)

fuzz: ## fuzz each fuzz test for FUZZTIME (30s); `make test` runs their seeds
	@sh scripts/fuzz.sh $(FUZZTIME)

sim: ## the long simulation of invalidation, SCHEDULES (100000) schedules
	$(GO) test ./journal -run TestMutants -count 1 -v
	$(GO) test ./journal -run TestSimulation -schedules $(or $(SCHEDULES),100000) -timeout 60m -v

chaos: ## faults of all kinds under load, FOR (60s) each mode: make chaos SEED=…
	@sh scripts/install-redis.sh
	$(GO) test ./internal/chaos -run TestChaos -v -timeout 60m -for $(or $(FOR),60s) -storm 50000 $(if $(SEED),-seed $(SEED))
	$(GO) test ./queue -run TestOrderPerKey -v -long

soak: ## very many URLs through a small near cache, for SOAK (3m)
	@sh scripts/install-redis.sh
	$(GO) test ./internal/soak -v -timeout 0 -for $(or $(SOAK),3m)

bench: ## measure against Caddy alone, nginx, Varnish and asynq; writes docs/performance.md
	@sh scripts/install-redis.sh
	@sh scripts/install-bench.sh
	cd bench && $(GO) run . -run '$(BENCH)' -rounds $(or $(ROUNDS),5) $(if $(filter . queue,$(BENCH)),-doc ../docs/performance.md)

micro: ## the benchmarks beside the code, all or those that match BENCH
	@sh scripts/install-redis.sh
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...

lint: ## gofmt, vet, and golangci-lint where it is installed
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then \
		echo "not gofmt-ed:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	@if command -v golangci-lint >/dev/null 2>&1; then golangci-lint run; \
		else echo "golangci-lint is not installed: gofmt and vet alone"; fi

build: ## Caddy with this plugin, as bin/caddy
	$(GO) build -o bin/caddy ./cmd/caddy

clean: ## remove bin/
	rm -rf bin
