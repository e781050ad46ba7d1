"""A product service in Python: reads through its own cache, and tells every other service when it changes something.

python service.py catalogue.db mqtt://127.0.0.1:1883      (commands on stdin: see ../README.md)
"""

import sqlite3
import sys
import threading
import time

import unstale

file, url = sys.argv[1:]
db = sqlite3.connect(file, timeout=10, isolation_level=None)  # autocommit: `execute` returns after the commit
client = unstale.connect(url)
products = client.cache("products")
changed = threading.Event()
products.on_invalidated(lambda event: changed.set())
reads = loads = 0


def load(sku):
    global loads
    loads += 1
    return db.execute("SELECT name, price FROM products WHERE sku = ?", (sku,)).fetchone()


def read(sku):
    """The product as a (name, price) tuple. A tag for its kind makes it fall when that kind goes on sale."""
    global reads
    reads += 1
    return products.get_or_load(sku, lambda: load(sku), tags=[sku.split(":")[1]])


def set_price(sku, cents):
    lease = products.lease(sku)  # before the write
    db.execute("UPDATE products SET price = ? WHERE sku = ?", (cents, sku))
    commit = now()
    products.update(sku, load(sku), lease=lease, tags=[sku.split(":")[1]])  # kept here, gone everywhere else
    return commit


def change(sql, values, invalidate, *what):
    db.execute(sql, values)
    commit = now()
    invalidate(*what)
    return commit


def until(sku, cents):
    """Waits until the price is `cents`; says what was read last, and when."""
    end = time.monotonic() + 10
    while True:
        changed.clear()
        price, at = read(sku)[1], now()
        if price == cents or time.monotonic() > end:
            return f"read {price} {at}"
        changed.wait(0.2)


def now():
    return time.time_ns() // 1000


skus = [sku for (sku,) in db.execute("SELECT sku FROM products ORDER BY sku")]
print("ready", flush=True)
for line in sys.stdin:
    command, *args = line.split()
    if command == "read":
        answer = f"read {read(args[0])[1]} {now()}"
    elif command == "until":
        answer = until(args[0], int(args[1]))
    elif command == "price":
        answer = f"changed {set_price(args[0], int(args[1]))}"
    elif command == "sale":
        sql = "UPDATE products SET price = price - ? WHERE kind = ?"
        answer = f"changed {change(sql, args[::-1], products.invalidate_tags, args[:1])}"
    elif command == "rebrand":
        sql = "UPDATE products SET price = price + ? WHERE brand = ?"
        answer = f"changed {change(sql, args[::-1], products.invalidate_prefix, args[0] + ':')}"
    elif command == "inflate":
        sql = "UPDATE products SET price = price + ?"
        answer = f"changed {change(sql, args, products.invalidate_all)}"
    elif command == "traffic":
        for i in range(int(args[0])):
            read(skus[i * 7919 % len(skus)])
        answer = f"traffic {reads} {loads}"
    else:
        break
    print(answer, flush=True)
client.close()
