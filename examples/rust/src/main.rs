//! A product service in Rust: reads through its own cache, and tells every other service when it changes something.
//!
//! `example-service catalogue.db mqtt://127.0.0.1:1883`      (commands on stdin: see `../../README.md`)

use std::error::Error;
use std::sync::mpsc::{channel, Receiver};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{params, Connection, OptionalExtension};
use unstale::{blocking, Cache, CacheConfig, ClientConfig, SetOptions};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[allow(dead_code)] // this service only shows prices
struct Product {
    name: String,
    price: i64,
}

struct Service {
    db: Connection,
    products: Cache<Arc<Product>>,
    invalidated: Receiver<()>,
    reads: u64,
    loads: u64,
}

impl Service {
    /// Runs only on a miss, once for all threads that want this key.
    fn load(&self, sku: &str) -> rusqlite::Result<Option<Arc<Product>>> {
        let mut query = self.db.prepare_cached("SELECT name, price FROM products WHERE sku = ?")?;
        query.query_row([sku], |row| Ok(Arc::new(Product { name: row.get(0)?, price: row.get(1)? }))).optional()
    }

    fn read(&mut self, sku: &str) -> Result<i64> {
        self.reads += 1;
        let mut loaded = 0;
        let product = blocking::get_or_load(&self.products, sku, &tagged(sku), || {
            loaded = 1;
            self.load(sku)
        })?;
        self.loads += loaded;
        Ok(product.ok_or("no such product")?.price)
    }

    fn set_price(&mut self, sku: &str, cents: i64) -> Result<String> {
        let mut options = tagged(sku);
        options.lease = Some(self.products.lease(sku)?); // before the write
        self.db.execute("UPDATE products SET price = ? WHERE sku = ?", params![cents, sku])?;
        let commit = now();
        let product = self.load(sku)?.ok_or("no such product")?;
        self.products.update(sku, product, &options)?; // kept here, gone everywhere else
        Ok(format!("changed {commit}"))
    }

    /// Waits until the price is `cents`; says what was read last, and when.
    fn until(&mut self, sku: &str, cents: i64) -> Result<String> {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            while self.invalidated.try_recv().is_ok() {}
            let (price, at) = (self.read(sku)?, now());
            if price == cents || Instant::now() > end {
                return Ok(format!("read {price} {at}"));
            }
            let _ = self.invalidated.recv_timeout(Duration::from_millis(200));
        }
    }

    fn serve(&mut self, command: &[&str], skus: &[String]) -> Result<String> {
        Ok(match *command {
            ["read", sku] => format!("read {} {}", self.read(sku)?, now()),
            ["until", sku, cents] => self.until(sku, cents.parse()?)?,
            ["price", sku, cents] => self.set_price(sku, cents.parse()?)?,
            ["sale", kind, cents] => {
                self.db.execute("UPDATE products SET price = price - ? WHERE kind = ?", params![cents, kind])?;
                let commit = now();
                self.products.invalidate_tags([kind])?;
                format!("changed {commit}")
            }
            ["rebrand", brand, cents] => {
                self.db.execute("UPDATE products SET price = price + ? WHERE brand = ?", params![cents, brand])?;
                let commit = now();
                self.products.invalidate_prefix(&format!("{brand}:"))?;
                format!("changed {commit}")
            }
            ["inflate", cents] => {
                self.db.execute("UPDATE products SET price = price + ?", params![cents])?;
                let commit = now();
                self.products.invalidate_all()?;
                format!("changed {commit}")
            }
            ["traffic", reads] => {
                for i in 0..reads.parse::<usize>()? {
                    self.read(&skus[i * 7919 % skus.len()])?;
                }
                format!("traffic {} {}", self.reads, self.loads)
            }
            _ => return Err(format!("what is {command:?}?").into()),
        })
    }
}

/// `acme:lamp:7` has the tag `lamp`, so that it falls when that kind goes on sale.
fn tagged(sku: &str) -> SetOptions {
    let mut options = SetOptions::new();
    options.tags = sku.split(':').skip(1).take(1).map(String::from).collect();
    options
}

fn now() -> u128 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_micros())
}

fn main() -> Result<()> {
    let [file, url] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "give a database and a URL")?;
    let db = Connection::open(file)?;
    db.busy_timeout(Duration::from_secs(10))?;
    let client = blocking::connect(ClientConfig::from_url(&url)?)?;
    let products = client.cache("products", CacheConfig::default())?;
    let (tell, invalidated) = channel();
    products.on_invalidated(move |_| tell.send(()).unwrap_or_default());

    let skus: Vec<String> = db
        .prepare("SELECT sku FROM products ORDER BY sku")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut service = Service { db, products, invalidated, reads: 0, loads: 0 };
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line?;
        println!("{}", service.serve(&line.split_whitespace().collect::<Vec<_>>(), &skus)?);
    }
    blocking::close(&client, Duration::from_secs(5))?;
    Ok(())
}
