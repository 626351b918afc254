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
}
