// A product service in Node: reads through its own cache, and tells every other service when it changes something.
//
// node service.mjs catalogue.db mqtt://127.0.0.1:1883      (commands on stdin: see ../README.md)

import { once } from 'node:events'
import { createInterface } from 'node:readline'
import Database from 'libsql'
import { connect } from 'unstale'

const [file, url] = process.argv.slice(2)
const db = new Database(file, { timeout: 10_000 })
const select = db.prepare('SELECT name, price FROM products WHERE sku = ?')
const client = await connect(url)
const products = client.cache('products')
let reads = 0
let loads = 0

const now = () => Math.round((performance.timeOrigin + performance.now()) * 1000)
// acme:lamp:7 has the tag "lamp", so that it falls when that kind goes on sale.
const tags = (sku) => ({ tags: [sku.split(':')[1]] })

function load(sku) {
  loads++
  return select.get(sku)
}

// A hit needs no promise; a miss loads once for all who ask.
async function read(sku) {
  reads++
  return products.get(sku) ?? (await products.getOrLoad(sku, () => load(sku), tags(sku)))
}

async function setPrice(sku, cents) {
  const lease = products.lease(sku) // before the write
  db.prepare('UPDATE products SET price = ? WHERE sku = ?').run(cents, sku)
  const commit = now()
  products.update(sku, load(sku), { lease, ...tags(sku) }) // kept here, gone everywhere else
  return `changed ${commit}`
}

function change(sql, args, invalidate) {
  db.prepare(sql).run(...args)
  const commit = now()
  invalidate()
  return `changed ${commit}`
}

// Waits until the price is `cents`; says what was read last, and when.
async function until(sku, cents) {
  const end = Date.now() + 10_000
  for (;;) {
    const invalidated = once(products, 'invalidated', { signal: AbortSignal.timeout(10_500) }).catch(() => {})
    const { price } = await read(sku)
    const at = now()
    if (price === cents || Date.now() > end) return `read ${price} ${at}`
    await invalidated
  }
}

const skus = db.prepare('SELECT sku FROM products ORDER BY sku').all().map((row) => row.sku)
const commands = {
  read: async (sku) => `read ${(await read(sku)).price} ${now()}`,
  until: (sku, cents) => until(sku, Number(cents)),
  price: (sku, cents) => setPrice(sku, Number(cents)),
  sale: (kind, cents) =>
    change('UPDATE products SET price = price - ? WHERE kind = ?', [Number(cents), kind], () => products.invalidateTags([kind])),
  rebrand: (brand, cents) =>
    change('UPDATE products SET price = price + ? WHERE brand = ?', [Number(cents), brand], () => products.invalidatePrefix(`${brand}:`)),
  inflate: (cents) => change('UPDATE products SET price = price + ?', [Number(cents)], () => products.invalidateAll()),
  traffic: async (count) => {
    for (let i = 0; i < Number(count); i++) await read(skus[(i * 7919) % skus.length])
    return `traffic ${reads} ${loads}`
  },
}

console.log('ready')
for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...args] = line.split(' ')
  console.log(await commands[command](...args))
}
await client.close()
db.close()
