// How C's callbacks become .NET's events. No exception goes back into C, where it would end the process.
using System;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading;

namespace Unstale
{
    /// <summary>How grave a log record is.</summary>
    public enum LogLevel
    {
        /// <summary>Nothing is logged.</summary>
        Off = 0,
        /// <summary>Something does not work and will not by itself.</summary>
        Error = 1,
        /// <summary>Something deserves attention, e.g. the connection was lost.</summary>
        Warn = 2,
        /// <summary>What a person who watches wants to know.</summary>
        Info = 3,
        /// <summary>For finding faults.</summary>
        Debug = 4,
        /// <summary>For finding faults in this library.</summary>
        Trace = 5,
    }

    /// <summary>A log record.</summary>
    public sealed class LogRecord
    {
        internal LogRecord(LogLevel level, string target, string message)
        {
            Level = level;
            Target = target;
            Message = message;
        }

        /// <summary>How grave it is.</summary>
        public LogLevel Level { get; }
        /// <summary>The part of the library that speaks.</summary>
        public string Target { get; }
        /// <summary>A sentence with its values.</summary>
        public string Message { get; }
        /// <summary>All three.</summary>
        public override string ToString() => $"{Level} {Target}: {Message}";
    }

    /// What C calls, by its number in the table.
    abstract class Listener
    {
        static readonly EventFunction called = Called;
        protected static readonly IntPtr CalledPointer = Marshal.GetFunctionPointerForDelegate(called);

        protected abstract void Call(string json);

        static unsafe void Called(UIntPtr userdata, IntPtr json, UIntPtr length)
        {
            try
            {
                var listener = ((Entry<Listener>)Table.Find((ulong)userdata))?.Value;
                listener?.Call(Encoding.UTF8.GetString((byte*)json, (int)length));
            }
            catch (Exception e)
            {
                Logging.Report(e);
            }
        }
    }

    /// The handlers of one event. C is asked for it while there are any.
    sealed class Listener<TArgs> : Listener
    {
        internal unsafe delegate NativeResult Subscribe(IntPtr callback, UIntPtr userdata, IntPtr free, IntPtr* subscription);

        readonly Func<string, TArgs> parse;
        // The table keeps this as long as C does, which must not keep the sender, whose end is what ends C's interest.
        readonly WeakReference<object> sender;
        readonly object gate = new object();
        EventHandler<TArgs> handlers;
        IntPtr subscription;

        public Listener(object sender, Func<string, TArgs> parse)
        {
            this.sender = new WeakReference<object>(sender);
            this.parse = parse;
        }

        public unsafe void Add(EventHandler<TArgs> handler, Subscribe subscribe)
        {
            if (handler == null) return;
            lock (gate)
            {
                if (handlers == null)
                {
                    IntPtr made;
                    UnstaleException.Check(subscribe(CalledPointer, (UIntPtr)Table.Put<Listener>(this), Table.FreePointer, &made));
                    subscription = made;
                }
                Volatile.Write(ref handlers, handlers + handler);
            }
        }

        public void Remove(EventHandler<TArgs> handler)
        {
            lock (gate)
            {
                if (handlers == null) return;
                Volatile.Write(ref handlers, handlers - handler);
                if (handlers == null) Native.SubscriptionCancel(subscription);
            }
        }

        protected override void Call(string json)
        {
            var now = Volatile.Read(ref handlers);
            if (now == null || !sender.TryGetTarget(out var from)) return;
            var args = parse(json);
            foreach (var handler in now.GetInvocationList())
            {
                try
                {
                    ((EventHandler<TArgs>)handler)(from, args);
                }
                catch (Exception e)
                {
                    Logging.Report(e); // the others go on
                }
            }
        }
    }

    /// The log of the process.
    static class Logging
    {
        static readonly LogFunction called = Called;
        static readonly IntPtr calledPointer = Marshal.GetFunctionPointerForDelegate(called);
        static readonly object gate = new object();
        static EventHandler<LogRecord> handlers;
        static int level = (int)LogLevel.Info;
        static int installed;

        public static event EventHandler<LogRecord> Handlers
        {
            add
            {
                lock (gate) handlers += value;
                // Stays: without handlers, records go nowhere.
                if (Interlocked.Exchange(ref installed, 1) == 0) Install();
            }
            remove
            {
                lock (gate) handlers -= value;
            }
        }

        public static LogLevel Level
        {
            get => (LogLevel)Volatile.Read(ref level);
            set
            {
                if (value < LogLevel.Off || value > LogLevel.Trace) throw new InvalidArgumentException($"there is no log level {value}");
                Volatile.Write(ref level, (int)value);
                if (Volatile.Read(ref installed) == 1) Install();
            }
        }

        // Without a lock: C waits here for a handler that runs, and that may set the level, too. The last one wins.
        static void Install()
        {
            int wanted;
            do
            {
                wanted = Volatile.Read(ref level);
                UnstaleException.Check(Native.SetLog((uint)wanted, calledPointer, UIntPtr.Zero, IntPtr.Zero));
            } while (Volatile.Read(ref level) != wanted);
        }

        static unsafe void Called(UIntPtr userdata, uint level, IntPtr target, IntPtr message)
        {
            try
            {
                handlers?.Invoke(null, new LogRecord((LogLevel)level, Text.Read((byte*)target), Text.Read((byte*)message)));
            }
            catch (Exception)
            {
                // There is no log to tell: it is the log that fails.
            }
        }

        /// A handler threw: a mistake in the program, which is told even if nobody listens to the log.
        public static void Report(Exception e)
        {
            try
            {
                var message = "an event handler threw: " + e;
                if (handlers != null) handlers(null, new LogRecord(LogLevel.Error, "Unstale", message));
                else Trace.TraceError("unstale: " + message);
            }
            catch (Exception)
            {
            }
        }
    }
}
