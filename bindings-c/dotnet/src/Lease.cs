using System;

namespace Unstale
{
    /// <summary>
    /// Permission to fill a key, noted before its source is read: whether an invalidation came in between is known when the value
    /// is stored. One Set or Update uses it up. Dispose gives it back, used or not; a forgotten one the garbage collector gives
    /// back. Any thread.
    /// </summary>
    public sealed class Lease : IDisposable
    {
        readonly LeaseHandle handle;

        internal Lease(string key, IntPtr number)
        {
            Key = key;
            handle = new LeaseHandle(number);
        }

        /// <summary>The key that it is for.</summary>
        public string Key { get; }

        internal IntPtr Number => handle.Number;

        /// <summary>Gives the lease back. It cannot be used any more. Again: does nothing.</summary>
        public void Dispose() => handle.Dispose();
    }
}
