using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace Unstale
{
    /// The loads that somebody waits for, by their number. Who waits so costs no thread, however many they are: the leader, who is
    /// of this process too, wakes them.
    sealed class Flights
    {
        internal sealed class Flight
        {
            public ulong Id;
            public int Aboard;
            readonly TaskCompletionSource<bool> landed = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
            public Task Landed => landed.Task;
            public void Land() => landed.TrySetResult(true);
        }

        readonly Dictionary<ulong, Flight> flights = new Dictionary<ulong, Flight>();
        volatile bool closed;

        public bool IsClosed => closed;

        /// To be followed by Leave.
        public Flight Board(ulong id)
        {
            lock (flights)
            {
                if (!flights.TryGetValue(id, out var flight))
                {
                    flight = new Flight { Id = id };
                    flights.Add(id, flight);
                    if (closed) flight.Land();
                }
                flight.Aboard++;
                return flight;
            }
        }

        public void Leave(Flight flight)
        {
            lock (flights)
            {
                if (--flight.Aboard == 0 && flights.TryGetValue(flight.Id, out var known) && known == flight) flights.Remove(flight.Id);
            }
        }

        /// The load has ended.
        public void Landed(ulong id)
        {
            lock (flights)
            {
                if (flights.Remove(id, out var flight)) flight.Land();
            }
        }

        /// All are to begin again, which tells them that the client was closed.
        public void Close()
        {
            lock (flights)
            {
                closed = true;
                foreach (var flight in flights.Values) flight.Land();
                flights.Clear();
            }
        }
    }

    /// The loads that the code that runs now is part of, across threads and awaits.
    sealed class Leading
    {
        static readonly AsyncLocal<Leading> current = new AsyncLocal<Leading>();

        readonly ulong id;
        readonly Leading outer;

        Leading(ulong id, Leading outer)
        {
            this.id = id;
            this.outer = outer;
        }

        /// Returns what Leave wants. An async method need not leave: what it sets ends with it.
        public static Leading Enter(ulong id)
        {
            var outer = current.Value;
            current.Value = new Leading(id, outer);
            return outer;
        }

        public static void Leave(Leading outer) => current.Value = outer;

        public static bool Is(ulong id)
        {
            for (var leading = current.Value; leading != null; leading = leading.outer) if (leading.id == id) return true;
            return false;
        }
    }
}
