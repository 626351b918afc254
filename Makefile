# The commands of the project; CONTRIBUTING.md says when to use which.

GO      ?= go
FUZZTIME ?= 30s
SEEDS   ?= 10000
SOAK    ?= 30m
BENCH   ?=
# Of an image, and of the binary within it.
VERSION ?= dev
IMAGE   ?= larboard/larboard:$(VERSION)
ARCH    ?= $(shell $(GO) env GOARCH)

# Packages that run on tasks, for the analyzer of the engine's rules.
TASKS   = ./sidecar/http1 ./sidecar/http2/... ./sidecar/message ./sidecar/upstream ./sidecar/proxy
# Packages in which goroutines or loops meet, for the race detector.
RACE    = ./sidecar/... ./discovery/... ./injector/... ./observability/... ./policy/...
# Clients and conformance tests of HTTP/2 and gRPC that the tests start.
CLIENTS = h2spec grpc-interop-client grpc-interop-server ghz
# What a Kubernetes for tests consists of.
KUBERNETES = etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl

.DEFAULT_GOAL := help
.PHONY: help attack demo e2e-kubernetes test test-goroutines race lint bench fuzz soak soak-everything sim check build binaries image compose packages

help: ## list the commands
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

demo: ## the whole mesh in one terminal: three services, their sidecars, and a story
	@$(GO) run . demo

build: ## bin/larboard, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/larboard .

# The same sources make the same bytes, and the files' time is fixed, as the image shows it.
STATIC  = CGO_ENABLED=0 GOOS=linux $(GO) build -trimpath -buildvcs=false

binaries: ## bin/linux/ARCH/larboard for amd64 and arm64, byte for byte the same wherever they are built
	@set -e; for arch in amd64 arm64; do \
		GOARCH=$$arch $(STATIC) -ldflags "-s -w -X github.com/larboard-proxy/larboard/sidecar/cli.version=$(VERSION)" -o bin/linux/$$arch/larboard .; \
		touch -d @0 bin/linux/$$arch/larboard; \
		sha256sum bin/linux/$$arch/larboard; \
	done

image: binaries ## the image of ARCH (default: this machine's) as larboard/larboard:VERSION (default: dev)
	docker build -q -f deploy/docker/Dockerfile --target prebuilt --platform linux/$(ARCH) --build-arg TARGETARCH=$(ARCH) -t $(IMAGE) .

compose: image ## the images of deploy/compose that are our own; then: docker compose -f deploy/compose/docker-compose.yaml up
	GOARCH=$(ARCH) $(STATIC) -ldflags "-s -w" -o bin/linux/$(ARCH)/shop ./examples/shop
	touch -d @0 bin/linux/$(ARCH)/shop
	docker build -q -f deploy/compose/Dockerfile --target prebuilt --platform linux/$(ARCH) --build-arg TARGETARCH=$(ARCH) -t larboard/shop:$(VERSION) .

test: packages ## all tests, against a real Consul, SPIRE, Jaeger and Kubernetes too (built once: half an hour)
	@echo "Consul, SPIRE, Jaeger, Kubernetes and clients for the tests, from the build cache or built now:"
	@$(GO) run ./tests/tools/build consul spire-agent spire-server jaeger helm $(CLIENTS) $(KUBERNETES)
	@$(GO) run ./tests/tally -also tests/tools/taskvet -- -timeout 30m ./...

test-goroutines: packages ## the suites that run on the engine, on its goroutines kind
	@$(GO) run ./tests/tools/build consul jaeger $(CLIENTS)
	@LARBOARD_ENGINE=goroutines $(GO) run ./tests/tally -- -timeout 30m ./sidecar/... ./tests/e2e

race: ## unit tests under the race detector, with the engine's assertions
	@$(GO) run ./tests/tally -- -race -tags larboard_debug $(RACE)

lint: ## gofmt, go vet, staticcheck and the engine's rules (taskvet)
	@bad=$$(gofmt -l .); if [ -n "$$bad" ]; then echo "gofmt would change:"; echo "$$bad"; exit 1; fi
	$(GO) vet ./...
	cd tests/tools/taskvet && $(GO) vet ./... && $(GO) build -o ../../../bin/taskvet .
	$(GO) vet -vettool=bin/taskvet $(TASKS)
	$$($(GO) run ./tests/tools/build staticcheck) ./...

bench: ## CPU, memory and latency against HAProxy, in ratios; needs two idle CPUs (BENCH="flags")
	@.ci/packages haproxy
	@$(GO) run ./tests/bench $(BENCH)

fuzz: ## every fuzz target in turn, for FUZZTIME each (default 30s)
	@set -e; grep -rE --include='*_test.go' '^func Fuzz' . | sed -E 's/^(.*)\/[^/]*:func (Fuzz[A-Za-z0-9_]*).*/\1 \2/' | sort | \
	while read -r dir target; do \
		echo "$$dir $$target"; \
		$(GO) test "$$dir" -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) </dev/null; \
	done

soak: packages ## the end-to-end tests in their long forms: minutes under load, an agent frozen for one
	@$(GO) run ./tests/tools/build consul spire-agent spire-server jaeger $(CLIENTS)
	LARBOARD_LONG=1 LARBOARD_SOAK=3m $(GO) test -count 1 -timeout 60m -v ./tests/e2e ./tests/lifecycle

soak-everything: packages ## a mesh on Consul and SPIRE with everything that happens to one, for SOAK (default 30m), and a table of what the sidecars held
	@$(GO) run ./tests/tools/build consul spire-agent spire-server
	LARBOARD_LONG=1 LARBOARD_SOAK=$(SOAK) $(GO) test -count 1 -timeout 70m -v -run 'TestSoakEverything$$' ./tests/e2e

sim: ## thousands of simulated schedules (SEEDS, default 10000): faults by seed, and a table of what came of them
	LARBOARD_SIM_SEEDS=$(SEEDS) $(GO) test -count 1 -timeout 60m -v -run TestSchedules ./tests/sim

e2e-kubernetes: packages ## a real cluster of one node: pods are injected, meshed, restarted, captured; in its long form
	@$(GO) run ./tests/tools/build consul spire-agent spire-server $(KUBERNETES)
	LARBOARD_LONG=1 $(GO) test -count 1 -timeout 30m -v ./tests/kubernetes

attack: ## hostile HTTP/2 peers against the binary, ordinary clients beside them, and a table of what came of it
	LARBOARD_LONG=1 $(GO) test -count 1 -timeout 60m -v ./tests/attack

check: lint test ## what a change must pass

packages:
	@.ci/packages chromium containerd containernetworking-plugins curl docker-compose haproxy iproute2 iptables mariadb-client mariadb-server nftables nghttp2-client prometheus redis-server redis-tools runc gcc libc6-dev
