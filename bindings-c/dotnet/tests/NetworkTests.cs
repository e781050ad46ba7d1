using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Unstale;

static class NetworkTests
{
    static readonly TimeSpan Long = TimeSpan.FromSeconds(10);

    static void Live(Client client) => Is.Soon(() => client.Status.State == "live", "live: " + client.Status.Json);

    [Test]
    static async Task another_process_sees_every_invalidation()
    {
        var topic = Broker.Topic();
        using (var a = await Client.ConnectAsync(Broker.Url, Broker.Options(topic)))
        using (var b = await Client.ConnectAsync(Broker.Url, Broker.Options(topic)))
        {
            Cache<string> x = a.OpenCache<string>("n"), y = b.OpenCache<string>("n");
            Live(a);
            Live(b);
            var events = new List<Invalidation>();
            y.Invalidated += (sender, invalidation) => { lock (events) events.Add(invalidation); };
            var calls = new Func<Receipt>[]
            {
                () => x.Invalidate("k:1"), () => x.Invalidate("k:1", 7), () => x.InvalidateMany(new[] { "k:1", "k:2" }),
                () => x.InvalidateTags("tag"), () => x.InvalidatePrefix("k:"), () => x.InvalidateAll(),
                () => x.Update("k:1", "new", x.Lease("k:1")),
            };
            foreach (var call in calls)
            {
                Is.True(y.Set("k:1", "old", new SetOptions { Tags = new[] { "tag" } }), "stored");
                var receipt = call();
                Is.True(await receipt.DeliveredAsync(Long), "delivered");
                Is.True(await b.WaitForAsync(receipt.Token, Long), "applied");
                Is.Equal(null, y.Get("k:1"));
            }
            Is.Equal("new", x.Get("k:1"));
            Is.Soon(() => { lock (events) return events.Count == calls.Length; }, "all events");
            Is.True(events.All(e => !e.IsLocal && e.Src == a.Status.Src && e.Seq > 0), "remote ones");
            Is.True(events[1].Keys[0] == "k:1" && events[3].Tags[0] == "tag" && events[4].Prefixes[0] == "k:" && events[5].All, "what they say");
        }
    }

    [Test]
    static void a_plain_key_from_a_stranger_counts()
    {
        var topic = Broker.Topic();
        using (var client = Client.Connect(Broker.Url, Broker.Options(topic)))
        {
            var cache = client.OpenCache<string>("plain");
            Live(client);
            cache.Set("ключ", "v");
            Is.Equal(0, Broker.Publish(topic + "/plain", "ключ").ExitCode);
            Is.Soon(() => cache.Get("ключ") == null, "it falls");
        }
    }

    [Test]
    static async Task waits_end_by_time_and_by_cancellation()
    {
        // Nothing listens there, so nothing is ever delivered.
        using (var client = Client.Connect("mqtt://127.0.0.1:1", new ClientOptions { Lazy = true }))
        {
            var cache = client.OpenCache<string>("w");
            var receipt = cache.Invalidate("k");
            Is.True(!receipt.Delivered(TimeSpan.Zero), "not delivered");
            Is.True(!receipt.Delivered(TimeSpan.FromMilliseconds(20)), "not delivered");
            Is.True(!await receipt.DeliveredAsync(TimeSpan.FromMilliseconds(20)), "not delivered");
            Is.True(!await receipt.DeliveredAsync(TimeSpan.Zero), "not delivered");
            // More than there are threads for it.
            var source = new CancellationTokenSource();
            var waits = Enumerable.Range(0, 200).Select(i => receipt.DeliveredAsync(Timeout.InfiniteTimeSpan, source.Token)).ToArray();
            var timed = receipt.DeliveredAsync(TimeSpan.FromMilliseconds(50));
            var token = client.WaitForAsync("u1:another:5:w", Timeout.InfiniteTimeSpan, source.Token);
            Is.True(!await timed, "not delivered");
            var clock = Stopwatch.StartNew();
            source.Cancel();
            foreach (var wait in waits) Is.Thrown<TaskCanceledException>(() => wait);
            Is.Thrown<TaskCanceledException>(() => token);
            Is.True(clock.Elapsed < TimeSpan.FromSeconds(2), "at once: " + clock.Elapsed);
            Is.Equal(1L, client.Status.Unsent);
            Is.Equal(1, client.Close(TimeSpan.FromMilliseconds(10)), "left unsent");
        }
    }

