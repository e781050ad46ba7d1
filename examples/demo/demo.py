#!/usr/bin/env python3
"""One service per language on one broker and one database: changes prices, and measures when each service reads them.

Started by `make demo`, which builds what this needs. Ends by itself; the exit code is 0 only if no service was stale.
"""

import argparse
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import catalogue
import stranger
from services import SERVICES, Service, ServiceDied

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "conformance"))
from broker import Broker  # noqa: E402

NAMESPACE = "products"
TOPIC = f"cache/invalidate/{NAMESPACE}"
SAMPLE = "acme:lamp:7"
# Products of every sort: of the sample's brand, of its kind, of neither.
OTHERS = [f"{brand}:{kind}:{n}" for brand in ("acme", "dune", "juno") for kind in ("lamp", "mug") for n in (1, 7, 50)]
TRAFFIC = 20_000

# title of the column, who does it (None: somebody who has never heard of unstale), command
STEPS = [
    ("price", "rust", f"price {SAMPLE} 4999"),
    ("tag", "python", "sale lamp 500"),
    ("prefix", "node", "rebrand acme 250"),
    ("everything", "go", "inflate 10"),
    ("price again", "c", f"price {SAMPLE} 3999"),
    ("tag again", "dotnet", "sale lamp 99"),
    ("plain key", None, f"price {SAMPLE} 2999"),
]


class Demo:
    """The services, what they were asked, and what was found."""

    def __init__(self, database, services, publisher):
        self.database, self.services, self.publisher = database, services, publisher
        self.micros = {}  # (language, step) -> microseconds from the commit to the first fresh read; None: stale
        self.fresh = self.readings = 0

    def price(self, sku):
        return self.database.execute("SELECT price FROM products WHERE sku = ?", (sku,)).fetchone()[0]

    def expected(self, command):
        """What the sample will cost after the command."""
        verb, *args = command.split()
        if verb == "price":
            return int(args[1])
        return self.price(SAMPLE) + (-1 if verb == "sale" else 1) * int(args[-1])

    def step(self, number, title, writer, command):
        for service in self.services:  # everyone holds the old prices
            for sku in (SAMPLE, *OTHERS):
                service.send(f"read {sku}")
        for service in self.services:
            for _ in (SAMPLE, *OTHERS):
                service.answer("read")
        wanted = self.expected(command)
        readers = [service for service in self.services if service.language != writer]
        for service in readers:
            service.send(f"until {SAMPLE} {wanted}")
        if writer is None:
            commit = self.stranger_changes(command)
        else:
            by = next(service for service in self.services if service.language == writer)
            by.send(command)
            commit = by.answer("changed")[0]
            by.send(f"until {SAMPLE} {wanted}")
        for service in self.services:
            price, moment = service.answer("read")
            self.reading(service, title, SAMPLE, price, wanted)
            self.micros[service.language, number] = moment - commit if price == wanted else None
        for service in self.services:
            for sku in OTHERS:
                service.send(f"read {sku}")
            for sku in OTHERS:
                self.reading(service, title, sku, service.answer("read")[0], self.price(sku))
        for service in self.services:
            service.send(f"traffic {TRAFFIC}")
        for service in self.services:
            service.reads, service.loads = service.answer("traffic")

    def stranger_changes(self, command):
        _, sku, cents = command.split()
        with self.database:
            self.database.execute("UPDATE products SET price = ? WHERE sku = ?", (int(cents), sku))
        commit = time.time_ns() // 1000
        self.publisher.publish(sku)
        return commit

    def reading(self, service, step, sku, price, wanted):
        self.readings += 1
        if price == wanted:
            self.fresh += 1
        else:
            print(f"STALE: {service.language} read {price} for {sku} after the step “{step}”; it is {wanted}")

    def table(self, steps):
        titles = "".join(f"{title:>13}" for title, _, _ in steps)
        print(f"\n{'µs to fresh':<12}{titles}{'reads':>10}{'loads':>8}{'saved':>9}")
        print(f"{'changed by':<12}" + "".join(f"{writer or 'a stranger':>13}" for _, writer, _ in steps))
        for service in self.services:
            cells = []
            for number, (_, writer, _) in enumerate(steps):
                value = self.micros.get((service.language, number))
                cells.append("STALE" if value is None else f"{value:,}{'*' if writer == service.language else ' '}")
            saved = (service.reads - service.loads) / max(service.reads, 1)
            cells = "".join(f"{cell:>13}" for cell in cells)
            print(f"{service.language:<12}{cells}{service.reads:>10,}{service.loads:>8,}{saved:>9.1%}")
        reads = sum(service.reads for service in self.services)
        saved = reads - sum(service.loads for service in self.services)
        print("\nMicroseconds from the commit to the first read of the new price; *: the writer, asked right after.")
        print(f"{saved:,} of {reads:,} database reads saved.")
        print(f"fresh: {self.fresh} of {self.readings} readings after a change")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--languages", default=",".join(SERVICES), help="default: all")
    parser.add_argument("--broker", choices=("mosquitto", "embedded"), help="default: mosquitto when installed")
    options = parser.parse_args()
    languages = options.languages.split(",")

    steps = [(title, who if who in (*languages, None) else languages[0], command) for title, who, command in STEPS]
    broker = stranger.broker(options.broker, Broker)
    with tempfile.TemporaryDirectory(prefix="us-demo-") as folder, broker:
        file = Path(folder, "catalogue.db")
        rows = catalogue.make(file)
        print(
            f"{rows:,} products in SQLite, {broker.name} on {broker.url}, services in {', '.join(languages)}",
            flush=True,
        )
        services, publisher = [], stranger.Publisher(broker, TOPIC)
        try:
            services = [Service(language, file, broker.url) for language in languages]
            for service in services:
                service.answer("ready")
            demo = Demo(sqlite3.connect(file), services, publisher)
            for number, step in enumerate(steps):
                demo.step(number, *step)
            demo.table(steps)
            for service in services:
                service.end()
        except ServiceDied as problem:
            print(f"FAILED: {problem}")
            return 1
        finally:
            for service in services:
                service.kill()
            publisher.close()

    print("\nTry next:  make conformance                     every pair of languages, step by step")
    print("           less examples/python/service.py      the whole service; the others are beside it")
    return 0 if demo.readings and demo.fresh == demo.readings else 1


if __name__ == "__main__":
    sys.exit(main())
