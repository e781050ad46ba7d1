// What a hit costs: `ns per hit` of TryGet, beside ConcurrentDictionary and a read-through that hits. Single thread, 10,000 entries.
//   build.sh OUT/Hit.dll bench/Hit.cs && run.sh OUT/Hit.dll [--json]
using System;
using System.Collections.Concurrent;
using System.Diagnostics;
using System.Linq;
using Unstale;

static class Hit
{
    const int Entries = 10000, Rounds = 3, Repeats = 300;

    static void Main(string[] arguments)
    {
        var keys = Enumerable.Range(0, Entries).Select(i => "product:" + i).ToArray();
        var values = keys.Select(key => new object()).ToArray();
        // Not in the order in which they lie in memory.
        var random = new Random(1);
        var order = keys.OrderBy(key => random.Next()).ToArray();
        using (var client = Client.Connect("memory://bench"))
        {
            var cache = client.OpenCache<object>("bench", new CacheOptions { MaxEntries = 2 * Entries });
            var map = new ConcurrentDictionary<string, object>();
            for (var i = 0; i < Entries; i++)
            {
                cache.Set(keys[i], values[i]);
                map[keys[i]] = values[i];
            }
            var get = Best(() => { foreach (var key in order) if (!cache.TryGet(key, out _)) throw new Exception("a miss"); });
            var load = Best(() => { foreach (var key in order) cache.GetOrLoad(key, Never); });
            var peer = Best(() => { foreach (var key in order) if (!map.TryGetValue(key, out _)) throw new Exception("a miss"); });
            Console.WriteLine(arguments.Contains("--json")
                ? FormattableString.Invariant($"{{\"try_get\":{get:F1},\"get_or_load\":{load:F1},\"concurrent_dictionary\":{peer:F1}}}")
                : FormattableString.Invariant($"TryGet {get:F1} ns, GetOrLoad {load:F1} ns, ConcurrentDictionary {peer:F1} ns"));
        }
    }

    static object Never() => throw new Exception("a miss");

    static double Best(Action round)
    {
        var best = double.MaxValue;
        for (var repeat = 0; repeat < Repeats; repeat++)
        {
            var clock = Stopwatch.StartNew();
            for (var i = 0; i < Rounds; i++) round();
            best = Math.Min(best, clock.Elapsed.TotalMilliseconds * 1e6 / Rounds / Entries);
        }
        return best;
    }
}
