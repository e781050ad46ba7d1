// Everything of .NET's that the C library holds: cached values, loaders' exceptions, listeners.
//
// C knows each by a number: the slot in the low half, the slot's life in the high half. An entry carries its number, so a
// number whose entry was freed meanwhile is recognised by one comparison, and reading takes no lock. C frees on any thread,
// often one of its own: that empties the slot and pushes it on a list, without a lock, an allocation or an exception.
using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;

namespace Unstale
{
    /// What a slot points to. Not changed once it is in the table.
    abstract class Entry
    {
        public ulong Number;
    }

    sealed class Entry<T> : Entry
    {
        public T Value;
    }

    static class Table
    {
        const int ShardBits = 3, Shards = 1 << ShardBits;
        const int SegmentBits = 10, SegmentSize = 1 << SegmentBits;

        struct Slot
        {
            public Entry Entry;
            public uint Life;
            public uint Next; // of the list that it is on: slot + 1, 0 at the end
        }

        sealed class Shard
        {
            public Slot[][] Segments = new Slot[4][]; // replaced when it grows; segments never move
            public uint Used;                          // slots that were ever used
            public uint Free;                          // slots to be used again: the first + 1. Under the lock
            public int Freed;                          // what C freed since. The whole list is taken by an exchange: no ABA problem
#pragma warning disable 169 // there so that no two shards share a cache line
            readonly Padding padding;
#pragma warning restore 169
        }

        [StructLayout(LayoutKind.Sequential, Size = 64)]
        struct Padding
        {
        }

        static readonly Shard[] shards = MakeShards();

        /// The `unstale_free_fn` of every number. The delegate lives as long as the process.
        static readonly FreeFunction free = Free;
        public static readonly IntPtr FreePointer = Marshal.GetFunctionPointerForDelegate(free);

        static Shard[] MakeShards()
        {
            if (IntPtr.Size != 8) throw new PlatformNotSupportedException("unstale needs a 64-bit process.");
            var made = new Shard[Shards];
            for (var i = 0; i < Shards; i++) made[i] = new Shard();
            return made;
        }

        /// Puts a value in; the caller hands its number to C, which frees it.
        public static ulong Put<T>(T value)
        {
            var entry = new Entry<T> { Value = value };
            Insert(entry);
            return entry.Number;
        }

        static void Insert(Entry entry)
        {
            var id = (uint)Thread.CurrentThread.ManagedThreadId & (Shards - 1);
            var shard = shards[id];
            lock (shard)
            {
                if (shard.Free == 0 && Volatile.Read(ref shard.Freed) != 0) shard.Free = (uint)Interlocked.Exchange(ref shard.Freed, 0);
                uint slot;
                if (shard.Free != 0)
                {
                    slot = shard.Free - 1;
                    shard.Free = SlotOf(shard, slot).Next;
                }
                else
                {
                    slot = shard.Used;
                    if (slot % SegmentSize == 0) Grow(shard, slot / SegmentSize);
                    shard.Used = slot + 1;
                }
                ref var at = ref SlotOf(shard, slot);
                // 0 would make slot 0 of shard 0 the number 0, which is "no value".
                if (++at.Life == 0) at.Life = 1;
                entry.Number = (ulong)at.Life << 32 | slot << ShardBits | id;
                Volatile.Write(ref at.Entry, entry);
            }
        }

        static void Grow(Shard shard, uint segment)
        {
            if (segment >= 1u << (32 - ShardBits - SegmentBits)) throw new OutOfMemoryException("unstale: too many values");
            var segments = shard.Segments;
            if (segment == segments.Length)
            {
                Array.Resize(ref segments, segments.Length * 2);
            }
            segments[segment] = new Slot[SegmentSize];
            Volatile.Write(ref shard.Segments, segments);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static ref Slot SlotOf(Shard shard, uint slot) =>
            ref Volatile.Read(ref shard.Segments)[slot >> SegmentBits][slot & (SegmentSize - 1)];

        /// The entry of a number that came from C; null: it was freed meanwhile.
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Entry Find(ulong number)
        {
            var index = (uint)number;
            var entry = Volatile.Read(ref SlotOf(shards[index & (Shards - 1)], index >> ShardBits).Entry);
            return entry != null && entry.Number == number ? entry : null;
        }

        static void Free(UIntPtr userdata)
        {
            try
            {
                var index = (uint)(ulong)userdata;
                var shard = shards[index & (Shards - 1)];
                var slot = index >> ShardBits;
                ref var at = ref SlotOf(shard, slot);
                // Before it is on the list, from where it may be used again at once.
                Volatile.Write(ref at.Entry, null);
                int head;
                do
                {
                    head = Volatile.Read(ref shard.Freed);
                    at.Next = (uint)head;
                } while (Interlocked.CompareExchange(ref shard.Freed, (int)(slot + 1), head) != head);
            }
            catch (Exception)
            {
                // Nothing here throws; and nothing may, into C.
            }
        }

        /// Entries that C holds now. For tests: walks all slots.
        public static int Count()
        {
            var count = 0;
            foreach (var shard in shards)
            {
                lock (shard)
                {
                    for (uint slot = 0; slot < shard.Used; slot++) if (Volatile.Read(ref SlotOf(shard, slot).Entry) != null) count++;
                }
            }
            return count;
        }
    }
}
