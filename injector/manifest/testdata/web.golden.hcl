# service /web-1: injected 
# the front
service {
  name = "web"
  id   = "web-1"
  port = 8000 # plain
  meta {
    larboard-upstreams = "stock:9191"
  }
  check {
    tcp = "127.0.0.1:8000"
    interval = "5s"
  }
  connect {
    sidecar_service {
      proxy {
        upstreams = [
          { destination_name = "stock", local_bind_port = 9191 },
        ]
        config {
          injected_by = "larboard"
        }
      }
    }
  }
}
