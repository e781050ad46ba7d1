// What C holds of .NET's, and lets go.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Threading;
using System.Threading.Tasks;
using Unstale;

static class MemoryTests
{
    static Client Alone() => Client.Connect("memory://" + Guid.NewGuid().ToString("N"));

    static void Collect()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
    }

    static bool Gone(IEnumerable<WeakReference> objects)
    {
        Collect();
        return objects.All(o => !o.IsAlive);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static List<WeakReference> Fill(Cache<object> cache, int count)
    {
        var objects = new List<WeakReference>();
        for (var i = 0; i < count; i++)
        {
            var value = new object();
            objects.Add(new WeakReference(value));
            cache.Set("k" + i, value);
        }
        return objects;
    }

    [Test]
    static void an_object_lives_as_long_as_its_entry()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<object>("m", new CacheOptions { MaxEntries = 100000 });
            var objects = Fill(cache, 5000);
            Collect();
            Is.True(objects.All(o => o.IsAlive), "held");
            for (var i = 0; i < 5000; i++) Is.True(ReferenceEquals(cache.Get("k" + i), objects[i].Target), "the same object");
            for (var i = 0; i < 1000; i++) cache.Invalidate("k" + i);
            Is.True(Gone(objects.Take(1000)), "invalidated ones");
            Is.True(objects.Skip(1000).All(o => o.IsAlive), "the others");
            for (var i = 1000; i < 2000; i++) cache.Evict("k" + i);
            Fill(cache, 5000);
            Is.True(Gone(objects), "replaced ones");
        }
    }

    [Test]
    static void a_full_cache_lets_go()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<object>("m", new CacheOptions { MaxEntries = 100 });
            var objects = Fill(cache, 20000);
            Collect();
            var alive = objects.Count(o => o.IsAlive);
            Is.True(alive >= 1 && alive <= 400, alive + " of 20,000 live");
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static List<WeakReference> Forgotten()
    {
        var client = Alone();
        var cache = client.OpenCache<object>("f");
        var objects = Fill(cache, 100);
        cache.Invalidated += (sender, invalidation) => { };
        client.StatusChanged += (sender, status) => { };
        objects.Add(new WeakReference(client));
        objects.Add(new WeakReference(cache));
        objects.Add(new WeakReference(cache.Lease("k")));
        objects.Add(new WeakReference(cache.Invalidate("none")));
        return objects;
    }

    [Test]
    static void a_forgotten_client_is_collected_with_all_that_it_held()
    {
        var before = Table.Count();
        var objects = Forgotten();
        Is.Soon(() => Gone(objects), "all gone");
        Is.Soon(() => Table.Count() <= before, "the table: " + before + ", now " + Table.Count());
    }

    [Test]
    static void nothing_is_left_in_the_table()
    {
        Collect();
        var before = Table.Count();
        using (var client = Alone())
        {
            var cache = client.OpenCache<object>("n");
            for (var i = 0; i < 1000; i++)
            {
                cache.GetOrLoad("k", () => new object());
                cache.GetOrLoad("k", () => new object());
                cache.Invalidate("k");
                Is.Thrown<TimeoutException>(() => cache.GetOrLoad("k", () => throw new TimeoutException()));
                Is.Thrown<InvalidArgumentException>(() => cache.Set("", new object()));
                cache.Update("k", new object(), cache.Lease("k"));
                cache.GetOrLoad("fenced", () => { cache.Invalidate("fenced"); return new object(); });
                EventHandler<Invalidation> handler = (sender, e) => { };
                cache.Invalidated += handler;
                cache.Invalidated -= handler;
            }
            cache.ClearLocal();
            Is.Soon(() => { cache.Set("other", new object()); cache.Evict("other"); return Table.Count() <= before + 2; }, "empty, not " + Table.Count());
        }
    }

    [Test]
    static void readers_see_whole_values_while_they_are_replaced_freed_and_collected()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("r", new CacheOptions { MaxEntries = 50 });
            var end = Task.Delay(2500);
            var reads = 0L;
            var workers = new List<Task>();
            for (var worker = 0; worker < 4; worker++)
            {
                var seed = worker;
                workers.Add(Task.Factory.StartNew(() =>
                {
                    var random = new Random(seed);
                    while (!end.IsCompleted)
                    {
                        var key = "k" + random.Next(100);
                        switch (random.Next(8))
                        {
                            case 0: cache.Set(key, key + " " + random.Next()); break;
                            case 1: cache.Invalidate(key); break;
                            case 2: if (random.Next(100) == 0) cache.ClearLocal(); break;
                            case 3: Right(key, cache.GetOrLoad(key, () => key + " loaded")); break;
                            default:
                                if (cache.TryGet(key, out var value)) Right(key, value);
                                Interlocked.Increment(ref reads);
                                break;
                        }
                    }
                }, TaskCreationOptions.LongRunning));
            }
            workers.Add(Task.Factory.StartNew(() =>
            {
                while (!end.IsCompleted)
                {
                    var garbage = Enumerable.Range(0, 1000).Select(i => new byte[100]).ToList();
                    GC.Collect(garbage.Count % 3);
                    Thread.Sleep(1);
                }
            }, TaskCreationOptions.LongRunning));
            Task.WaitAll(workers.ToArray());
            Is.True(reads > 1000, reads + " reads");
        }
    }

    static void Right(string key, string value)
    {
        if (!value.StartsWith(key + " ")) throw new TestFailed($"{key} gave {value}");
    }

    [Test]
    static void one_key_written_by_all_is_always_found()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<object>("h");
            cache.Set("k", 0);
            var end = Task.Delay(1000);
            var workers = Enumerable.Range(0, 3).Select(w => Task.Factory.StartNew(() =>
            {
                while (!end.IsCompleted)
                {
                    if (w == 0) for (var i = 0; i < 100; i++) cache.Set("k", i);
                    else if (!cache.TryGet("k", out var value)) throw new TestFailed("a miss, though there always is a value");
                }
            }, TaskCreationOptions.LongRunning)).ToArray();
            Task.WaitAll(workers);
        }
    }
}
