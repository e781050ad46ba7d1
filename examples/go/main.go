// A product service in Go: reads through its own cache, and tells every other service when it changes something.
//
//	service catalogue.db mqtt://127.0.0.1:1883      (commands on stdin: see ../README.md)
package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	_ "github.com/mattn/go-sqlite3"
	unstale "github.com/unstale/unstale/bindings-c/go"
)

type product struct {
	name  string
	price int
}

type service struct {
	db           *sql.DB
	products     *unstale.Cache[*product]
	invalidated  chan struct{}
	reads, loads int
}

// load runs only on a miss, once for all goroutines that want this key.
func (s *service) load(ctx context.Context, sku string) (*product, error) {
	s.loads++
	var p product
	err := s.db.QueryRowContext(ctx, "SELECT name, price FROM products WHERE sku = ?", sku).Scan(&p.name, &p.price)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, unstale.ErrNotFound
	}
	return &p, err
}

func (s *service) read(sku string) *product {
	s.reads++
	if p, ok := s.products.Get(sku); ok {
		return p
	}
	p, err := s.products.GetOrLoad(context.Background(), sku, func(ctx context.Context) (*product, error) {
		return s.load(ctx, sku)
	}, tagged(sku))
	check(err)
	return p
}

func (s *service) setPrice(sku, cents string) string {
	lease, err := s.products.Lease(sku) // before the write
	check(err)
	defer lease.Release()
	commit := s.exec("UPDATE products SET price = ? WHERE sku = ?", cents, sku)
	p, err := s.load(context.Background(), sku)
	check(err)
	_, err = s.products.Update(sku, p, unstale.WithLease(lease), tagged(sku)) // kept here, gone everywhere else
	check(err)
	return commit
}

// exec returns after the commit.
func (s *service) exec(query string, args ...any) string {
	_, err := s.db.Exec(query, args...)
	check(err)
	return fmt.Sprint("changed ", now())
}

// until waits until the price is cents; it says what was read last, and when.
func (s *service) until(sku string, cents int) string {
	end := time.After(10 * time.Second)
	for late := false; ; {
		price, at := s.read(sku).price, now()
		if price == cents || late {
			return fmt.Sprint("read ", price, " ", at)
		}
		select {
		case <-s.invalidated:
		case <-end:
			late = true
		}
	}
}

func (s *service) serve(command string, args []string, skus []string) string {
	switch command {
	case "read":
		return fmt.Sprint("read ", s.read(args[0]).price, " ", now())
	case "until":
		return s.until(args[0], number(args[1]))
	case "price":
		return s.setPrice(args[0], args[1])
	case "sale":
		commit := s.exec("UPDATE products SET price = price - ? WHERE kind = ?", args[1], args[0])
		_, err := s.products.InvalidateTags(args[0])
		check(err)
		return commit
	case "rebrand":
		commit := s.exec("UPDATE products SET price = price + ? WHERE brand = ?", args[1], args[0])
		_, err := s.products.InvalidatePrefix(args[0] + ":")
		check(err)
		return commit
	case "inflate":
		commit := s.exec("UPDATE products SET price = price + ?", args[0])
		_, err := s.products.InvalidateAll()
		check(err)
		return commit
	case "traffic":
		for i := range number(args[0]) {
			s.read(skus[i*7919%len(skus)])
		}
		return fmt.Sprint("traffic ", s.reads, " ", s.loads)
	}
	log.Fatalf("what is %q?", command)
	return ""
}

// tagged: acme:lamp:7 has the tag "lamp", so that it falls when that kind goes on sale.
func tagged(sku string) unstale.SetOption { return unstale.WithTags(strings.Split(sku, ":")[1]) }

func now() int64 { return time.Now().UnixMicro() }

func number(text string) int {
	n, err := strconv.Atoi(text)
	check(err)
	return n
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	db, err := sql.Open("sqlite3", os.Args[1]+"?_busy_timeout=10000")
	check(err)
	defer db.Close()
	client, err := unstale.Connect(context.Background(), unstale.Config{URL: os.Args[2]})
	check(err)
	products, err := unstale.OpenCache[*product](client, "products", unstale.CacheConfig{})
	check(err)
	s := &service{db: db, products: products, invalidated: make(chan struct{}, 1)}
	_, err = products.OnInvalidated(func(unstale.Invalidation) {
		select {
		case s.invalidated <- struct{}{}:
		default: // one is waiting already
		}
	})
	check(err)

	var skus []string
	rows, err := db.Query("SELECT sku FROM products ORDER BY sku")
	check(err)
	for rows.Next() {
		skus = append(skus, "")
		check(rows.Scan(&skus[len(skus)-1]))
	}
	check(rows.Close())
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		words := strings.Fields(lines.Text())
		fmt.Println(s.serve(words[0], words[1:], skus))
	}
	check(client.Close())
}
