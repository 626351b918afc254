# Who may call api: web, and nobody else. consul config write deploy/consul/intentions.hcl
Kind = "service-intentions"
Name = "api"
Sources = [
  { Name = "web", Action = "allow" },
  { Name = "*",   Action = "deny" },
]
