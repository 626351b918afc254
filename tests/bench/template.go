//go:build linux

package main

// The configurations, as templates over site.

// haproxyFields is how HAProxy's manual says to tell the endpoint where a request
// came from, and to give it an id.
const haproxyFields = `
    option forwardfor
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    unique-id-format %[uuid()]
    unique-id-header X-Request-ID`

const haproxyGlobal = `global
    nbthread 1
    maxconn 16000
    ulimit-n {{.FDs}}
    no strict-limits{{if .Buffer}}
    tune.bufsize {{.Buffer}}{{end}}
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
    ssl-default-server-options ssl-min-ver TLSv1.3
    ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256
defaults
    http-reuse always
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    timeout http-request 10s
    timeout http-keep-alive 10m@splice
`

// haproxyOne gives session tickets as HAProxy does by default, unless NoTickets: with
// client certificates they cost it a third of a handshake.
const haproxyOne = `frontend http
    mode http
    bind {{.HTTP}}@fields
    default_backend http_origin
frontend https
    mode http
    bind {{.HTTPS}} ssl crt {{.Files.Site.Both}}@fields
    default_backend http_origin
{{if .WantMutual}}frontend mutual
    mode http
    bind {{.Mutual}} ssl crt {{.Files.Far.Both}} ca-file {{.Files.CA}} verify required{{if .NoTickets}} no-tls-tickets{{end}}@fields
    default_backend http_origin
{{end}}{{if .WantH2}}frontend h2
    mode http
    bind {{.H2}} proto h2@fields
    default_backend h2_origin
frontend h2_down
    mode http
    bind {{.H2Down}} proto h2@fields
    default_backend http_origin
frontend h2_tls
    mode http
    bind {{.H2TLS}} ssl crt {{.Files.Site.Both}} alpn h2,http/1.1@fields
    default_backend http_origin
backend h2_origin
    mode http
    server origin {{.Origin.H2}} proto h2
{{end}}frontend tcp
    mode tcp
    bind {{.TCP}}
    default_backend tcp_origin
frontend bulk
    mode tcp
    bind {{.Bulk}}
    default_backend bulk_origin
backend http_origin
    mode http
    server origin {{.Origin.HTTP}}
backend tcp_origin
    mode tcp
    server origin {{.Origin.Echo}}
backend bulk_origin
    mode tcp
    server origin {{.Origin.Bulk}}
`

const haproxyNear = `frontend near
    mode http
    bind {{.Near}}@fields
    default_backend far
backend far
    mode http
    server far {{.Far}} ssl crt {{.Files.Near.Both}} ca-file {{.Files.CA}} verify required sni str(bench.test)
`

const haproxyFar = `frontend far
    mode http
    bind {{.Far}} ssl crt {{.Files.Far.Both}} ca-file {{.Files.CA}} verify required no-tls-tickets
    default_backend http_origin
backend http_origin
    mode http
    server origin {{.Origin.HTTP}}
`

const larboardGlobal = `loops: 1
access_log: "off"
timeouts: {connect: 5s, request_head: 10s, idle: 10m, response_head: 10m, tunnel: 10m}
`

const larboardOne = `{{if .WantMutual}}identity: {files: {cert: {{.Files.Far.Cert}}, key: {{.Files.Far.Key}}, bundle: {{.Files.CA}}}}
{{end}}listeners:
{{if .WantMutual}}- name: mutual
  address: {{.Mutual}}
  protocol: http
  tls: {spiffe: {}}
  service: http_origin
{{end}}{{if .WantH2}}- name: h2
  address: {{.H2}}
  protocol: http
  service: h2_origin
- name: h2_down
  address: {{.H2Down}}
  protocol: http
  service: http_origin
- name: h2_tls
  address: {{.H2TLS}}
  protocol: http
  tls: {certificates: [{cert: {{.Files.Site.Cert}}, key: {{.Files.Site.Key}}}]}
  service: http_origin
{{end}}- name: http
  address: {{.HTTP}}
  protocol: http
  service: http_origin
- name: https
  address: {{.HTTPS}}
  protocol: http
  tls: {certificates: [{cert: {{.Files.Site.Cert}}, key: {{.Files.Site.Key}}}]}
  service: http_origin
- name: tcp
  address: {{.TCP}}
  protocol: tcp
  service: tcp_origin
- name: bulk
  address: {{.Bulk}}
  protocol: tcp
  service: bulk_origin
services:
{{if .WantH2}}- name: h2_origin
  protocol: http2
  endpoints: ["{{.Origin.H2}}"]
{{end}}- name: http_origin
  endpoints: ["{{.Origin.HTTP}}"]
- name: tcp_origin
  endpoints: ["{{.Origin.Echo}}"]
- name: bulk_origin
  endpoints: ["{{.Origin.Bulk}}"]
`

// larboardSinks are those that take everything, larboardBroken those that take nothing:
// a collector that is away, a full disk, a syslog server that hangs.
const larboardSinks = `access_log: {path: {{.Dir}}/access.log, format: json}
tracing: {otlp: {endpoint: "{{.Sinks.OTLP}}"}, sample: 1%}
`

const larboardBroken = `access_log:
- {path: /dev/full, format: json}
- {syslog: {address: "tcp://{{.Sinks.Hanging}}"}, format: json}
tracing: {otlp: {endpoint: "http://127.0.0.1:1"}, sample: 1%}
`

const larboardEverything = `loops: 1
timeouts: {connect: 5s, request_head: 10s, idle: 10m, response_head: 10m, tunnel: 10m}
listeners:
- name: http
  address: {{.HTTP}}
  protocol: http
  routes:
  - service: http_origin
    limits: [{name: client, rate: 10000000/s, burst: 10000000, by: source}]
services:
- name: http_origin
  endpoints: ["{{.Origin.HTTP}}"]
  retries: {attempts: 3, on: [connect_failure, refused_stream, reset, 5xx]}
  breaker: {}
  ejection: {}
`

const larboardNear = `identity: {files: {cert: {{.Files.Near.Cert}}, key: {{.Files.Near.Key}}, bundle: {{.Files.CA}}}}
listeners:
- name: near
  direction: outbound
  address: {{.Near}}
  protocol: http
  service: far
services:
- name: far
  endpoints: [{address: "{{.Far}}", spiffe_id: "spiffe://bench.test/ns/default/dc/dc1/svc/far"}]
  tls: {spiffe: {}}
`

const larboardFar = `identity: {files: {cert: {{.Files.Far.Cert}}, key: {{.Files.Far.Key}}, bundle: {{.Files.CA}}}}
listeners:
- name: far
  address: {{.Far}}
  protocol: http
  tls: {spiffe: {}}
  allow: ["spiffe://bench.test/ns/default/dc/dc1/svc/near"]
  service: http_origin
services:
- name: http_origin
  endpoints: ["{{.Origin.HTTP}}"]
`

const larboardDiscovery = `consul: {address: "{{.Agent}}"}
listeners:
- name: http
  address: {{.HTTP}}
  protocol: http
  service: web
services:
- name: web
  discovery: {consul: {service: web, on_empty: accept}}
`
