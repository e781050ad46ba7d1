// The .NET driver of the conformance script: commands in, public API calls, answers out. See tests/conformance/README.md.
using System;
using System.Collections.Generic;
using System.IO;
using System.Text;
using System.Text.Json;
using Unstale;

sealed class Driver
{
    sealed class Opened
    {
        public Cache<string> Cache;
        public readonly List<JsonElement> Events = new List<JsonElement>();
    }

    Client client;
    readonly Dictionary<string, Opened> caches = new Dictionary<string, Opened>();
    readonly Dictionary<string, Lease> leases = new Dictionary<string, Lease>();
    readonly Dictionary<string, Receipt> receipts = new Dictionary<string, Receipt>();
    readonly Loads loads = new Loads();

    static int Main()
    {
        var utf8 = new UTF8Encoding(false);
        var input = new StreamReader(Console.OpenStandardInput(), utf8);
        var output = new StreamWriter(Console.OpenStandardOutput(), utf8) { AutoFlush = true, NewLine = "\n" };
        var driver = new Driver();
        for (var line = input.ReadLine(); line != null; line = input.ReadLine())
        {
            Request request = null;
            object answer;
            try
            {
                request = new Request(line);
                answer = new Dictionary<string, object> { ["ok"] = driver.Serve(request) };
            }
            catch (UnstaleException e)
            {
                answer = Error(e.Kind.ToString(), (int)e.Kind, e.Message);
            }
            catch (Exception e)
            {
                answer = Error("Driver", -1, e.ToString());
            }
            output.WriteLine(JsonSerializer.Serialize(answer));
            if (request?.Command == "quit") break;
        }
        return 0;
    }

    static object Error(string kind, int code, string message) => new Dictionary<string, object>
    {
        ["error"] = new Dictionary<string, object> { ["kind"] = kind, ["code"] = code, ["message"] = message },
    };

    object Serve(Request r)
    {
        switch (r.Command)
        {
            case "hello":
                return new Dictionary<string, object> { ["language"] = "dotnet", ["protocol"] = 1 };
            case "log":
                Client.LogLevel = LogLevel.Trace;
                Client.Log += (_, record) => Console.Error.WriteLine(record);
                return null;
            case "connect":
                client = Client.Connect(r.Text("url"), new ClientOptions { Further = r.Config() });
                caches.Clear();
                return null;
            case "cache":
                caches[r.Text("ns")] = new Opened { Cache = Connected.OpenCache<string>(r.Text("ns"), new CacheOptions { Further = r.Config() }) };
                return null;
            case "get":
                return Cache(r).TryGet(r.Text("key"), out var value) ? value : null;
            case "set":
                return Cache(r).Set(r.Text("key"), r.Text("value"), r.Options(leases));
            case "get_or_load":
                return Loads.Blocking(Cache(r), r.Text("key"), r.Options(leases), r.Outcome());
            case "load_start":
                loads.Start(r.Text("id"), Cache(r), r.Text("key"), r.Options(leases));
                return null;
            case "load_state":
                return loads.State(r.Text("id"));
            case "load_finish":
                loads.Finish(r.Text("id"), r.Outcome());
                return null;
            case "lease":
                leases[r.Text("id")] = Cache(r).Lease(r.Text("key"));
                return null;
            case "lease_drop":
                if (!leases.Remove(r.Text("id"), out var dropped)) throw new DriverException("no such lease");
                dropped.Dispose();
                return null;
            case "update":
                return Keep(Cache(r).Update(r.Text("key"), r.Text("value"), r.Options(leases)));
            case "invalidate":
                var version = r.Number("version");
                return Keep(version == null ? Cache(r).Invalidate(r.Text("key")) : Cache(r).Invalidate(r.Text("key"), version.Value));
            case "invalidate_many":
                return Keep(Cache(r).InvalidateMany(r.Keys()));
            case "invalidate_tags":
                return Keep(Cache(r).InvalidateTags(r.Texts("tags")));
            case "invalidate_prefix":
                return Keep(Cache(r).InvalidatePrefix(r.Text("prefix")));
            case "invalidate_all":
                return Keep(Cache(r).InvalidateAll());
            case "evict":
                return Cache(r).Evict(r.Text("key"));
            case "clear_local":
                Cache(r).ClearLocal();
                return null;
            case "delivered":
                if (!receipts.TryGetValue(r.Text("token"), out var receipt)) throw new DriverException("no receipt with this token");
                return receipt.Delivered(r.Duration("timeout_ms"));
            case "wait_for":
                return Connected.WaitFor(r.Text("token"), r.Duration("timeout_ms"));
            case "stats":
                return Parse(Cache(r).Stats.Json);
            case "status":
                return Parse(Connected.Status.Json);
            case "watch":
                var watched = Open(r);
                watched.Cache.Invalidated += (sender, invalidation) =>
                {
                    lock (watched.Events) watched.Events.Add(Parse(invalidation.Json));
                };
                return null;
            case "events":
                var events = Open(r).Events;
                lock (events) return events.ToArray();
            case "close":
                return Connected.Close(r.Duration("timeout_ms"));
            case "quit":
                return null;
            default:
                throw new DriverException("unknown command " + r.Command);
        }
    }

    Client Connected => client ?? throw new DriverException("not connected");

    Opened Open(Request r) =>
        caches.TryGetValue(r.Text("ns"), out var opened) ? opened : throw new DriverException("no cache of this namespace is open");

    Cache<string> Cache(Request r) => Open(r).Cache;

    object Keep(Receipt receipt)
    {
        receipts[receipt.Token] = receipt;
        return new Dictionary<string, object> { ["token"] = receipt.Token, ["stored"] = receipt.Stored };
    }

    static JsonElement Parse(string json)
    {
        using (var document = JsonDocument.Parse(json)) return document.RootElement.Clone();
    }
}
