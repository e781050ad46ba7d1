using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Threading;
using System.Threading.Tasks;

namespace Unstale
{
    /// Waits that happen in C. A poll waits there for at most the given milliseconds and says whether it is done.
    static class Waits
    {
        /// In one piece of at most so many milliseconds, so that "no limit" is one that C takes.
        const ulong BlockMs = 3600 * 1000;

        /// A thread of ours stays in C so long at a time: so long lives a cancelled wait, and so long another may wait for a
        /// thread. Less when all threads are in use, least when others wait for one.
        const ulong AloneMs = 200, BusyMs = 20, CrowdedMs = 2;
        const int MostThreads = 16;
        const int IdleMs = 5000;

        sealed class Wait
        {
            public Func<ulong, bool> Poll;
            public Func<bool> Over;
            public long? Deadline;
            public TaskCompletionSource<bool> Done = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
        }

        static readonly Queue<Wait> queue = new Queue<Wait>();
        static int threads, idle;

        static long Now => Stopwatch.GetTimestamp() / (Stopwatch.Frequency / 1000);

        /// On this thread. A limit of null: none. Once it is over, false is the last word.
        public static bool Block(Func<ulong, bool> poll, ulong? limitMs, Func<bool> over)
        {
            if (limitMs != null) return poll(limitMs.Value);
            for (;;)
            {
                var last = over();
                if (poll(BlockMs)) return true;
                if (last) return false;
            }
        }

        /// On one of a few threads of our own, so that neither the caller's nor one of the pool is blocked.
        public static async Task<bool> Async(Func<ulong, bool> poll, ulong? limitMs, CancellationToken cancellation, Func<bool> over)
        {
            // At once, in most cases.
            if (poll(0)) return true;
            cancellation.ThrowIfCancellationRequested();
            if (limitMs == 0) return false;
            var wait = new Wait { Poll = poll, Over = over };
            if (limitMs != null) wait.Deadline = Now + (long)Math.Min(limitMs.Value, long.MaxValue / 2);
            Enqueue(wait);
            using (cancellation.Register(() => wait.Done.TrySetCanceled(cancellation)))
            {
                return await wait.Done.Task.ConfigureAwait(false);
            }
        }

        static void Enqueue(Wait wait)
        {
            lock (queue)
            {
                queue.Enqueue(wait);
                if (idle > 0 && queue.Count <= idle)
                {
                    Monitor.Pulse(queue);
                }
                else if (threads < MostThreads)
                {
                    threads++;
                    new Thread(Work) { IsBackground = true, Name = "unstale waits" }.Start();
                }
            }
        }

        static void Work()
        {
            for (;;)
            {
                Wait wait;
                ulong slice;
                lock (queue)
                {
                    while (queue.Count == 0)
                    {
                        idle++;
                        var woken = Monitor.Wait(queue, IdleMs);
                        idle--;
                        if (!woken && queue.Count == 0)
                        {
                            threads--;
                            return;
                        }
                    }
                    wait = queue.Dequeue();
                    slice = queue.Count > 0 ? CrowdedMs : threads == MostThreads ? BusyMs : AloneMs;
                }
                if (Ended(wait, slice)) continue;
                lock (queue) queue.Enqueue(wait);
            }
        }

        static bool Ended(Wait wait, ulong slice)
        {
            if (wait.Done.Task.IsCompleted) return true; // cancelled
            try
            {
                var left = wait.Deadline == null ? slice : (ulong)Math.Max(0, wait.Deadline.Value - Now);
                var last = wait.Over();
                if (wait.Poll(Math.Min(slice, left))) wait.Done.TrySetResult(true);
                else if (last || wait.Deadline <= Now) wait.Done.TrySetResult(false);
                else return false;
            }
            catch (Exception e)
            {
                wait.Done.TrySetException(e);
            }
            return true;
        }
    }
}
