using System;
using System.Collections.Generic;
using System.Runtime.CompilerServices;

namespace Unstale
{
    /// <summary>
    /// The entries of one namespace in this process: values of type <typeparamref name="T"/>, live. An object is shared by everyone
    /// who reads it; nothing is serialized. All members may be used from any thread at the same time. It ends with its client.
    /// </summary>
    public sealed unsafe partial class Cache<T>
    {
        /// A read is repeated so often because its value was replaced between finding its number and looking it up.
        const int Peeks = 4;

        readonly CacheHandle handle;
        readonly IntPtr number;
        readonly Client client; // lives as long as its caches
        readonly Listener<Invalidation> invalidated;

        internal Cache(Client client, string ns, IntPtr number)
        {
            handle = new CacheHandle(number);
            this.number = number;
            this.client = client;
            Namespace = ns;
            invalidated = new Listener<Invalidation>(this, json => new Invalidation(json));
        }

        /// <summary>The one that it was opened with.</summary>
        public string Namespace { get; }

        /// <summary>The value held under a key, unless it may be staler than the bound. Never blocks, never waits for the network. A
        /// key that cannot be held, and a closed client, are a miss.</summary>
        /// <exception cref="InvalidArgumentException">The key is null.</exception>
        public bool TryGet(string key, out T value)
        {
            if (key == null) throw NullKey();
            for (var i = 0; i < Peeks; i++)
            {
                var found = Text.Peek(number, key);
                if (found == 0) break;
                var entry = Table.Find(found);
                if (entry != null)
                {
                    // C holds only numbers under which this cache put an Entry<T> in.
                    value = Unsafe.As<Entry<T>>(entry).Value;
                    GC.KeepAlive(this);
                    return true;
                }
                if (i == Peeks - 1) return TryGetHeld(key, out value);
            }
            GC.KeepAlive(this);
            value = default(T);
            return false;
        }

        static Exception NullKey() => new InvalidArgumentException("key is null");

        /// Writers are that fast: hold the value while looking it up.
        bool TryGetHeld(string key, out T value)
        {
            var bytes = Text.Key("key", key, out var length);
            NativeValue held;
            NativeResult result;
            fixed (byte* p = bytes) result = Native.CacheGet(number, p, length, &held);
            GC.KeepAlive(this);
            if (result.Code != 0 || held.Data == 0)
            {
                value = default(T);
                return false;
            }
            value = Claim<T>(&held);
            return true;
        }

        /// What a number stands for whose reference is ours; gives the reference back.
        static TValue Claim<TValue>(NativeValue* held)
        {
            var value = ((Entry<TValue>)Table.Find(held->Data)).Value;
            Native.ValueRelease(held);
            return value;
        }

        /// <summary>As TryGet; on a miss, <paramref name="otherwise"/>.</summary>
        public T Get(string key, T otherwise = default(T)) => TryGet(key, out var value) ? value : otherwise;

        /// <summary>Whether TryGet would find the key now. Counts neither a hit nor a miss.</summary>
        /// <exception cref="InvalidArgumentException">A key is 1 to 1,024 bytes of UTF-8 without NUL.</exception>
        /// <exception cref="ClosedException">The client was closed.</exception>
        public bool Contains(string key)
        {
            var bytes = Text.Key("key", key, out var length);
            byte contained = 0;
            fixed (byte* p = bytes) Check(Native.CacheContains(number, p, length, &contained));
            return contained != 0;
        }

        /// <summary>
        /// Stores a value that is current now, here only: nothing is published. Read it under a lease, or use GetOrLoad, if it may be
        /// invalidated meanwhile. After a write to the source, use Update or Invalidate.
        /// </summary>
        /// <returns>False: it was refused, because its lease was fenced by an invalidation or used before, or its version is lower
        /// than the newest one known.</returns>
        /// <exception cref="InvalidArgumentException">A null value; a bad key, tag, dependency, version or ttl; a lease of another
        /// key, or a disposed one.</exception>
        /// <exception cref="ClosedException">The client was closed.</exception>
        public bool Set(string key, T value, SetOptions options = null)
        {
            CheckValue(value);
            using (var terms = Terms.Of(options))
            {
                var bytes = Text.Key("key", key, out var length);
                byte stored = 0;
                NativeResult result;
                fixed (byte* p = bytes)
                {
                    NativeValue native;
                    Wrap(value, &native);
                    result = Native.CacheSet(number, p, length, &native, terms.Pointer, &stored);
                    Native.ValueRelease(&native);
                }
                GC.KeepAlive(options?.Lease);
                Check(result);
                return stored != 0;
            }
        }

