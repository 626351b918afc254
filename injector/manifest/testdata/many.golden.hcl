# service /a: injected 
# service /b: injected 
services = [
  { name = "a", port = 1 
    connect {
      sidecar_service {
        proxy {
          config {
            injected_by = "larboard"
          }
        }
      }
    }
  },
  {
    name = "b"
    port = 2
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
]
