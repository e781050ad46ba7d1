"""Makes the demo's database: a product catalogue of 5,000 rows in SQLite."""

import sqlite3

BRANDS = ("acme", "boreal", "cobalt", "dune", "ember", "fjord", "grove", "halo", "iris", "juno")
KINDS = ("lamp", "desk", "chair", "shelf", "clock", "mug", "vase", "rug", "mirror", "frame")
NUMBERS = range(1, 51)


def make(path):
    """Writes the catalogue to `path`. WAL, so that six services can read while one writes."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(
        "CREATE TABLE products (sku TEXT PRIMARY KEY, brand TEXT NOT NULL, kind TEXT NOT NULL,"
        " name TEXT NOT NULL, price INTEGER NOT NULL) WITHOUT ROWID"
    )
    rows = [
        (f"{brand}:{kind}:{number}", brand, kind, f"{brand.title()} {kind} no. {number}", 1000 + 37 * number)
        for brand in BRANDS
        for kind in KINDS
        for number in NUMBERS
    ]
    db.executemany("INSERT INTO products VALUES (?, ?, ?, ?, ?)", rows)
    db.commit()
    db.close()
    return len(rows)
