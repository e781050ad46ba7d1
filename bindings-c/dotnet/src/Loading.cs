using System;
using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;
using System.Threading;
using System.Threading.Tasks;

namespace Unstale
{
    // Read-through. C says who loads and who waits; here the loader runs, and here the others wait, without a thread.
    public sealed partial class Cache<T>
    {
        /// <summary>
        /// The value held under a key; or loads it: the loader runs on this thread, once for all callers in this process who want the
        /// key meanwhile. They get the same value, or the same exception. A value that was invalidated while it was being loaded goes
        /// to those who waited for it, but is not stored.
        /// </summary>
        /// <param name="key">1 to 1,024 bytes of UTF-8.</param>
        /// <param name="loader">Returns null if the source has no such key. May use the cache, but not to load the same key. If
        /// it throws, that exception reaches its caller and those who waited unchanged.</param>
        /// <param name="options">What the value is stored with; checked before anything is loaded.</param>
        /// <param name="cancellation">Ends a wait for another's load. If the loader gives up because of it, one of those who wait loads
        /// in its place.</param>
        /// <returns>The value; null: the source has no such key.</returns>
        /// <exception cref="InvalidArgumentException">A bad key or option; the loader asks for its own key.</exception>
        /// <exception cref="TimedOutException">Another's load took longer than LoadTimeout.</exception>
        /// <exception cref="ClosedException">The client was closed.</exception>
        /// <exception cref="OperationCanceledException">Cancelled while waiting for another's load.</exception>
        public T GetOrLoad(string key, Func<T> loader, SetOptions options = null, CancellationToken cancellation = default(CancellationToken))
        {
            if (loader == null) throw new InvalidArgumentException("loader is null");
            for (;;)
            {
                if (Begin(key, options, out var begun, out var value)) return value;
                if (begun.State == BeginState.Lead) return Lead(begun, loader, cancellation);
                if (Wait(key, begun, cancellation, out value)) return value;
            }
        }

        /// <summary>As GetOrLoad, with an asynchronous loader; they share loads. Neither the caller's thread nor one of the thread pool
        /// is blocked.</summary>
        /// <param name="key">1 to 1,024 bytes of UTF-8.</param>
        /// <param name="loader">Called before this returns. Its token is <paramref name="cancellation"/>. Its task brings null if the
        /// source has no such key.</param>
        /// <param name="options">What the value is stored with.</param>
        /// <param name="cancellation">Ends this caller's wait, not the load that others wait for, unless this caller's loader gives up
        /// because of it.</param>
        public ValueTask<T> GetOrLoadAsync(
            string key, Func<CancellationToken, Task<T>> loader, SetOptions options = null,
            CancellationToken cancellation = default(CancellationToken))
        {
            if (loader == null) throw new InvalidArgumentException("loader is null");
            NativeBegun begun;
            try
            {
                if (Begin(key, options, out begun, out var value)) return new ValueTask<T>(value);
            }
            catch (UnstaleException e)
            {
                return new ValueTask<T>(Task.FromException<T>(e));
            }
            return new ValueTask<T>(LoadAsync(key, loader, options, cancellation, begun));
        }

        /// <summary>As GetOrLoadAsync.</summary>
        public ValueTask<T> GetOrLoadAsync(string key, Func<CancellationToken, Task<T>> loader, CancellationToken cancellation) =>
            GetOrLoadAsync(key, loader, null, cancellation);

        /// <summary>As GetOrLoadAsync, for a loader that needs no token.</summary>
        public ValueTask<T> GetOrLoadAsync(
            string key, Func<Task<T>> loader, SetOptions options = null, CancellationToken cancellation = default(CancellationToken))
        {
            if (loader == null) throw new InvalidArgumentException("loader is null");
            return GetOrLoadAsync(key, _ => loader(), options, cancellation);
        }

        async Task<T> LoadAsync(
            string key, Func<CancellationToken, Task<T>> loader, SetOptions options, CancellationToken cancellation, NativeBegun begun)
        {
            T value;
            for (;;)
            {
                if (begun.State == BeginState.Lead) return await LeadAsync(begun, loader, cancellation).ConfigureAwait(false);
                var waited = await WaitAsync(key, begun, cancellation).ConfigureAwait(false);
                if (waited.IsOver) return waited.Value;
                if (Begin(key, options, out begun, out value)) return value;
            }
        }

        /// True: there is a value, or it is known that there is none. Else begun says who loads.
        unsafe bool Begin(string key, SetOptions options, out NativeBegun begun, out T value)
        {
            NativeBegun native;
            Check(options == null ? Text.Begin(number, key, &native) : BeginWith(key, options, &native));
            begun = native;
            value = native.State == BeginState.Hit ? Claim<T>(&native.Value) : default(T);
            return native.State == BeginState.Hit || native.State == BeginState.Absent;
        }

        unsafe NativeResult BeginWith(string key, SetOptions options, NativeBegun* begun)
        {
            using (var terms = Terms.Of(options))
            {
                var bytes = Text.Key("key", key, out var length);
                NativeResult result;
                fixed (byte* p = bytes) result = Native.CacheBegin(number, p, length, terms.Pointer, begun);
                GC.KeepAlive(options.Lease);
                return result;
            }
        }

        T Lead(NativeBegun begun, Func<T> loader, CancellationToken cancellation)
        {
            var load = new Load(this, begun);
            var outer = Leading.Enter(begun.LoadId);
            try
            {
                cancellation.ThrowIfCancellationRequested();
                var value = loader();
                load.Finish(value);
                return value;
            }
            catch (Exception e)
            {
                load.Fail(e, cancellation);
                throw;
            }
            finally
            {
                Leading.Leave(outer);
                load.End();
            }
        }

