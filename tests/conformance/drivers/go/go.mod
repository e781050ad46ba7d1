module github.com/unstale/unstale/tests/conformance/drivers/go

go 1.24

require github.com/unstale/unstale/bindings-c/go v0.0.0

replace github.com/unstale/unstale/bindings-c/go => ../../../../bindings-c/go
