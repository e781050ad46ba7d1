using System;
using System.Collections.Generic;
using System.Text.Json;

namespace Unstale
{
    /// <summary>
    /// The options of a client. Null means "not given": then the URL's query decides, then the environment (UNSTALE_URL,
    /// UNSTALE_STALENESS_BOUND, …), then the default.
    /// </summary>
    public sealed class ClientOptions
    {
        /// <summary>Where the broker is: mqtt://, mqtts://, ws://, wss://, awsiot://endpoint, or memory://name inside this process. Without any, nothing
        /// leaves this process. May hold user, password and options ("mqtt://host?staleness_bound=10s").</summary>
        public string Url { get; set; }
        /// <summary>This service's name, with which its client id begins: 1 to 32 of A-Z a-z 0-9 _ -. Default "unstale".</summary>
        public string App { get; set; }
        /// <summary>The root of the topics. All that share a cache share it. Default "cache/invalidate".</summary>
        public string Topic { get; set; }
        /// <summary>No read is staler than this, whatever happens. 500 ms to 1 h, default 30 s.</summary>
        public TimeSpan? StalenessBound { get; set; }
        /// <summary>Limits Connect, and each attempt to reconnect. 1 ms to 10 min, default 5 s.</summary>
        public TimeSpan? ConnectTimeout { get; set; }
        /// <summary>Connect returns before the broker answers; the client keeps trying. Default false.</summary>
        public bool? Lazy { get; set; }
        /// <summary>MQTT's keep-alive. Whole seconds, 5 s to 20 min, default 30 s.</summary>
        public TimeSpan? KeepAlive { get; set; }
        /// <summary>How many operations may wait for the broker before they are collapsed to coarser ones. Default 10,000.</summary>
        public int? OutboxLimit { get; set; }
        /// <summary>A folder, made if missing, in which invalidations wait that the broker has not taken yet, so that they survive this
        /// process: the next start with this folder sends them. Processes may share one; one per broker. Unix only. Default: none.</summary>
        public string OutboxDir { get; set; }
        /// <summary>How many messages are sent a second at most, up to 1,000,000. Default: no limit.</summary>
        public int? MaxPublishRate { get; set; }
        /// <summary>The broker may reorder one publisher's messages. Default false.</summary>
        public bool? Reordering { get; set; }
        /// <summary>How long an invalidated version is remembered. At least 1 s, default 5 min.</summary>
        public TimeSpan? TombstoneTtl { get; set; }
        /// <summary>The MQTT client id, 1 to 128 bytes; unique per broker. Default: made from App.</summary>
        public string ClientId { get; set; }
        /// <summary>"5" (the default) or "3.1.1".</summary>
        public string MqttVersion { get; set; }
        /// <summary>For the broker.</summary>
        public string Username { get; set; }
        /// <summary>For the broker.</summary>
        public string Password { get; set; }
        /// <summary>A key, id:secret (the secret from "openssl rand -hex 32"), or several with commas between them. The first signs what this
        /// client publishes; what it receives must be signed with one of them, or is refused and counted. Default: none.</summary>
        public string SigningKey { get; set; }
        /// <summary>With SigningKey: whether what is not signed is refused. False while keys are being introduced. Default true.</summary>
        public bool? RequireSignatures { get; set; }
        /// <summary>For mqtts://, wss:// and awsiot://. The system's authorities are trusted unless CaFile is given.</summary>
        public TlsOptions Tls { get; set; }
        /// <summary>Further options, by their names in the reference ("tombstone_ttl"), that have no property here or are not given as
        /// one. Values are what JSON can hold; a duration is a TimeSpan or a text ("30s").</summary>
        public IDictionary<string, object> Further { get; set; }