        async Task<T> LeadAsync(NativeBegun begun, Func<CancellationToken, Task<T>> loader, CancellationToken cancellation)
        {
            var load = new Load(this, begun);
            Leading.Enter(begun.LoadId);
            try
            {
                cancellation.ThrowIfCancellationRequested();
                var loading = loader(cancellation);
                if (loading == null) throw new InvalidOperationException("the loader returned null in place of a task");
                var value = await loading.ConfigureAwait(false);
                load.Finish(value);
                return value;
            }
            catch (Exception e)
            {
                load.Fail(e, cancellation);
                throw;
            }
            finally
            {
                load.End();
            }
        }

        /// A load that this caller leads. It tells the others how it ended.
        struct Load
        {
            readonly Cache<T> cache;
            readonly NativeBegun begun;

            public Load(Cache<T> cache, NativeBegun begun)
            {
                this.cache = cache;
                this.begun = begun;
            }

            public unsafe void Finish(T value)
            {
                if (value == null)
                {
                    Native.LoadFinish(begun.Load, null, null);
                    return;
                }
                NativeValue native;
                Wrap(value, &native);
                Native.LoadFinish(begun.Load, &native, null);
                Native.ValueRelease(&native);
            }

            public unsafe void Fail(Exception e, CancellationToken cancellation)
            {
                // It was this caller's token, not the others': one of them loads in its place.
                if (e is OperationCanceledException && cancellation.IsCancellationRequested) return;
                var failure = new NativeFailure { Code = 1 };
                Wrap(ExceptionDispatchInfo.Capture(e), &failure.Error);
                Native.LoadFail(begun.Load, &failure);
                Native.ValueRelease(&failure.Error);
            }

            /// Whatever happened: who still waits begins again.
            public void End()
            {
                Native.LoadAbandon(begun.Load); // nothing, if it has ended
                cache.client.Flights.Landed(begun.LoadId);
                GC.KeepAlive(cache);
            }
        }

        /// Waits for another's load on this thread. False: begin again.
        bool Wait(string key, NativeBegun begun, CancellationToken cancellation, out T value)
        {
            var flight = Board(key, begun, out var limit);
            try
            {
                // Whoever ends the load after this look finds us aboard.
                var waited = Look(begun.Join);
                if (waited.State == JoinState.TimedOut)
                {
                    if (!flight.Landed.Wait(limit, cancellation)) throw TooLong(key, limit);
                    waited = Look(begun.Join);
                }
                value = waited.Value;
                return waited.IsOver;
            }
            finally
            {
                Leave(begun, flight);
            }
        }

        async Task<Waited> WaitAsync(string key, NativeBegun begun, CancellationToken cancellation)
        {
            int limit;
            var flight = Board(key, begun, out limit);
            try
            {
                // As in Wait. The time-out and the cancellation end a delay beside the flight.
                var waited = Look(begun.Join);
                if (waited.State != JoinState.TimedOut) return waited;
                if (limit >= 0 || cancellation.CanBeCanceled)
                {
                    using (var timer = CancellationTokenSource.CreateLinkedTokenSource(cancellation))
                    {
                        var first = await Task.WhenAny(flight.Landed, Task.Delay(limit, timer.Token)).ConfigureAwait(false);
                        timer.Cancel();
                        if (first != flight.Landed)
                        {
                            cancellation.ThrowIfCancellationRequested();
                            throw TooLong(key, limit);
                        }
                    }
                }
                else
                {
                    await flight.Landed.ConfigureAwait(false);
                }
                return Look(begun.Join);
            }
            finally
            {
                Leave(begun, flight);
            }
        }

        Flights.Flight Board(string key, NativeBegun begun, out int limitMs)
        {
            if (Leading.Is(begun.LoadId))
            {
                Native.JoinFree(begun.Join);
                throw new InvalidArgumentException($"the loader of {key} asks for its own key, and would wait for itself");
            }
            var timeout = Native.CacheLoadTimeout(number);
            // Longer ones (24 days) cannot be told to the runtime.
            limitMs = timeout > int.MaxValue ? Timeout.Infinite : (int)timeout;
            return client.Flights.Board(begun.LoadId);
        }

        void Leave(NativeBegun begun, Flights.Flight flight)
        {
            client.Flights.Leave(flight);
            Native.JoinFree(begun.Join);
            GC.KeepAlive(this);
        }

        static Exception TooLong(string key, int limitMs) =>
            new TimedOutException($"the load of {key} by another caller took longer than load_timeout ({limitMs} ms)");

        /// How a load ended, if it did: Value, Absent, Again, or TimedOut, which means that it still runs.
        struct Waited
        {
            public JoinState State;
            public T Value;
            public bool IsOver => State == JoinState.Value || State == JoinState.Absent;
        }

        /// Does not wait. Throws how the load failed.
        static unsafe Waited Look(IntPtr join)
        {
            NativeJoined joined;
            UnstaleException.Check(Native.JoinWait(join, 0, &joined));
            var waited = new Waited { State = joined.State };
            if (joined.State == JoinState.Value) waited.Value = Claim<T>(&joined.Value);
            if (joined.State == JoinState.Failed)
            {
                if (joined.Failure.Error.Data == 0) throw new LoadException("the load failed");
                Claim<ExceptionDispatchInfo>(&joined.Failure.Error).Throw();
            }
            return waited;
        }
    }
}
