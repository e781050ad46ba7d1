using System;
using System.Globalization;
using System.Threading;

namespace Unstale
{
    static class Durations
    {
        /// The longest duration of the core.
        static readonly TimeSpan Longest = TimeSpan.FromDays(3650);

        /// In milliseconds, rounded up: a wait is never cut short, and one tick is not 0.
        public static ulong Millis(string name, TimeSpan value)
        {
            if (value < TimeSpan.Zero || value > Longest) throw new InvalidArgumentException($"{name} must be a duration from 0 to ten years, not {value}");
            return ((ulong)value.Ticks + (TimeSpan.TicksPerMillisecond - 1)) / TimeSpan.TicksPerMillisecond;
        }

        /// A time-out; null: none (Timeout.InfiniteTimeSpan).
        public static ulong? Limit(string name, TimeSpan value) =>
            value == Timeout.InfiniteTimeSpan ? (ulong?)null : Millis(name, value);

        /// As the core's parser reads it, exactly. It refuses a negative one.
        public static string ToText(TimeSpan value) =>
            value.Ticks % TimeSpan.TicksPerSecond == 0 ? Number(value.Ticks / TimeSpan.TicksPerSecond) + "s"
            : value.Ticks % TimeSpan.TicksPerMillisecond == 0 ? Number(value.Ticks / TimeSpan.TicksPerMillisecond) + "ms"
            : Number(value.Ticks / 10) + "." + Number(Math.Abs(value.Ticks % 10)) + "us";

        static string Number(long value) => value.ToString(CultureInfo.InvariantCulture);
    }
}
