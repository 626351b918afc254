service { name = "web" port = 8000 }
