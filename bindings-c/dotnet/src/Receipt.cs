using System;
using System.Threading;
using System.Threading.Tasks;

namespace Unstale
{
    /// <summary>What an Invalidate… or Update returns. May be ignored; needs no disposal. Any thread.</summary>
    public sealed class Receipt
    {
        readonly ReceiptHandle handle;
        readonly Client client; // which delivers it
        string token;

        internal unsafe Receipt(Client client, IntPtr number)
        {
            this.client = client;
            handle = new ReceiptHandle(number);
            byte stored = 0;
            UnstaleException.Check(Native.ReceiptStored(number, &stored));
            Stored = stored != 0;
        }

        /// <summary>Whether Update stored its value here; false when it was an invalidation only, and for Invalidate….</summary>
        public bool Stored { get; }

        /// <summary>Names this invalidation, fit for an HTTP header: another process gives it to <see cref="Client.WaitFor"/>.</summary>
        public unsafe string Token
        {
            get
            {
                if (token != null) return token;
                byte* text;
                UnstaleException.Check(Native.ReceiptToken(handle.Number, &text));
                GC.KeepAlive(handle);
                return token = Text.Take(text);
            }
        }

        /// <summary>
        /// Waits until the broker has acknowledged the message. False: the time ran out first, or the client was closed.
        /// Blocks this thread.
        /// </summary>
        /// <param name="timeout">0 (only look) to ten years, or Timeout.InfiniteTimeSpan.</param>
        /// <exception cref="InvalidArgumentException">The timeout is out of range.</exception>
        public bool Delivered(TimeSpan timeout) => Waits.Block(Poll, Durations.Limit("timeout", timeout), () => client.IsClosed);

        /// <summary>As <see cref="Delivered"/>, without blocking a thread of the caller's or of the thread pool.</summary>
        public Task<bool> DeliveredAsync(TimeSpan timeout, CancellationToken cancellation = default(CancellationToken)) =>
            Waits.Async(Poll, Durations.Limit("timeout", timeout), cancellation, () => client.IsClosed);

        unsafe bool Poll(ulong timeoutMs)
        {
            byte delivered = 0;
            UnstaleException.Check(Native.ReceiptWait(handle.Number, timeoutMs, &delivered));
            GC.KeepAlive(handle);
            return delivered != 0;
        }
    }
}
