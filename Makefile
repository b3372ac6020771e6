# Ledgerline. `make help` lists what can be done.
GO        ?= go
BIN       := bin/ledgerline
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS   := -s -w -X main.version=$(VERSION)
PKGS      := ./...
FUZZTIME  ?= 10s
export CGO_ENABLED ?= 0

.PHONY: help build demo run test test-race test-e2e test-crash test-gateway test-replicas test-audit test-rollout test-esdb bench fuzz golden docs lint tidy

help: ## say what each target is for
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/ledgerline, one static binary
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/ledgerline

demo: build ## tell the whole story on a temporary ledger, with six simulated phones
	$(BIN) demo --exit

run: build ## start the server on ./data
	$(BIN) serve

test: ## run every test (what CI runs)
	$(GO) vet $(PKGS)
	$(GO) test -count=1 -timeout 15m $(PKGS)

test-race: ## run every test under the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout 40m $(PKGS)

test-e2e: ## run the story tests alone, verbosely
	$(GO) test -count=1 -v -timeout 10m ./tests/e2e/...

test-gateway: ## push 2,000 extensions to a failing border gateway, with two kill -9 of the engine
	LEDGERLINE_EXTENSIONS=2000 $(GO) test -count=1 -v -timeout 30m ./tests/gateway/...

test-crash: ## kill -9 the engine 200 times under load and compare with a journal kept outside
	LEDGERLINE_KILLS=200 $(GO) test -count=1 -v -timeout 60m -run TestKill ./tests/crash/...
	LEDGERLINE_KILLS=50 $(GO) test -count=1 -v -timeout 60m -run TestKilledUnderGroups ./tests/esdb/...

test-replicas: ## two replicas, 10,000 commands, 20 kills -9; and one paused and woken five times
	LEDGERLINE_REPLICA_COMMANDS=10000 LEDGERLINE_REPLICA_KILLS=20 LEDGERLINE_REPLICA_PAUSES=5 $(GO) test -count=1 -v -timeout 60m ./tests/replicas/...

test-audit: ## 10,000 bit flips of a ledger file, and a year of 100 phones
	LEDGERLINE_FLIPS=10000 $(GO) test -count=1 -v -timeout 60m -run TestRandomBitFlips ./adapters/ledger
	LEDGERLINE_YEAR_EVENTS=20000 LEDGERLINE_YEAR_PHONES=100 $(GO) test -count=1 -v -timeout 60m ./tests/audit

test-rollout: ## 10,000 rollout codes, 100 redeemers, checked for linearizability
	LEDGERLINE_ROLLOUT_ROWS=10000 $(GO) test -count=1 -v -timeout 30m -run TestARolloutsCodesAreAcceptedOnce ./commands

test-esdb: ## run the contract against a real EventStoreDB; fails where none can be had
	LEDGERLINE_REQUIRE_ESDB=1 $(GO) test -v -timeout 20m -run Contract ./adapters/eventstoredb/...

bench: ## print the table of docs/benchmarks.md, each figure beside its limit
	$(GO) run ./tests/bench

fuzz: ## run every fuzz target for FUZZTIME (default 10s)
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; done

golden: ## rewrite the golden files of the vendor plugins from what is rendered now
	$(GO) test ./adapters/plugins/... -run Golden -update

docs: ## write the generated pages of docs/ anew
	$(GO) test ./tests/docs -update

lint: ## gofmt, vet, staticcheck and the import rules, all clean
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(GO) vet $(PKGS)
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 $(PKGS)
	$(GO) test ./tests/arch/
