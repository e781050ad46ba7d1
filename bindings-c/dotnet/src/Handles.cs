// What ends the C library's objects when nobody refers to them any more.
using System;
using System.Runtime.InteropServices;

namespace Unstale
{
    abstract class Handle : SafeHandle
    {
        protected Handle(IntPtr handle) : base(IntPtr.Zero, true) => SetHandle(handle);

        public override bool IsInvalid => handle == IntPtr.Zero;

        /// The number that C knows it by. Its owner must be kept alive until the call with it is over. Stays after disposal: C
        /// notices a number that it has retired.
        public IntPtr Number => handle;
    }

    sealed class ClientHandle : Handle
    {
        public ClientHandle(IntPtr handle) : base(handle) { }
        protected override bool ReleaseHandle() { Native.ClientFree(handle); return true; }
    }

    sealed class CacheHandle : Handle
    {
        public CacheHandle(IntPtr handle) : base(handle) { }
        protected override bool ReleaseHandle() { Native.CacheFree(handle); return true; }
    }

    sealed class ReceiptHandle : Handle
    {
        public ReceiptHandle(IntPtr handle) : base(handle) { }
        protected override bool ReleaseHandle() { Native.ReceiptFree(handle); return true; }
    }

    sealed class LeaseHandle : Handle
    {
        public LeaseHandle(IntPtr handle) : base(handle) { }
        protected override bool ReleaseHandle() { Native.LeaseFree(handle); return true; }
    }
}
