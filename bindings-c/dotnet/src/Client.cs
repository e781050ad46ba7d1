using System;
using System.Threading;
using System.Threading.Tasks;

namespace Unstale
{
    /// <summary>
    /// The connection to one broker, shared by many caches. Make one per process and broker, and close or dispose it. All members
    /// may be used from any thread at the same time, also from an event handler.
    /// </summary>
    /// <remarks>A client that becomes unreachable, together with its caches, without having been closed is disconnected by the garbage
    /// collector, and loses what it had not sent yet.</remarks>
    public sealed class Client : IDisposable, IAsyncDisposable
    {
        readonly ClientHandle handle;
        readonly Listener<Status> statusChanged;

        internal Flights Flights { get; } = new Flights();

        internal bool IsClosed => Flights.IsClosed;

        Client(IntPtr number)
        {
            handle = new ClientHandle(number);
            statusChanged = new Listener<Status>(this, json => new Status(json));
        }

        /// <summary>The version of the C library, e.g. "0.1.0".</summary>
        public static unsafe string LibraryVersion => Text.Read(Native.Version());

        /// <summary>
        /// Connects, and waits until the broker answered, at most ConnectTimeout (5 s); not at all with Lazy. Blocks this thread.
        /// </summary>
        /// <param name="url">Where the broker is, see <see cref="ClientOptions.Url"/>.</param>
        /// <param name="options">Null: none.</param>
        /// <exception cref="ConfigException">An unknown, impossible or contradictory option, which the message names.</exception>
        /// <exception cref="UnstaleException">Kind Connect, Auth, Tls or Timeout.</exception>
        public static unsafe Client Connect(string url = null, ClientOptions options = null)
        {
            var config = Text.CString("config", (options ?? new ClientOptions()).ToJson(url));
            IntPtr made;
            fixed (byte* p = config) UnstaleException.Check(Native.ClientConnect(p, &made));
            return new Client(made);
        }

        /// <summary>As <see cref="Connect"/>, without blocking a thread of the caller's or of the thread pool.</summary>
        /// <param name="url">Where the broker is.</param>
        /// <param name="options">Null: none.</param>
        /// <param name="cancellation">Ends the wait; a connection that is still made is closed.</param>
        public static async Task<Client> ConnectAsync(
            string url = null, ClientOptions options = null, CancellationToken cancellation = default(CancellationToken))
        {
            cancellation.ThrowIfCancellationRequested();
            var connecting = OwnThread(() => Connect(url, options));
            if (!cancellation.CanBeCanceled) return await connecting.ConfigureAwait(false);
            var cancelled = new TaskCompletionSource<Client>(TaskCreationOptions.RunContinuationsAsynchronously);
            using (cancellation.Register(() => cancelled.TrySetCanceled(cancellation)))
            {
                var first = await Task.WhenAny(connecting, cancelled.Task).ConfigureAwait(false);
                if (first != connecting) Forget(connecting);
                return await first.ConfigureAwait(false);
            }
        }

        /// Connecting ends by itself; a connection that it still makes is nobody's.
        static void Forget(Task<Client> connecting) => connecting.ContinueWith(ended =>
        {
            if (ended.Status == TaskStatus.RanToCompletion) ended.Result.Close(TimeSpan.Zero);
            else GC.KeepAlive(ended.Exception); // observed
        }, CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);

        static Task<T> OwnThread<T>(Func<T> function) =>
            Task.Factory.StartNew(function, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);

        /// <summary>Opens the cache of a namespace. Once per namespace and client. Does not wait for the network.</summary>
        /// <param name="ns">1 to 64 of A-Z a-z 0-9 . _ -, not beginning with _; "" means no namespace.</param>
        /// <param name="options">Null: none.</param>
        /// <exception cref="InvalidArgumentException">A bad namespace, or one that is open already.</exception>
        /// <exception cref="ConfigException">An unknown or impossible option, which the message names.</exception>
        /// <exception cref="ClosedException">The client was closed.</exception>
        public unsafe Cache<T> OpenCache<T>(string ns, CacheOptions options = null)
        {
            if (ns == null) throw new InvalidArgumentException("namespace is null; \"\" means none");
            byte[] name = Text.CString("namespace", ns), config = Text.CString("config", (options ?? new CacheOptions()).ToJson());
            IntPtr made;
            fixed (byte* n = name) fixed (byte* c = config) UnstaleException.Check(Native.ClientCache(handle.Number, n, c, &made));
            GC.KeepAlive(this);
            return new Cache<T>(this, ns, made);
        }