    [Test]
    static void a_wait_ends_when_the_client_is_closed()
    {
        var client = Client.Connect("mqtt://127.0.0.1:1", new ClientOptions { Lazy = true });
        var cache = client.OpenCache<string>("w");
        var wait = client.WaitForAsync("u1:another:5:w", Long);
        var blocked = Task.Factory.StartNew(() => client.WaitFor("u1:another:5:w", Long), TaskCreationOptions.LongRunning);
        var receipt = cache.Invalidate("k");
        var delivered = receipt.DeliveredAsync(Long);
        var clock = Stopwatch.StartNew();
        client.Close(TimeSpan.Zero);
        Is.Thrown<ClosedException>(() => wait);
        Is.Thrown<ClosedException>(() => blocked);
        Is.True(!delivered.Result, "not delivered");
        Is.True(!receipt.Delivered(Timeout.InfiniteTimeSpan), "never");
        Is.True(clock.Elapsed < TimeSpan.FromSeconds(5), "at once: " + clock.Elapsed);
    }

    [Test]
    static async Task connecting_fails_with_what_is_wrong()
    {
        Is.Equal(ErrorKind.Connect, Is.Thrown<ConnectException>(() => Client.Connect("mqtt://127.0.0.1:1")).Kind);
        Is.Thrown<ConnectException>(() => Client.ConnectAsync("mqtt://127.0.0.1:1"));
        var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        Is.Thrown<OperationCanceledException>(() => Client.ConnectAsync(Broker.Url, null, cancelled.Token));
        // A server that never answers.
        var silent = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0);
        silent.Start();
        var url = "mqtt://127.0.0.1:" + ((System.Net.IPEndPoint)silent.LocalEndpoint).Port;
        var source = new CancellationTokenSource(50);
        var clock = Stopwatch.StartNew();
        var options = new ClientOptions { ConnectTimeout = TimeSpan.FromSeconds(2) };
        try
        {
            await Client.ConnectAsync(url, options, source.Token);
            throw new TestFailed("connected to nothing");
        }
        catch (OperationCanceledException)
        {
        }
        Is.True(clock.Elapsed < TimeSpan.FromSeconds(1.5), "at once");
        silent.Stop();
    }

    [Test]
    static void a_status_change_is_told()
    {
        var client = Client.Connect(Broker.Url, Broker.Options());
        var states = new List<string>();
        client.StatusChanged += (sender, status) => { lock (states) states.Add(status.State); };
        client.OpenCache<string>("s");
        Live(client);
        client.Close();
        Is.Soon(() => { lock (states) return states.Contains("closed"); }, "closed");
    }

    [Test]
    static void the_log_speaks_once_somebody_listens()
    {
        var records = new List<LogRecord>();
        EventHandler<LogRecord> handler = (sender, record) => { lock (records) records.Add(record); };
        Client.Log += handler;
        Client.LogLevel = LogLevel.Trace;
        try
        {
            // Nothing listens there, which is worth a warning.
            using (Client.Connect("mqtt://127.0.0.1:1", new ClientOptions { Lazy = true }))
            {
                Is.Soon(() => { lock (records) return records.Any(r => r.Level == LogLevel.Warn); }, "a warning");
            }
            lock (records) Is.True(records.All(r => r.Message.Length > 0 && r.Target.Length > 0 && r.Level != LogLevel.Off), "their parts");
            // A handler that throws is reported there.
            using (var client = Client.Connect("memory://log"))
            {
                var cache = client.OpenCache<string>("log");
                cache.Invalidated += (sender, invalidation) => throw new InvalidOperationException("oops");
                cache.InvalidateAll();
                Is.Soon(() => { lock (records) return records.Any(r => r.Message.Contains("oops")); }, "the report");
            }
            Is.Thrown<InvalidArgumentException>(() => { Client.LogLevel = (LogLevel)9; });
        }
        finally
        {
            Client.LogLevel = LogLevel.Off;
            Client.Log -= handler;
        }
    }
}
