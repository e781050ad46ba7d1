using System;
using System.Collections.Generic;
using System.IO;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;
using Unstale;

static class BadInputTests
{
    static Client Alone() => Client.Connect("memory://" + Guid.NewGuid().ToString("N"));

    static readonly string[] badKeys =
        { null, "", "a\0b", new string('k', 1025), new string('ж', 513), new string('k', 100000), "half \ud83d", "\ude00", new string('k', 200) + "\ud83d" };

    [Test]
    static void a_bad_key_is_refused_everywhere_and_changes_nothing()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("b");
            cache.Set("good", "v");
            var options = new SetOptions { Version = 1 };
            foreach (var bad in badKeys)
            {
                if (bad == null) Is.Thrown<InvalidArgumentException>(() => cache.TryGet(bad, out _));
                else Is.True(!cache.TryGet(bad, out _), "a miss");
                Is.Thrown<InvalidArgumentException>(() => cache.Contains(bad));
                Is.Thrown<InvalidArgumentException>(() => cache.Set(bad, "v"));
                Is.Thrown<InvalidArgumentException>(() => cache.Set(bad, "v", options));
                Is.Thrown<InvalidArgumentException>(() => cache.Update(bad, "v", options));
                Is.Thrown<InvalidArgumentException>(() => cache.Lease(bad));
                Is.Thrown<InvalidArgumentException>(() => cache.Evict(bad));
                Is.Thrown<InvalidArgumentException>(() => cache.Invalidate(bad));
                Is.Thrown<InvalidArgumentException>(() => cache.Invalidate(bad, 1));
                Is.Thrown<InvalidArgumentException>(() => cache.InvalidateMany(new[] { "good", bad }));
                Is.Thrown<InvalidArgumentException>(() => cache.InvalidateTags("good", bad));
                Is.Thrown<InvalidArgumentException>(() => cache.InvalidatePrefix(bad));
                Is.Thrown<InvalidArgumentException>(() => cache.GetOrLoad(bad, () => throw new TestFailed("loaded")));
                Is.Thrown<InvalidArgumentException>(() => cache.GetOrLoadAsync(bad, () => throw new TestFailed("loaded")).AsTask());
                Is.Thrown<InvalidArgumentException>(() => cache.Set("k", "v", new SetOptions { Tags = new[] { bad } }));
                Is.Thrown<InvalidArgumentException>(() => cache.Set("k", "v", new SetOptions { DependsOn = new[] { "fine", bad } }));
            }
            Is.Equal("v", cache.Get("good"));
            Is.Equal(1L, cache.Count);
        }
    }

    [Test]
    static void other_arguments_are_checked_too()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("o");
            var receipt = cache.Invalidate("k");
            var negative = TimeSpan.FromSeconds(-5);
            Is.Thrown<InvalidArgumentException>(() => cache.Set("k", null));
            Is.Thrown<InvalidArgumentException>(() => cache.Update("k", null, new SetOptions { Version = 1 }));
            foreach (var ttl in new[] { TimeSpan.Zero, negative, TimeSpan.MinValue, TimeSpan.MaxValue, Timeout.InfiniteTimeSpan })
            {
                Is.Thrown<InvalidArgumentException>(() => cache.Set("k", "v", new SetOptions { Ttl = ttl }));
                Is.Thrown<InvalidArgumentException>(() => cache.GetOrLoad("k", () => throw new TestFailed("loaded"), new SetOptions { Ttl = ttl }));
            }
            foreach (var version in new[] { -1, long.MinValue, 1L << 53, long.MaxValue })
            {
                Is.Thrown<InvalidArgumentException>(() => cache.Set("k", "v", new SetOptions { Version = version }));
                Is.Thrown<InvalidArgumentException>(() => cache.Invalidate("k", version));
                Is.Thrown<InvalidArgumentException>(() => cache.InvalidateMany(new Dictionary<string, long?> { ["k"] = version }));
            }
            foreach (var timeout in new[] { negative, TimeSpan.MinValue, TimeSpan.MaxValue })
            {
                Is.Thrown<InvalidArgumentException>(() => receipt.Delivered(timeout));
                Is.Thrown<InvalidArgumentException>(() => receipt.DeliveredAsync(timeout));
                Is.Thrown<InvalidArgumentException>(() => client.WaitFor(receipt.Token, timeout));
                Is.Thrown<InvalidArgumentException>(() => client.WaitForAsync(receipt.Token, timeout));
            }
            Is.Thrown<InvalidArgumentException>(() => client.Close(negative));
            foreach (var token in new[] { null, "", "nonsense", "u1:a:b:c", "u1:\0:1:c", "\ud83d" })
            {
                Is.Thrown<InvalidArgumentException>(() => client.WaitFor(token, TimeSpan.Zero));
                Is.Thrown<InvalidArgumentException>(() => client.WaitForAsync(token, TimeSpan.Zero));
            }
            Is.Thrown<InvalidArgumentException>(() => cache.GetOrLoad("k", null));
            Is.Thrown<InvalidArgumentException>(() => cache.GetOrLoadAsync("k", (Func<Task<string>>)null));
            Is.Thrown<InvalidArgumentException>(() => cache.GetOrLoadAsync("k", (Func<CancellationToken, Task<string>>)null));
            Is.Thrown<InvalidArgumentException>(() => cache.InvalidateMany((IEnumerable<string>)null));
            Is.Thrown<InvalidArgumentException>(() => cache.InvalidateMany((IEnumerable<KeyValuePair<string, long?>>)null));
            Is.Thrown<InvalidArgumentException>(() => cache.InvalidateTags((IEnumerable<string>)null));
            foreach (var ns in new[] { null, "bad/name", "_reserved", new string('n', 65), "a\0b", "\ud83d", "o" })
                Is.Thrown<InvalidArgumentException>(() => client.OpenCache<string>(ns));
            cache.Invalidated += null;
            cache.Invalidated -= null;
            cache.Invalidated -= (sender, e) => { };
            Is.Equal("v", cache.GetOrLoad("k", () => "v"), "still works");
        }
    }

    [Test]
    static void options_are_checked_by_the_core_and_named()
    {
        Action<string, ClientOptions> refused = (name, options) =>
        {
            var message = Is.Thrown<ConfigException>(() => Client.Connect("memory://o", options)).Message;
            Is.True(message.Contains(name), message);
            Is.Thrown<ConfigException>(() => Client.ConnectAsync("memory://o", options));
        };
        Func<string, object, ClientOptions> further = (name, value) => new ClientOptions { Further = new Dictionary<string, object> { [name] = value } };
        refused("stalenes_bound", further("stalenes_bound", "5s"));
        refused("staleness_bound", new ClientOptions { StalenessBound = TimeSpan.FromMilliseconds(1) });
        refused("staleness_bound", new ClientOptions { StalenessBound = TimeSpan.FromSeconds(-5) });
        refused("staleness_bound", new ClientOptions { StalenessBound = TimeSpan.MaxValue });
        refused("staleness_bound", new ClientOptions { StalenessBound = TimeSpan.FromTicks(1) });
        refused("outbox_limit", new ClientOptions { OutboxLimit = -1 });
        refused("topic", new ClientOptions { Topic = "a/#" });
        refused("app", new ClientOptions { App = "half \ud83d" });
        refused("lazy", further("lazy", "perhaps"));
        refused("app", further("app", new object()));
        refused("app", further("app", double.NaN));
        refused("app", new ClientOptions { App = "a", Further = new Dictionary<string, object> { ["app"] = "a" } });
        refused("outbox_dir", new ClientOptions { OutboxDir = "/dev/null" });
        refused("signing_key", new ClientOptions { SigningKey = "x" });
        refused("require_signatures", new ClientOptions { RequireSignatures = true });
        refused("url", new ClientOptions { Url = "memory://p" });
        Is.Thrown<ConfigException>(() => Client.Connect("gopher://localhost"));
        Is.Thrown<ConfigException>(() => Client.Connect("memory://half\ud83d"));
        using (var client = Client.Connect(null, new ClientOptions
        {
            Url = "memory://o", StalenessBound = TimeSpan.FromTicks(12345671), Lazy = false, KeepAlive = TimeSpan.FromSeconds(30), OutboxLimit = 5,
            TombstoneTtl = TimeSpan.FromMinutes(1), App = "app", Further = new Dictionary<string, object> { ["reordering"] = false, ["connect_timeout"] = TimeSpan.FromSeconds(1) },
        }))
        {
            Is.True(client.Status.ClientId.StartsWith("app"), client.Status.ClientId);
            Is.Equal(TimeSpan.FromMilliseconds(1234), client.Status.StalenessBound);
            Is.True(Is.Thrown<ConfigException>(() => client.OpenCache<int>("c", new CacheOptions { MaxEntries = -5 })).Message.Contains("max_entries"), "named");
            Is.True(Is.Thrown<ConfigException>(() => client.OpenCache<int>("c", new CacheOptions { TtlJitter = 2 })).Message.Contains("ttl_jitter"), "named");
            Is.Thrown<ConfigException>(() => client.OpenCache<int>("c", new CacheOptions { TtlJitter = double.NaN }));
            client.OpenCache<int>("c", new CacheOptions { Ttl = TimeSpan.FromMinutes(1), TtlJitter = 0.5, MaxEntries = 5 });
            client.OpenCache<int>("");
        }
    }

    [Test]
    static void a_callers_collection_that_throws_is_handed_on()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("t");
            Is.Thrown<NotSupportedException>(() => cache.InvalidateMany(Throwing()));
            Is.Thrown<NotSupportedException>(() => cache.Set("k", "v", new SetOptions { Tags = Throwing() }));
            // One that uses the cache while it is read.
            Is.True(cache.Set("k", "v", new SetOptions { Tags = Nested(cache) }), "stored");
            cache.InvalidateTags("inner tag");
            Is.True(!cache.Contains("k") && cache.Get("inner") == "w", "its tag");
        }
    }

    static IEnumerable<string> Throwing()
    {
        yield return "a";
        throw new NotSupportedException();
    }

    static IEnumerable<string> Nested(Cache<string> cache)
    {
        cache.Set("inner", "w");
        yield return "inner tag";
    }

    [Test]
    static void kinds_have_the_headers_numbers_and_a_class_each()
    {
        var header = File.ReadAllText(Environment.GetEnvironmentVariable("US_HEADER"));
        foreach (ErrorKind kind in Enum.GetValues(typeof(ErrorKind)))
        {
            var name = Regex.Replace(kind.ToString(), "(?<=[a-z])(?=[A-Z])", "_").ToUpperInvariant();
            Is.True(Regex.IsMatch(header, $@"\bUNSTALE_{name} = {(int)kind},"), name);
            var made = UnstaleException.Of(kind, "m");
            Is.True(made.GetType() != typeof(UnstaleException) && made.Kind == kind && made.Message == "m", name);
        }
        Is.True(header.Contains("#define UNSTALE_CLOSE_TIMEOUT_MS " + Native.CloseTimeoutMs), "the default of Close");
        // Every function that is called is there.
        foreach (var method in typeof(Native).GetMethods())
        {
            var import = (System.Runtime.InteropServices.DllImportAttribute)Attribute.GetCustomAttribute(method, typeof(System.Runtime.InteropServices.DllImportAttribute));
            if (import != null) Is.True(header.Contains(import.EntryPoint + "("), import.EntryPoint);
        }
    }
}