        /// <summary>
        /// Stores a new value here and invalidates the key everywhere else, after a write to the source. It needs a lease taken before
        /// that write, or a version: without, two concurrent writers could leave the older value here. If the lease was fenced or a
        /// higher version is known, it is an invalidation only; <see cref="Receipt.Stored"/> tells.
        /// </summary>
        /// <exception cref="InvalidArgumentException">As Set; neither lease nor version.</exception>
        /// <exception cref="ClosedException">The client was closed.</exception>
        public Receipt Update(string key, T value, SetOptions options)
        {
            CheckValue(value);
            using (var terms = Terms.Of(options))
            {
                var bytes = Text.Key("key", key, out var length);
                IntPtr receipt;
                NativeResult result;
                fixed (byte* p = bytes)
                {
                    NativeValue native;
                    Wrap(value, &native);
                    result = Native.CacheUpdate(number, p, length, &native, terms.Pointer, &receipt);
                    Native.ValueRelease(&native);
                }
                GC.KeepAlive(options?.Lease);
                Check(result);
                return new Receipt(client, receipt);
            }
        }

        /// <summary>As <see cref="Update(string, T, SetOptions)"/>, with a lease and nothing else.</summary>
        public Receipt Update(string key, T value, Lease lease) => Update(key, value, new SetOptions { Lease = lease });

        static void CheckValue(T value)
        {
            if (value == null) throw new InvalidArgumentException("value is null, which means \"not found\"; use Evict or Invalidate to remove a key");
        }

        static void Wrap<TValue>(TValue value, NativeValue* native)
        {
            var entry = Table.Put(value);
            // Cannot fail: there is data, and there is somewhere to put it.
            Native.ValueNew(entry, UIntPtr.Zero, Table.FreePointer, (UIntPtr)entry, native);
        }

        /// <summary>
        /// Takes a lease. Take it before you read the source, then Set with it: if the key, or a tag or dependency given there, was
        /// invalidated in between, the value is not stored. For Update, take it before you write to the source. Several may be open
        /// for one key.
        /// </summary>
        /// <exception cref="InvalidArgumentException">A bad key.</exception>
        /// <exception cref="ClosedException">The client was closed.</exception>
        public Lease Lease(string key)
        {
            var bytes = Text.Key("key", key, out var length);
            IntPtr lease;
            fixed (byte* p = bytes) Check(Native.CacheLease(number, p, length, &lease));
            return new Lease(key, lease);
        }

        /// <summary>Removes a key here and everywhere else. Applied here before this returns; never waits for the network.</summary>
        /// <exception cref="InvalidArgumentException">A bad key.</exception>
        /// <exception cref="ClosedException">The client was closed.</exception>
        public Receipt Invalidate(string key)
        {
            var bytes = Text.Key("key", key, out var length);
            IntPtr receipt;
            fixed (byte* p = bytes) Check(Native.CacheInvalidate(number, p, length, &receipt));
            return new Receipt(client, receipt);
        }

        /// <summary>Says that <paramref name="version"/> (0 to 2^53 - 1) of a key is now current: entries with a lower version or none
        /// fall, here and everywhere else, and lower ones are refused for TombstoneTtl.</summary>
        /// <exception cref="InvalidArgumentException">A bad key or version.</exception>
        /// <exception cref="ClosedException">The client was closed.</exception>
        public Receipt Invalidate(string key, long version)
        {
            CheckVersion(version);
            var bytes = Text.Key("key", key, out var length);
            IntPtr receipt;
            fixed (byte* p = bytes) Check(Native.CacheInvalidateVersion(number, p, length, (ulong)version, &receipt));
            return new Receipt(client, receipt);
        }

        static void CheckVersion(long? version)
        {
            if (version < 0) throw new InvalidArgumentException($"version must be 0 to 2^53 - 1, not {version}");
        }

        /// <summary>Removes many keys at once, here and everywhere else; all or, if one is bad, none.</summary>
        /// <exception cref="InvalidArgumentException">A bad key.</exception>
        /// <exception cref="ClosedException">The client was closed.</exception>
        public Receipt InvalidateMany(IEnumerable<string> keys)
        {
            if (keys == null) throw new InvalidArgumentException("keys is null");
            return InvalidateMany(Texts.List("keys", keys), null);
        }

        /// <summary>The same; a key with a version as by <see cref="Invalidate(string, long)"/>.</summary>
        public Receipt InvalidateMany(IEnumerable<KeyValuePair<string, long?>> versions)
        {
            if (versions == null) throw new InvalidArgumentException("versions is null");
            var keys = new List<string>();
            var numbers = new List<long?>();
            foreach (var pair in versions)
            {
                CheckVersion(pair.Value);
                keys.Add(pair.Key);
                numbers.Add(pair.Value);
            }
            return InvalidateMany(Texts.List("keys", keys), numbers);
        }

