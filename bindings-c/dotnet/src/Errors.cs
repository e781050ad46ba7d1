using System;
using System.Text;

namespace Unstale
{
    /// <summary>What sort of error it is. The numbers are the same in every language of unstale.</summary>
    public enum ErrorKind
    {
        /// <summary>An argument is out of its documented range; nothing changed.</summary>
        InvalidArgument = 1,
        /// <summary>An option is unknown, contradictory or out of range.</summary>
        Config = 2,
        /// <summary>The broker cannot be reached, refused the connection, or took it away.</summary>
        Connect = 3,
        /// <summary>The broker refused these credentials, or this topic to them.</summary>
        Auth = 4,
        /// <summary>The TLS handshake failed, or a certificate or key cannot be used.</summary>
        Tls = 5,
        /// <summary>A time limit ran out.</summary>
        Timeout = 6,
        /// <summary>The client was closed.</summary>
        Closed = 7,
        /// <summary>A load failed, and its loader left no exception.</summary>
        Load = 8,
        /// <summary>A fault in this library; please report it.</summary>
        Internal = 9,
        /// <summary>The process forked after the client was made.</summary>
        Forked = 10,
    }

    /// <summary>
    /// Every exception of this library, but for those that it hands on unchanged (a loader's own, OperationCanceledException).
    /// The message says what was wrong, where, and what to do; it never holds a secret.
    /// </summary>
    public class UnstaleException : Exception
    {
        /// <summary>An exception of a kind, for tests of code that uses this library.</summary>
        public UnstaleException(ErrorKind kind, string message) : base(message) => Kind = kind;

        /// <summary>What sort of error it is; each has a subclass.</summary>
        public ErrorKind Kind { get; }

        /// The exception of a call that did not come to OK.
        internal static unsafe UnstaleException Of(NativeResult result)
        {
            var buffer = new byte[512];
            int length;
            for (;;)
            {
                fixed (byte* p = buffer) length = (int)Native.ResultMessage(result, p, (UIntPtr)buffer.Length);
                if (length < buffer.Length) break;
                buffer = new byte[length + 1];
            }
            return Of((ErrorKind)result.Code, Encoding.UTF8.GetString(buffer, 0, length));
        }

        internal static UnstaleException Of(ErrorKind kind, string message)
        {
            switch (kind)
            {
                case ErrorKind.InvalidArgument: return new InvalidArgumentException(message);
                case ErrorKind.Config: return new ConfigException(message);
                case ErrorKind.Connect: return new ConnectException(message);
                case ErrorKind.Auth: return new AuthException(message);
                case ErrorKind.Tls: return new TlsException(message);
                case ErrorKind.Timeout: return new TimedOutException(message);
                case ErrorKind.Closed: return new ClosedException(message);
                case ErrorKind.Load: return new LoadException(message);
                case ErrorKind.Internal: return new InternalException(message);
                case ErrorKind.Forked: return new ForkedException(message);
                default: return new UnstaleException(kind, message);
            }
        }

        internal static void Check(NativeResult result)
        {
            if (result.Code != 0) throw Of(result);
        }
    }

    /// <summary>An argument is out of its documented range; nothing changed.</summary>
    public sealed class InvalidArgumentException : UnstaleException
    {
        /// <summary>With a message.</summary>
        public InvalidArgumentException(string message) : base(ErrorKind.InvalidArgument, message) { }
    }

    /// <summary>An option is unknown, contradictory or out of range; the message names it.</summary>
    public sealed class ConfigException : UnstaleException
    {
        /// <summary>With a message.</summary>
        public ConfigException(string message) : base(ErrorKind.Config, message) { }
    }

    /// <summary>The broker cannot be reached, refused the connection, or took it away.</summary>
    public sealed class ConnectException : UnstaleException
    {
        /// <summary>With a message.</summary>
        public ConnectException(string message) : base(ErrorKind.Connect, message) { }
    }

    /// <summary>The broker refused these credentials, or this topic to them.</summary>
    public sealed class AuthException : UnstaleException
    {
        /// <summary>With a message.</summary>
        public AuthException(string message) : base(ErrorKind.Auth, message) { }
    }

    /// <summary>The TLS handshake failed, or a certificate or key cannot be used.</summary>
    public sealed class TlsException : UnstaleException
    {
        /// <summary>With a message.</summary>
        public TlsException(string message) : base(ErrorKind.Tls, message) { }
    }

    /// <summary>A time limit ran out.</summary>
    public sealed class TimedOutException : UnstaleException
    {
        /// <summary>With a message.</summary>
        public TimedOutException(string message) : base(ErrorKind.Timeout, message) { }
    }

    /// <summary>The client was closed.</summary>
    public sealed class ClosedException : UnstaleException
    {
        /// <summary>With a message.</summary>
        public ClosedException(string message) : base(ErrorKind.Closed, message) { }
    }

    /// <summary>A load failed, and its loader left no exception.</summary>
    public sealed class LoadException : UnstaleException
    {
        /// <summary>With a message.</summary>
        public LoadException(string message) : base(ErrorKind.Load, message) { }
    }

    /// <summary>A fault in this library; please report it.</summary>
    public sealed class InternalException : UnstaleException
    {
        /// <summary>With a message.</summary>
        public InternalException(string message) : base(ErrorKind.Internal, message) { }
    }

    /// <summary>The process forked after the client was made. Fork first and connect then, or start the child with exec.</summary>
    public sealed class ForkedException : UnstaleException
    {
        /// <summary>With a message.</summary>
        public ForkedException(string message) : base(ErrorKind.Forked, message) { }
    }
}
