module github.com/unstale/unstale/examples/go

go 1.24

require (
	github.com/mattn/go-sqlite3 v1.14.53
	github.com/unstale/unstale/bindings-c/go v0.0.0
)

replace github.com/unstale/unstale/bindings-c/go => ../../bindings-c/go