        Receipt InvalidateMany(List<string> keys, List<long?> versions)
        {
            IntPtr receipt;
            var items = new NativeKeyVersion[keys.Count + 1]; // not empty, so that there is a first
            fixed (byte* memory = new byte[Texts.Size("keys", keys) + 8])
            fixed (NativeKeyVersion* first = items)
            {
                var at = memory;
                var texts = Texts.Write(keys, ref at);
                for (var i = 0; i < keys.Count; i++)
                {
                    first[i].Key = texts[i].Data;
                    first[i].KeyLength = texts[i].Length;
                    var version = versions?[i];
                    if (version == null) continue;
                    first[i].Version = (ulong)version.Value;
                    first[i].HasVersion = 1;
                }
                Check(Native.CacheInvalidateMany(number, first, (UIntPtr)keys.Count, &receipt));
            }
            return new Receipt(client, receipt);
        }

        /// <summary>Removes every entry that has one of these tags, here and everywhere else.</summary>
        /// <exception cref="InvalidArgumentException">A bad tag; then nothing is removed.</exception>
        /// <exception cref="ClosedException">The client was closed.</exception>
        public Receipt InvalidateTags(IEnumerable<string> tags)
        {
            if (tags == null) throw new InvalidArgumentException("tags is null");
            var list = Texts.List("tags", tags);
            IntPtr receipt;
            fixed (byte* memory = new byte[Texts.Size("tags", list) + 8])
            {
                var at = memory;
                var texts = Texts.Write(list, ref at);
                Check(Native.CacheInvalidateTags(number, texts, (UIntPtr)list.Count, &receipt));
            }
            return new Receipt(client, receipt);
        }

        /// <summary>The same.</summary>
        public Receipt InvalidateTags(params string[] tags) => InvalidateTags((IEnumerable<string>)tags);

        /// <summary>Removes every entry whose key begins with <paramref name="prefix"/> (1 to 1,024 bytes), here and everywhere else.</summary>
        /// <exception cref="InvalidArgumentException">A bad prefix.</exception>
        /// <exception cref="ClosedException">The client was closed.</exception>
        public Receipt InvalidatePrefix(string prefix)
        {
            var bytes = Text.Key("prefix", prefix, out var length);
            IntPtr receipt;
            fixed (byte* p = bytes) Check(Native.CacheInvalidatePrefix(number, p, length, &receipt));
            return new Receipt(client, receipt);
        }

        /// <summary>Removes everything, here and everywhere else, in a few microseconds however much it is.</summary>
        /// <exception cref="ClosedException">The client was closed.</exception>
        public Receipt InvalidateAll()
        {
            IntPtr receipt;
            Check(Native.CacheInvalidateAll(number, &receipt));
            return new Receipt(client, receipt);
        }

        /// <summary>Removes a key here, and here only; a load of it that is under way is not stored.</summary>
        /// <returns>Whether it was held.</returns>
        /// <exception cref="InvalidArgumentException">A bad key.</exception>
        /// <exception cref="ClosedException">The client was closed.</exception>
        public bool Evict(string key)
        {
            var bytes = Text.Key("key", key, out var length);
            byte held = 0;
            fixed (byte* p = bytes) Check(Native.CacheEvict(number, p, length, &held));
            return held != 0;
        }

        /// <summary>Removes everything here, and here only; loads under way are not stored.</summary>
        /// <exception cref="ClosedException">The client was closed.</exception>
        public void ClearLocal() => Check(Native.CacheClearLocal(number));

        /// <summary>Entries held, expired ones that were not replaced yet included.</summary>
        public long Count
        {
            get
            {
                var count = (long)Native.CacheLength(number);
                GC.KeepAlive(this);
                return count;
            }
        }

        /// <summary>The cache's counters. Works on a closed client too.</summary>
        public Stats Stats
        {
            get
            {
                byte* json;
                Check(Native.CacheStats(number, &json));
                return new Stats(Text.Take(json));
            }
        }

        /// <summary>
        /// An invalidation was applied here, this client's own included; the entries are gone by then. Raised on a thread of the
        /// client's own, one call at a time; a handler may use the cache, but while it runs other events wait. An exception in it is
        /// logged and goes no further. Handlers, and what they refer to, live as long as the cache; one that refers to the cache
        /// keeps it, until it is removed.
        /// </summary>
        public event EventHandler<Invalidation> Invalidated
        {
            add => invalidated.Add(value, Subscribe);
            remove => invalidated.Remove(value);
        }

        NativeResult Subscribe(IntPtr callback, UIntPtr userdata, IntPtr free, IntPtr* subscription)
        {
            var result = Native.CacheOnInvalidated(number, callback, userdata, free, subscription);
            GC.KeepAlive(this);
            return result;
        }

        /// Also what keeps this alive during the call before.
        void Check(NativeResult result)
        {
            UnstaleException.Check(result);
            GC.KeepAlive(handle);
        }
    }
}