        /// <summary>The connection's state. Works on a closed client too; never waits.</summary>
        public unsafe Status Status
        {
            get
            {
                byte* json;
                UnstaleException.Check(Native.ClientStatus(handle.Number, &json));
                GC.KeepAlive(this);
                return new Status(Text.Take(json));
            }
        }

        /// <summary>
        /// The connection's state changed. Raised on a thread of the client's own, one call at a time; a handler may use the client,
        /// but while it runs other events wait. An exception in it is logged and goes no further.
        /// </summary>
        public unsafe event EventHandler<Status> StatusChanged
        {
            add => statusChanged.Add(value, SubscribeStatus);
            remove => statusChanged.Remove(value);
        }

        unsafe NativeResult SubscribeStatus(IntPtr callback, UIntPtr userdata, IntPtr free, IntPtr* subscription)
        {
            var result = Native.ClientOnStatus(handle.Number, callback, userdata, free, subscription);
            GC.KeepAlive(this);
            return result;
        }

        /// <summary>
        /// Log records of the library, for the whole process; none are made before the first handler is added. Raised on a thread of
        /// the library's own, one at a time. Each condition is logged at most once a minute.
        /// </summary>
        public static event EventHandler<LogRecord> Log
        {
            add => Logging.Handlers += value;
            remove => Logging.Handlers -= value;
        }

        /// <summary>Records of this level and graver are made. Default Info.</summary>
        public static LogLevel LogLevel
        {
            get => Logging.Level;
            set => Logging.Level = value;
        }

        /// <summary>
        /// Waits until this process has applied the invalidation that a token names, a <see cref="Receipt.Token"/> of this or another
        /// process: what is read here afterwards is at least as new. True at once if this client has no cache of the token's
        /// namespace. False: the time ran out first. Blocks this thread.
        /// </summary>
        /// <param name="token">From a receipt.</param>
        /// <param name="timeout">0 (only look) to ten years, or Timeout.InfiniteTimeSpan.</param>
        /// <exception cref="InvalidArgumentException">Not a token, or a timeout out of range.</exception>
        /// <exception cref="ClosedException">The client was closed.</exception>
        public bool WaitFor(string token, TimeSpan timeout) => Waits.Block(PollFor(token), Durations.Limit("timeout", timeout), () => false);

        /// <summary>As <see cref="WaitFor"/>, without blocking a thread of the caller's or of the thread pool.</summary>
        public Task<bool> WaitForAsync(string token, TimeSpan timeout, CancellationToken cancellation = default(CancellationToken)) =>
            Waits.Async(PollFor(token), Durations.Limit("timeout", timeout), cancellation, () => false);

        Func<ulong, bool> PollFor(string token)
        {
            if (token == null) throw new InvalidArgumentException("token is null");
            var text = Text.CString("token", token);
            return timeoutMs => Reached(text, timeoutMs);
        }

        unsafe bool Reached(byte[] token, ulong timeoutMs)
        {
            byte reached = 0;
            fixed (byte* p = token) UnstaleException.Check(Native.ClientWaitFor(handle.Number, p, timeoutMs, &reached));
            GC.KeepAlive(this);
            return reached != 0;
        }

        /// <summary>
        /// Sends what waits to be sent, for at most <paramref name="timeout"/> (0 to ten years), says goodbye and disconnects. Calls
        /// still running and later ones throw <see cref="ClosedException"/>; a TryGet is a miss. Again: returns the same. Blocks
        /// this thread.
        /// </summary>
        /// <returns>How many messages could not be sent.</returns>
        public unsafe int Close(TimeSpan timeout)
        {
            UIntPtr unsent;
            UnstaleException.Check(Native.ClientClose(handle.Number, Durations.Millis("timeout", timeout), &unsent));
            GC.KeepAlive(this);
            // Whoever waits for another's load asks again, and is told.
            Flights.Close();
            return (int)unsent;
        }

        /// <summary>Close with the default limit of 5 s.</summary>
        public int Close() => Close(TimeSpan.FromMilliseconds(Native.CloseTimeoutMs));

        /// <summary>As <see cref="Close(TimeSpan)"/>, without blocking a thread of the caller's or of the thread pool.</summary>
        public Task<int> CloseAsync(TimeSpan timeout) => OwnThread(() => Close(timeout));

        /// <summary><see cref="Close()"/>. What could not be sent is lost: Close tells how much that was.</summary>
        public void Dispose() => Close();

        /// <summary>As <see cref="Dispose"/>, without blocking a thread of the caller's or of the thread pool.</summary>
        public ValueTask DisposeAsync() => new ValueTask(CloseAsync(TimeSpan.FromMilliseconds(Native.CloseTimeoutMs)));
    }
}
