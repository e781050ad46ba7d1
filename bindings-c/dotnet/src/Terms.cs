using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Text;

namespace Unstale
{
    /// SetOptions in one piece of memory, as C wants them, until disposed. Pointer is null for no options.
    unsafe struct Terms : IDisposable
    {
        public NativeOptions* Pointer { get; private set; }

        public static Terms Of(SetOptions options)
        {
            if (options == null) return default(Terms);
            // The caller's collections first: they may throw, or ask this library for something.
            var tags = Texts.List("tags", options.Tags);
            var dependsOn = Texts.List("depends_on", options.DependsOn);
            if (options.Version < 0) throw new InvalidArgumentException($"version must be 0 to 2^53 - 1, not {options.Version}");
            var ttl = options.Ttl == null ? 0 : Durations.Millis("ttl", options.Ttl.Value);
            // 0 would mean the cache's ttl.
            if (options.Ttl != null && ttl == 0) throw new InvalidArgumentException("ttl must be longer than 0 and at most ten years, not 0");

            var size = Texts.Size("tags", tags) + Texts.Size("depends_on", dependsOn);
            var at = (byte*)Marshal.AllocHGlobal(sizeof(NativeOptions) + size);
            var native = (NativeOptions*)at;
            at += sizeof(NativeOptions);
            *native = default(NativeOptions);
            native->TtlMs = ttl;
            native->Tags = Texts.Write(tags, ref at);
            native->TagsLength = (UIntPtr)tags.Count;
            native->DependsOn = Texts.Write(dependsOn, ref at);
            native->DependsOnLength = (UIntPtr)dependsOn.Count;
            native->Version = (ulong)(options.Version ?? 0);
            native->HasVersion = options.Version == null ? 0ul : 1;
            native->Lease = options.Lease?.Number ?? IntPtr.Zero;
            return new Terms { Pointer = native };
        }

        public void Dispose()
        {
            if (Pointer != null) Marshal.FreeHGlobal((IntPtr)Pointer);
            Pointer = null;
        }
    }

    /// Many texts: first the array of pointers and lengths, then the bytes.
    static unsafe class Texts
    {
        static readonly List<string> none = new List<string>();

        public static List<string> List(string name, IEnumerable<string> texts)
        {
            if (texts == null) return none;
            var list = new List<string>(texts);
            foreach (var text in list) if (text == null) throw new InvalidArgumentException($"{name} holds a null");
            return list;
        }

        /// Bytes that they take. Refuses what is not UTF-16.
        public static int Size(string name, List<string> texts)
        {
            var size = texts.Count * sizeof(NativeText);
            try
            {
                foreach (var text in texts) size = checked(size + Text.Utf8.GetByteCount(text));
            }
            catch (EncoderFallbackException)
            {
                throw new InvalidArgumentException($"{name} cannot be written as UTF-8: one has half a surrogate pair");
            }
            // What follows is aligned too.
            return size + 7 & ~7;
        }

        /// Writes to `at`, and moves it behind.
        public static NativeText* Write(List<string> texts, ref byte* at)
        {
            var array = (NativeText*)at;
            var bytes = at + texts.Count * sizeof(NativeText);
            for (var i = 0; i < texts.Count; i++)
            {
                var text = texts[i];
                array[i].Data = bytes;
                fixed (char* chars = text)
                {
                    var length = text.Length == 0 ? 0 : Text.Utf8.GetBytes(chars, text.Length, bytes, int.MaxValue);
                    array[i].Length = (UIntPtr)length;
                    bytes += length;
                }
            }
            at = (byte*)((long)bytes + 7 & ~7L);
            return array;
        }
    }
}
