module github.com/larboard-proxy/larboard/tests/tools/taskvet

go 1.26.0

require golang.org/x/tools v0.51.0 // indirect
