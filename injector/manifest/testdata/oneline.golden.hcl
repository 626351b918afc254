# service /web: injected 
service { name = "web" port = 8000 
  connect {
    sidecar_service {
      proxy {
        config {
          injected_by = "larboard"
        }
      }
    }
  }
}
