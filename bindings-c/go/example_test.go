package unstale_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	unstale "github.com/unstale/unstale/bindings-c/go"
)

// The code in docs/go.md is taken from here, word for word; a test sees to it.

type Product struct {
	Name  string
	Cents int
}

// database stands for the source of truth.
type database map[string]*Product

func (db database) Product(_ context.Context, sku string) (*Product, error) {
	if p := db[sku]; p != nil {
		return p, nil
	}
	return nil, errNoRow
}

func (db database) SetPrice(sku string, cents int) error {
	db[sku] = &Product{db[sku].Name, cents}
	return nil
}

var errNoRow = errors.New("no such row")

func Example() {
	db := database{"lamp:7": {"lamp", 999}}
	ctx := context.Background()

	client, err := unstale.Connect(ctx, unstale.Config{URL: "memory://shop"}) // or mqtt://localhost
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	products, err := unstale.OpenCache[*Product](client, "products", unstale.CacheConfig{TTL: time.Hour})
	if err != nil {
		log.Fatal(err)
	}

	load := func(ctx context.Context) (*Product, error) { return db.Product(ctx, "lamp:7") }
	p, err := products.GetOrLoad(ctx, "lamp:7", load) // asks the database
	fmt.Println(p.Cents, err)
	p, err = products.GetOrLoad(ctx, "lamp:7", load) // does not
	fmt.Println(p.Cents, err)

	// Whoever changes the source says so, after the commit. Everybody's entry falls.
	if err := db.SetPrice("lamp:7", 899); err != nil {
		log.Fatal(err)
	}
	if _, err := products.Invalidate("lamp:7"); err != nil {
		log.Fatal(err)
	}
	p, err = products.GetOrLoad(ctx, "lamp:7", load)
	fmt.Println(p.Cents, err)
	// Output:
	// 999 <nil>
	// 999 <nil>
	// 899 <nil>
}

func ExampleCache_GetOrLoad() {
	db, ctx := database{}, context.Background()
	products, closeAll := openProducts()
	defer closeAll()

	p, err := products.GetOrLoad(ctx, "lamp:7", func(ctx context.Context) (*Product, error) {
		p, err := db.Product(ctx, "lamp:7")
		if errors.Is(err, errNoRow) {
			return nil, unstale.ErrNotFound
		}
		return p, err
	}, unstale.WithTags("lamp"), unstale.WithDependsOn("supplier:3"))
	switch {
	case errors.Is(err, unstale.ErrNotFound):
		fmt.Println("no such product")
	case err != nil:
		fmt.Println("the database's own error:", err)
	default:
		fmt.Println(p.Name)
	}
	// Output: no such product
}

func ExampleCache_Lease() {
	db, ctx := database{"lamp:7": {"lamp", 999}}, context.Background()
	products, closeAll := openProducts()
	defer closeAll()

	lease, err := products.Lease("lamp:7") // before the read
	if err != nil {
		log.Fatal(err)
	}
	defer lease.Release()
	p, err := db.Product(ctx, "lamp:7")
	if err != nil {
		log.Fatal(err)
	}
	stored, err := products.Set("lamp:7", p, unstale.WithLease(lease)) // false: invalidated meanwhile
	fmt.Println(stored, err)
	// Output: true <nil>
}

func ExampleCache_Update() {
	db := database{"lamp:7": {"lamp", 999}}
	products, closeAll := openProducts()
	defer closeAll()

	lease, err := products.Lease("lamp:7") // before the write
	if err != nil {
		log.Fatal(err)
	}
	defer lease.Release()
	if err := db.SetPrice("lamp:7", 899); err != nil {
		log.Fatal(err)
	}
	receipt, err := products.Update("lamp:7", db["lamp:7"], unstale.WithLease(lease)) // kept here, gone everywhere else
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(receipt.Stored())
	// Output: true
}

func ExampleClient_WaitFor() {
	products, closeAll := openProducts()
	defer closeAll()
	client, err := unstale.Connect(context.Background(), unstale.Config{URL: "memory://examples"})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	// The service that writes gives the token to whoever will read.
	write := func(w http.ResponseWriter, r *http.Request) {
		receipt, err := products.Invalidate("lamp:7")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Unstale-Token", receipt.Token())
	}
	// The service that reads waits until that write has arrived here, for as long as the request has time.
	read := func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if arrived, err := client.WaitFor(ctx, r.Header.Get("Unstale-Token")); !arrived || err != nil {
			http.Error(w, "not up to date yet", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "fresh")
	}

	written, answer := httptest.NewRecorder(), httptest.NewRecorder()
	write(written, httptest.NewRequest("POST", "/price", nil))
	request := httptest.NewRequest("GET", "/price", nil)
	request.Header.Set("Unstale-Token", written.Header().Get("Unstale-Token"))
	read(answer, request)
	fmt.Print(answer.Code, " ", answer.Body)
	// Output: 200 fresh
}

func openProducts() (*unstale.Cache[*Product], func()) {
	client, err := unstale.Connect(context.Background(), unstale.Config{URL: "memory://examples"})
	if err != nil {
		log.Fatal(err)
	}
	products, err := unstale.OpenCache[*Product](client, "products", unstale.CacheConfig{})
	if err != nil {
		log.Fatal(err)
	}
	return products, func() { client.Close() }
}
