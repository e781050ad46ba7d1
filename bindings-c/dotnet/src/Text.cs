// Strings on their way to C and back.
using System;
using System.Runtime.CompilerServices;
using System.Text;

namespace Unstale
{
    static unsafe class Text
    {
        /// Strict: a lone surrogate is an error, not a question mark.
        public static readonly UTF8Encoding Utf8 = new UTF8Encoding(false, true);

        /// The longest key that the library takes, in bytes, and so in characters.
        const int LongestKey = 1024;
        const int Short = 128;

        [ThreadStatic] static byte[] buffer;

        /// A key's bytes: the first <paramref name="length"/> of the array, which is this thread's until it asks again. Longer texts
        /// than any key have one of their own; C refuses them.
        public static byte[] Key(string name, string text, out UIntPtr length)
        {
            if (text == null) throw new InvalidArgumentException(name + " is null");
            var bytes = text.Length <= LongestKey ? buffer ?? (buffer = new byte[LongestKey * 3]) : new byte[Utf8.GetMaxByteCount(text.Length)];
            length = (UIntPtr)Encode(name, text, bytes);
            return bytes;
        }

        static int Encode(string name, string text, byte[] bytes)
        {
            try
            {
                return Utf8.GetBytes(text, 0, text.Length, bytes, 0);
            }
            catch (EncoderFallbackException)
            {
                throw new InvalidArgumentException(name + " cannot be written as UTF-8: it has half a surrogate pair");
            }
        }

        /// Text that ends in NUL; null stays null.
        public static byte[] CString(string name, string text)
        {
            if (text == null) return null;
            var nul = text.IndexOf('\0');
            if (nul >= 0) throw new InvalidArgumentException($"{name} has a NUL at {nul}");
            var bytes = new byte[Utf8.GetMaxByteCount(text.Length) + 1];
            Encode(name, text, bytes);
            return bytes;
        }

        /// What C has made, which this frees.
        public static string Take(byte* text)
        {
            try
            {
                return Read(text);
            }
            finally
            {
                Native.StringFree(text);
            }
        }

        public static string Read(byte* text)
        {
            var length = 0;
            while (text[length] != 0) length++;
            return Encoding.UTF8.GetString(text, length);
        }

        /// The number of what is held under a key; 0: nothing. The way of a hit: no allocation, and the key's bytes on the stack.
        public static ulong Peek(IntPtr cache, string key)
        {
            if ((uint)key.Length <= Short)
            {
                var bytes = stackalloc byte[Short];
                if (Ascii(key, bytes)) return (ulong)Native.CachePeek(cache, bytes, (UIntPtr)key.Length);
            }
            return PeekLong(cache, key);
        }

        /// Begins a read-through without options, in the way of Peek.
        public static NativeResult Begin(IntPtr cache, string key, NativeBegun* begun)
        {
            if (key != null && (uint)key.Length <= Short)
            {
                var bytes = stackalloc byte[Short];
                if (Ascii(key, bytes)) return Native.CacheBegin(cache, bytes, (UIntPtr)key.Length, null, begun);
            }
            return BeginLong(cache, key, begun);
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        static NativeResult BeginLong(IntPtr cache, string key, NativeBegun* begun)
        {
            var bytes = Key("key", key, out var length);
            fixed (byte* p = bytes) return Native.CacheBegin(cache, p, length, null, begun);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static bool Ascii(string text, byte* bytes)
        {
            var length = text.Length;
            fixed (char* first = text)
            {
                var i = 0;
                // Four characters at a time: 00aa 00bb 00cc 00dd becomes aabbccdd.
                for (; i + 4 <= length; i += 4)
                {
                    var four = *(ulong*)(first + i);
                    if ((four & 0xFF80FF80FF80FF80) != 0) return false;
                    four |= four >> 8;
                    *(uint*)(bytes + i) = (uint)(four & 0xFFFF) | (uint)(four >> 16 & 0xFFFF0000);
                }
                for (; i < length; i++)
                {
                    var c = first[i];
                    if (c >= 0x80) return false;
                    bytes[i] = (byte)c;
                }
            }
            return true;
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        static ulong PeekLong(IntPtr cache, string key)
        {
            byte[] bytes;
            UIntPtr length;
            try
            {
                bytes = Key("key", key, out length);
            }
            catch (InvalidArgumentException)
            {
                return 0; // a key that cannot be held is not held
            }
            fixed (byte* p = bytes) return (ulong)Native.CachePeek(cache, p, length);
        }
    }
}
