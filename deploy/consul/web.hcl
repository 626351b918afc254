# web listens on 127.0.0.1:8080 and calls api at 127.0.0.1:9191. Its proxy, which Consul calls a
# sidecar, takes ports and upstreams from here: larboard run --sidecar-for web
#
#	consul services register deploy/consul/web.hcl      (or a file in the agent's -config-dir)
service {
  name = "web"
  port = 8080

  check {
    name     = "web answers"
    http     = "http://127.0.0.1:8080/health"
    interval = "2s"
    timeout  = "1s"
  }

  connect {
    sidecar_service {
      port = 20000
      proxy {
        local_service_address = "127.0.0.1"
        config {
          protocol = "http"
        }
        upstreams {
          destination_name = "api"
          local_bind_port  = 9191
          config {
            protocol = "http"
          }
        }
      }
    }
  }
}
