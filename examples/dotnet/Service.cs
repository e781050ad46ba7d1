// A product service in C#: reads through its own cache, and tells every other service when it changes something.
//
// service catalogue.db mqtt://127.0.0.1:1883      (commands on stdin: see ../README.md)
using System;
using System.Linq;
using System.Threading;
using Unstale;

sealed class Product
{
    public string Name;
    public int Price;
}

static class Service
{
    static Sqlite db;
    static Cache<Product> products;
    static readonly AutoResetEvent invalidated = new AutoResetEvent(false);
    static long reads, loads;

    // Runs only on a miss, once for all threads that want this key.
    static Product Load(string sku)
    {
        loads++;
        var row = db.Run("SELECT name, price FROM products WHERE sku = ?", sku).SingleOrDefault();
        return row == null ? null : new Product { Name = row[0], Price = int.Parse(row[1]) };
    }

    static Product Read(string sku)
    {
        reads++;
        return products.TryGet(sku, out var held) ? held : products.GetOrLoad(sku, () => Load(sku), Tagged(sku));
    }

    // acme:lamp:7 has the tag "lamp", so that it falls when that kind goes on sale.
    static SetOptions Tagged(string sku) => new SetOptions { Tags = new[] { sku.Split(':')[1] } };

    static string SetPrice(string sku, string cents)
    {
        using (var lease = products.Lease(sku)) // before the write
        {
            db.Run("UPDATE products SET price = ? WHERE sku = ?", cents, sku);
            var commit = Now();
            var options = Tagged(sku);
            options.Lease = lease;
            products.Update(sku, Load(sku), options); // kept here, gone everywhere else
            return $"changed {commit}";
        }
    }

    static string Change(Action invalidate, string sql, params string[] values)
    {
        db.Run(sql, values); // returns after the commit
        var commit = Now();
        invalidate();
        return $"changed {commit}";
    }

    // Waits until the price is `cents`; says what was read last, and when.
    static string Until(string sku, int cents)
    {
        var end = DateTime.UtcNow.AddSeconds(10);
        for (;;)
        {
            var price = Read(sku).Price;
            var at = Now();
            if (price == cents || DateTime.UtcNow > end) return $"read {price} {at}";
            invalidated.WaitOne(200);
        }
    }

    static string Traffic(int count, string[] skus)
    {
        for (var i = 0; i < count; i++) Read(skus[i * 7919L % skus.Length]);
        return $"traffic {reads} {loads}";
    }

    static long Now() => (DateTime.UtcNow - DateTime.UnixEpoch).Ticks / 10;

    static void Main(string[] args)
    {
        using (db = new Sqlite(args[0]))
        using (var client = Client.Connect(args[1]))
        {
            products = client.OpenCache<Product>("products");
            products.Invalidated += (sender, what) => invalidated.Set();
            var skus = db.Run("SELECT sku FROM products ORDER BY sku").Select(row => row[0]).ToArray();
            Console.WriteLine("ready");
            for (string line; (line = Console.ReadLine()) != null;)
            {
                var words = line.Split(' ');
                Console.WriteLine(Answer(words[0], words.Skip(1).ToArray(), skus));
            }
        }
    }

    static string Answer(string command, string[] args, string[] skus)
    {
        switch (command)
        {
            case "read": return $"read {Read(args[0]).Price} {Now()}";
            case "until": return Until(args[0], int.Parse(args[1]));
            case "price": return SetPrice(args[0], args[1]);
            case "sale":
                return Change(() => products.InvalidateTags(args[0]),
                    "UPDATE products SET price = price - ? WHERE kind = ?", args[1], args[0]);
            case "rebrand":
                return Change(() => products.InvalidatePrefix(args[0] + ":"),
                    "UPDATE products SET price = price + ? WHERE brand = ?", args[1], args[0]);
            case "inflate":
                return Change(() => products.InvalidateAll(), "UPDATE products SET price = price + ?", args[0]);
            case "traffic": return Traffic(int.Parse(args[0]), skus);
            default: throw new ArgumentException($"what is {command}?");
        }
    }
}
