using System;
using System.Collections.Generic;

namespace Unstale
{
    /// <summary>What is known of a client's connection.</summary>
    public sealed class Status
    {
        internal Status(string json)
        {
            Json = json;
            var o = Answer.Parse(json);
            State = o.String("state");
            Reason = o.String("reason");
            Transport = o.String("transport");
            Url = o.String("url");
            ClientId = o.String("client_id");
            Src = o.String("src");
            StalenessBound = TimeSpan.FromMilliseconds(o.Long("staleness_bound_ms"));
            Caches = o.Long("caches");
            Connects = o.Long("connects");
            Unsent = o.Long("unsent");
            EventsDropped = o.Long("events_dropped");
            OutboxDirError = o.String("outbox_dir_error");
        }

        /// <summary>"connecting" (never connected so far), "live" (connected, and every cache proved fresh), "degraded" (entries are
        /// served by their age) or "closed".</summary>
        public string State { get; }
        /// <summary>Why, in words; null when live.</summary>
        public string Reason { get; }
        /// <summary>How messages travel: "memory", "mqtt", "mqtts", "ws", "wss".</summary>
        public string Transport { get; }
        /// <summary>The broker, without secrets.</summary>
        public string Url { get; }
        /// <summary>The MQTT client id.</summary>
        public string ClientId { get; }
        /// <summary>This client's publisher stream, the first part of its tokens.</summary>
        public string Src { get; }
        /// <summary>In force.</summary>
        public TimeSpan StalenessBound { get; }
        /// <summary>Caches that are open.</summary>
        public long Caches { get; }
        /// <summary>Connections made so far.</summary>
        public long Connects { get; }
        /// <summary>Messages that the broker has not acknowledged yet.</summary>
        public long Unsent { get; }
        /// <summary>Events that no handler saw because too many waited for a slow one.</summary>
        public long EventsDropped { get; }
        /// <summary>Why what is unsent would not survive this process, if OutboxDir is given and cannot be written; else null.</summary>
        public string OutboxDirError { get; }
        /// <summary>All of it, under the names that it has in every language.</summary>
        public string Json { get; }
        /// <summary>The JSON.</summary>
        public override string ToString() => Json;
    }

    /// <summary>A cache's counters since it was opened.</summary>
    public sealed class Stats
    {
        internal Stats(string json)
        {
            Json = json;
            var o = Answer.Parse(json);
            Entries = o.Long("entries");
            Hits = o.Long("hits");
            Misses = o.Long("misses");
            Loads = o.Long("loads");
            LoadFailures = o.Long("load_failures");
            Joins = o.Long("joins");
            OpenLoads = o.Long("open_loads");
            Sets = o.Long("sets");
            Fenced = o.Long("fenced");
            Evictions = o.Long("evictions");
            InvalidationsLocal = o.Long("invalidations_local");
            InvalidationsRemote = o.Long("invalidations_remote");
            Plain = o.Long("plain");
            Own = o.Long("own");
            Empty = o.Long("empty");
            Malformed = o.Long("malformed");
            Refused = o.Counts("refused");
            Doubts = o.Counts("doubts");
            Epoch = o.Long("epoch");
        }

        /// <summary>Entries held now, expired ones that were not replaced yet included.</summary>
        public long Entries { get; }
        /// <summary>Reads served from the cache.</summary>
        public long Hits { get; }
        /// <summary>Reads that found nothing to serve.</summary>
        public long Misses { get; }
        /// <summary>Loads led here.</summary>
        public long Loads { get; }
        /// <summary>Those of them that failed or were given up.</summary>
        public long LoadFailures { get; }
        /// <summary>Reads that waited for another caller's load.</summary>
        public long Joins { get; }
        /// <summary>Loads and leases that are open now.</summary>
        public long OpenLoads { get; }
        /// <summary>Values stored by Set or Update.</summary>
        public long Sets { get; }
        /// <summary>Values refused: invalidated while they were loaded, older than the bound, or of a lower version.</summary>
        public long Fenced { get; }
        /// <summary>Entries that left for want of room.</summary>
        public long Evictions { get; }
        /// <summary>Calls here that invalidated something.</summary>
        public long InvalidationsLocal { get; }
        /// <summary>Messages of others.</summary>
        public long InvalidationsRemote { get; }
        /// <summary>Messages that were a plain key.</summary>
        public long Plain { get; }
        /// <summary>Messages of this client that came back.</summary>
        public long Own { get; }
        /// <summary>Messages without a payload.</summary>
        public long Empty { get; }
        /// <summary>Messages that could not be read.</summary>
        public long Malformed { get; }
        /// <summary>How many messages were not believed, by reason: unsigned, unknown_key, bad_signature, replayed.</summary>
        public IReadOnlyDictionary<string, long> Refused { get; }
        /// <summary>By reason, how often doubt opened a new epoch.</summary>
        public IReadOnlyDictionary<string, long> Doubts { get; }
        /// <summary>The current one.</summary>
        public long Epoch { get; }
        /// <summary>All of it, under the names that it has in every language.</summary>
        public string Json { get; }
        /// <summary>The JSON.</summary>
        public override string ToString() => Json;
    }

    /// <summary>An invalidation that was applied here.</summary>
    public sealed class Invalidation
    {
        internal Invalidation(string json)
        {
            Json = json;
            var o = Answer.Parse(json);
            Namespace = o.String("namespace");
            Keys = o.Strings("keys");
            Tags = o.Strings("tags");
            Prefixes = o.Strings("prefixes");
            All = o.Bool("all");
            IsLocal = o.String("origin") == "local";
            Src = o.String("src");
            Seq = o.LongOrNull("seq");
        }

        /// <summary>The cache.</summary>
        public string Namespace { get; }
        /// <summary>What fell; never null.</summary>
        public IReadOnlyList<string> Keys { get; }
        /// <summary>Entries with one of these tags fell; never null.</summary>
        public IReadOnlyList<string> Tags { get; }
        /// <summary>Entries whose keys begin so fell; never null.</summary>
        public IReadOnlyList<string> Prefixes { get; }
        /// <summary>Everything fell.</summary>
        public bool All { get; }
        /// <summary>This client's own; false: another's.</summary>
        public bool IsLocal { get; }
        /// <summary>The publisher's stream of a remote message; null if it has none.</summary>
        public string Src { get; }
        /// <summary>Its number there.</summary>
        public long? Seq { get; }
        /// <summary>All of it, under the names that it has in every language.</summary>
        public string Json { get; }
        /// <summary>The JSON.</summary>
        public override string ToString() => Json;
    }
}