        internal string ToJson(string url)
        {
            if (url != null && Url != null) throw new ConfigException("option `url` is given twice, as an argument and in the options; give it once");
            var writer = new OptionsWriter();
            writer.Add("url", url ?? Url);
            writer.Add("app", App);
            writer.Add("topic", Topic);
            writer.Add("staleness_bound", StalenessBound);
            writer.Add("connect_timeout", ConnectTimeout);
            writer.Add("lazy", Lazy);
            writer.Add("keep_alive", KeepAlive);
            writer.Add("outbox_limit", OutboxLimit);
            writer.Add("outbox_dir", OutboxDir);
            writer.Add("max_publish_rate", MaxPublishRate);
            writer.Add("reordering", Reordering);
            writer.Add("tombstone_ttl", TombstoneTtl);
            writer.Add("client_id", ClientId);
            writer.Add("mqtt_version", MqttVersion);
            writer.Add("username", Username);
            writer.Add("password", Password);
            writer.Add("signing_key", SigningKey);
            writer.Add("require_signatures", RequireSignatures);
            writer.Add("tls", Tls?.ToDictionary());
            return writer.Merge(Further);
        }
    }

    /// <summary>PEM files, and the protocols to offer by ALPN.</summary>
    public sealed class TlsOptions
    {
        /// <summary>Authorities to trust in place of the system's.</summary>
        public string CaFile { get; set; }
        /// <summary>This client's certificate; needs KeyFile.</summary>
        public string CertFile { get; set; }
        /// <summary>Its key.</summary>
        public string KeyFile { get; set; }
        /// <summary>Protocols to offer.</summary>
        public IReadOnlyList<string> Alpn { get; set; }

        internal IDictionary<string, object> ToDictionary()
        {
            var tls = new Dictionary<string, object>();
            if (CaFile != null) tls["ca_file"] = CaFile;
            if (CertFile != null) tls["cert_file"] = CertFile;
            if (KeyFile != null) tls["key_file"] = KeyFile;
            if (Alpn != null) tls["alpn"] = Alpn;
            return tls;
        }
    }

    /// <summary>The options of a cache. Null means the default.</summary>
    public sealed class CacheOptions
    {
        /// <summary>How long an entry lives at most. 1 ms to ten years, default 5 min.</summary>
        public TimeSpan? Ttl { get; set; }
        /// <summary>Lives end early by up to this share, so that entries loaded together do not expire together. 0 to 1, default 0.1.</summary>
        public double? TtlJitter { get; set; }
        /// <summary>How many entries are held at most. Default 10,000.</summary>
        public long? MaxEntries { get; set; }
        /// <summary>How long "not found" is remembered. Default: not at all.</summary>
        public TimeSpan? NegativeTtl { get; set; }
        /// <summary>How long a reader waits for the load of another. Default: no limit.</summary>
        public TimeSpan? LoadTimeout { get; set; }
        /// <summary>See <see cref="ClientOptions.Further"/>.</summary>
        public IDictionary<string, object> Further { get; set; }

        internal string ToJson()
        {
            var writer = new OptionsWriter();
            writer.Add("ttl", Ttl);
            writer.Add("ttl_jitter", TtlJitter);
            writer.Add("max_entries", MaxEntries);
            writer.Add("negative_ttl", NegativeTtl);
            writer.Add("load_timeout", LoadTimeout);
            return writer.Merge(Further);
        }
    }

    /// <summary>What a value is stored with.</summary>
    public sealed class SetOptions
    {
        /// <summary>How long the entry lives at most, instead of the cache's Ttl: longer than 0, at most ten years; in
        /// milliseconds, rounded up.</summary>
        public TimeSpan? Ttl { get; set; }
        /// <summary>Tags by which InvalidateTags reaches the entry: at most 1,000, each 1 to 1,024 bytes of UTF-8.</summary>
        public IEnumerable<string> Tags { get; set; }
        /// <summary>Keys whose invalidation, by whomever, makes the entry fall too: at most 1,000.</summary>
        public IEnumerable<string> DependsOn { get; set; }
        /// <summary>The source's version of the value, 0 to 2^53 - 1: it is refused if a higher one was invalidated.</summary>
        public long? Version { get; set; }
        /// <summary>Store under this lease, which that uses up. Not for read-throughs, which take their own.</summary>
        public Lease Lease { get; set; }
    }
}
