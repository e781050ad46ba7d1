using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Unstale;

static class CacheTests
{
    sealed class Product
    {
        public int Price;
    }

    static Client Alone() => Client.Connect("memory://" + Guid.NewGuid().ToString("N"));

    [Test]
    static void a_hit_is_the_very_object_that_was_set()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<Product>("p");
            var product = new Product { Price = 9 };
            Is.True(cache.Set("k", product), "stored");
            Is.True(cache.TryGet("k", out var got) && ReferenceEquals(got, product), "the same object");
            Is.True(ReferenceEquals(cache.Get("k"), product), "the same object");
            Is.True(cache.Contains("k"), "contains");
            Is.Equal(1L, cache.Count);
            Is.Equal("p", cache.Namespace);
            Is.Equal(null, cache.Get("other"));
            Is.True(ReferenceEquals(cache.Get("other", product), product), "what to return instead");
        }
    }

    [Test]
    static void values_may_be_of_any_type()
    {
        using (var client = Alone())
        {
            var numbers = client.OpenCache<int>("numbers");
            Is.True(numbers.Set("k", 0), "stored");
            Is.True(numbers.TryGet("k", out var zero) && zero == 0, "0 is a value");
            Is.Equal(7, numbers.GetOrLoad("l", () => 7));
            var maybe = client.OpenCache<int?>("maybe");
            Is.Equal(null, maybe.GetOrLoad("k", () => null));
            Is.Equal(5, maybe.GetOrLoad("k", () => 5));
            Is.Thrown<InvalidArgumentException>(() => maybe.Set("k", null));
            var pairs = client.OpenCache<KeyValuePair<string, decimal>>("pairs");
            pairs.Set("k", KeyValuePair.Create("a", 1.5m));
            Is.Equal(1.5m, pairs.Get("k").Value);
            var tasks = client.OpenCache<Task<int>>("tasks");
            tasks.Set("k", Task.FromResult(3));
            Is.Equal(3, tasks.Get("k").Result);
        }
    }

    [Test]
    static void keys_are_unicode_of_every_length()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("k");
            var keys = Enumerable.Range(1, 300).Select(n => new string('a', n))
                .Concat(Enumerable.Range(1, 200).Select(n => new string('ж', n)))
                .Concat(new[] { "😀", "a😀b", "ключ", new string('a', 1024), new string('ж', 512), "user:42", "\u007f", "\u0080", "abc\u0100", "abcdé" })
                .Distinct().ToList();
            foreach (var key in keys) Is.True(cache.Set(key, key), key);
            foreach (var key in keys) Is.Equal(key, cache.Get(key));
            foreach (var key in keys) Is.Equal(key, cache.GetOrLoad(key, () => "loaded"));
            Is.Equal((long)keys.Count, cache.Count);
        }
    }

    [Test]
    static void options_are_kept()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("o", new CacheOptions { TtlJitter = 0 });
            cache.Set("short", "v", new SetOptions { Ttl = TimeSpan.FromMilliseconds(50) });
            cache.Set("tagged", "v", new SetOptions { Tags = new[] { "red", "größe" } });
            cache.Set("derived", "v", new SetOptions { DependsOn = new List<string> { "base" } });
            cache.Set("versioned", "v5", new SetOptions { Version = 5 });
            Is.True(cache.Contains("tagged") && cache.Contains("derived"), "held");
            cache.InvalidateTags("größe", "none");
            Is.True(!cache.Contains("tagged"), "fell with its tag");
            cache.Invalidate("base");
            Is.True(!cache.Contains("derived"), "fell with its dependency");
            cache.Invalidate("versioned", 5);
            Is.True(cache.Contains("versioned"), "5 is current");
            cache.Invalidate("versioned", 6);
            Is.True(!cache.Set("versioned", "v5", new SetOptions { Version = 5 }), "5 is old");
            Is.True(cache.Set("versioned", "v6", new SetOptions { Version = 6 }), "6 is current");
            Is.Soon(() => !cache.Contains("short"), "its ttl ends");
        }
    }

    [Test]
    static void invalidations_remove_what_they_name()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("i");
            foreach (var key in new[] { "a", "b", "c", "x:1", "x:2", "y" }) cache.Set(key, key);
            Is.True(!cache.Invalidate("a").Stored, "not stored");
            cache.InvalidateMany(new[] { "b" });
            cache.InvalidateMany(new Dictionary<string, long?> { ["c"] = 3, ["none"] = null });
            cache.InvalidatePrefix("x:");
            Is.Equal("y", string.Join(" ", new[] { "a", "b", "c", "x:1", "x:2", "y" }.Where(cache.Contains)));
            cache.InvalidateMany(new string[0]);
            cache.InvalidateTags();
            Is.True(cache.Contains("y"), "nothing was named");
            cache.InvalidateAll();
            Is.True(!cache.Contains("y"), "everything");
            cache.Set("y", "y");
            Is.True(cache.Evict("y") && !cache.Evict("y"), "held once");
            cache.Set("y", "y");
            cache.ClearLocal();
            Is.True(!cache.Contains("y"), "cleared");
        }
    }

    [Test]
    static void a_lease_stores_unless_it_was_fenced()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("l");
            using (var lease = cache.Lease("k"))
            {
                Is.Equal("k", lease.Key);
                Is.True(cache.Set("k", "v", new SetOptions { Lease = lease }), "stored");
                Is.True(!cache.Set("k", "w", new SetOptions { Lease = lease }), "used up");
            }
            var fenced = cache.Lease("k");
            cache.Invalidate("k");
            Is.True(!cache.Set("k", "old", new SetOptions { Lease = fenced }), "fenced");
            Is.Equal(null, cache.Get("k"));
            fenced.Dispose();
            fenced.Dispose();
            Is.Thrown<InvalidArgumentException>(() => cache.Set("k", "v", new SetOptions { Lease = fenced }));
            Is.Thrown<InvalidArgumentException>(() => cache.Set("k", "v", new SetOptions { Lease = cache.Lease("other") }));

            var write = cache.Lease("k");
            var receipt = cache.Update("k", "new", write);
            Is.True(receipt.Stored && cache.Get("k") == "new", "updated");
            var late = cache.Lease("k");
            cache.Invalidate("k");
            Is.True(!cache.Update("k", "late", late).Stored && cache.Get("k") == null, "an invalidation only");
            Is.True(cache.Update("k", "v9", new SetOptions { Version = 9 }).Stored, "with a version");
            Is.Thrown<InvalidArgumentException>(() => cache.Update("k", "v", new SetOptions()));
            Is.Thrown<InvalidArgumentException>(() => cache.Update("k", "v", (SetOptions)null));
            Is.Thrown<InvalidArgumentException>(() => cache.Update("k", "v", (Lease)null));
        }
    }

    [Test]
    static void receipts_have_tokens_that_can_be_waited_for()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("r");
            var receipt = cache.Invalidate("k");
            Is.True(receipt.Token.StartsWith("u1:" + client.Status.Src + ":") && receipt.Token.EndsWith(":r"), receipt.Token);
            Is.True(ReferenceEquals(receipt.Token, receipt.Token), "the same text");
            Is.True(receipt.Delivered(TimeSpan.FromSeconds(10)), "delivered");
            Is.True(receipt.Delivered(TimeSpan.Zero), "still");
            Is.True(receipt.Delivered(Timeout.InfiniteTimeSpan), "still");
            Is.True(client.WaitFor(receipt.Token, TimeSpan.FromSeconds(10)), "applied");
            Is.True(client.WaitForAsync(receipt.Token, Timeout.InfiniteTimeSpan).Result, "applied");
        }
    }

    [Test]
    static void stats_and_status_have_the_cores_numbers()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("s");
            cache.Set("k", "v");
            cache.Get("k");
            cache.Get("k");
            cache.Get("none");
            cache.Invalidate("k");
            var stats = cache.Stats;
            Is.Equal(2L, stats.Hits, "hits");
            Is.Equal(1L, stats.Misses, "misses");
            Is.Equal(1L, stats.Sets, "sets");
            Is.Equal(1L, stats.InvalidationsLocal, "invalidations");
            Is.True(stats.ToString().Contains("\"hits\":2") && stats.Doubts != null, stats.Json);
            var status = client.Status;
            Is.Equal("memory", status.Transport);
            Is.Equal(1L, status.Caches);
            Is.Equal(TimeSpan.FromSeconds(30), status.StalenessBound);
            Is.True(status.ClientId.Length > 0 && status.Url.StartsWith("memory://") && status.Connects == 1, status.Json);
            Is.Equal("0.1.0", Client.LibraryVersion);
        }
    }

    [Test]
    static void events_tell_what_fell_until_the_handler_is_removed()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("e");
            var seen = new List<Invalidation>();
            EventHandler<Invalidation> handler = (sender, invalidation) =>
            {
                Is.True(ReferenceEquals(sender, cache), "the sender");
                lock (seen) seen.Add(invalidation);
            };
            cache.Invalidated += handler;
            cache.Invalidated += (sender, invalidation) => throw new InvalidOperationException("a handler that throws");
            var second = 0;
            EventHandler<Invalidation> counts = (sender, invalidation) => Interlocked.Increment(ref second);
            cache.Invalidated += counts;
            cache.InvalidateMany(new[] { "a", "b" });
            Is.Soon(() => Volatile.Read(ref second) == 1, "the second handler, after one that threw");
            lock (seen)
            {
                Is.Equal("a b", string.Join(" ", seen[0].Keys));
                Is.True(seen[0].IsLocal && seen[0].Namespace == "e" && !seen[0].All && seen[0].Tags.Count == 0, seen[0].Json);
            }
            cache.Invalidated -= handler;
            cache.InvalidateAll();
            Is.Soon(() => Volatile.Read(ref second) == 2, "the second handler again");
            lock (seen) Is.Equal(1, seen.Count, "events after removal");
        }
    }

    [Test]
    static void a_handler_may_use_the_cache_and_close_the_client()
    {
        var client = Alone();
        var cache = client.OpenCache<string>("h");
        var done = new ManualResetEventSlim();
        cache.Invalidated += (sender, invalidation) =>
        {
            cache.Set("k", "from the handler");
            client.Close(TimeSpan.Zero);
            done.Set();
        };
        cache.Invalidate("k");
        Is.True(done.Wait(10000), "the handler returned");
        Is.Thrown<ClosedException>(() => cache.Set("k", "v"));
    }

    [Test]
    static void a_closed_client_says_so()
    {
        var client = Alone();
        var cache = client.OpenCache<string>("c");
        cache.Set("k", "v");
        var lease = cache.Lease("k");
        Is.Equal(0, client.Close());
        Is.Equal(0, client.Close(TimeSpan.Zero));
        client.Dispose();
        client.Dispose();
        client.DisposeAsync().AsTask().Wait();
        Is.True(!cache.TryGet("k", out _), "a miss");
        Is.Thrown<ClosedException>(() => cache.Contains("k"));
        Is.Thrown<ClosedException>(() => cache.Set("k", "v"));
        Is.Thrown<ClosedException>(() => cache.Set("k", "v", new SetOptions { Lease = lease }));
        Is.Thrown<ClosedException>(() => cache.Update("k", "v", new SetOptions { Version = 1 }));
        Is.Thrown<ClosedException>(() => cache.Lease("k"));
        Is.Thrown<ClosedException>(() => cache.Invalidate("k"));
        Is.Thrown<ClosedException>(() => cache.InvalidateAll());
        Is.Thrown<ClosedException>(() => cache.Evict("k"));
        Is.Thrown<ClosedException>(() => cache.ClearLocal());
        Is.Thrown<ClosedException>(() => cache.GetOrLoad("k", () => "v"));
        Is.Thrown<ClosedException>(() => cache.GetOrLoadAsync("k", () => Task.FromResult("v")).AsTask());
        Is.Thrown<ClosedException>(() => client.OpenCache<string>("d"));
        Is.Thrown<ClosedException>(() => client.WaitFor("u1:a:1:c", TimeSpan.Zero));
        Is.Equal("closed", client.Status.State);
        Is.Equal(1L, cache.Stats.Sets);
        lease.Dispose();
    }
}
