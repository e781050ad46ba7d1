module github.com/unstale/unstale/bindings-c/go

go 1.24
