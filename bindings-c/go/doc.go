// Package unstale keeps in-process caches fresh across services: when one process invalidates a key, every other process
// that shares the broker drops it within milliseconds, and no read is ever staler than a bound, whatever happens to the
// network.
//
//	client, err := unstale.Connect(ctx, unstale.Config{URL: "mqtt://localhost"})
//	products, err := unstale.OpenCache[*Product](client, "products", unstale.CacheConfig{})
//	product, err := products.GetOrLoad(ctx, "lamp:7", func(ctx context.Context) (*Product, error) {
//		return db.Product(ctx, "lamp:7")
//	})
//	// After a write to the database:
//	products.Invalidate("lamp:7")
//
// Values are live: a hit returns the very value that was stored, without decoding, so what it points to is shared with all
// readers and must not be changed. Every function may be called from any goroutine.
//
// The package is a thin layer over the C library libunstale, which `make capi` builds and pkg-config finds; see docs/go.md.
package unstale
