// The C library, function by function as in `bindings-c/include/unstale.h`. Nothing here decides anything.
using System;
using System.Runtime.InteropServices;

namespace Unstale
{
    [StructLayout(LayoutKind.Sequential)]
    struct NativeResult
    {
        public uint Code;
        public uint Detail;
    }

    /// A value whose `Data` is a number of <see cref="Table"/>; Owner is what keeps it alive.
    [StructLayout(LayoutKind.Sequential)]
    struct NativeValue
    {
        public ulong Data;
        public UIntPtr Length;
        public IntPtr Owner;
    }

    [StructLayout(LayoutKind.Sequential)]
    unsafe struct NativeText
    {
        public byte* Data;
        public UIntPtr Length;
    }

    [StructLayout(LayoutKind.Sequential)]
    unsafe struct NativeOptions
    {
        public ulong TtlMs;
        public NativeText* Tags;
        public UIntPtr TagsLength;
        public NativeText* DependsOn;
        public UIntPtr DependsOnLength;
        public ulong Version;
        public IntPtr Lease;
        public ulong HasVersion; // one byte and seven reserved ones
    }

    [StructLayout(LayoutKind.Sequential)]
    unsafe struct NativeKeyVersion
    {
        public byte* Key;
        public UIntPtr KeyLength;
        public ulong Version;
        public ulong HasVersion; // one byte and seven reserved ones
    }

    [StructLayout(LayoutKind.Sequential)]
    struct NativeFailure
    {
        public int Code;
        public NativeValue Error;
    }

    enum BeginState : uint { Hit = 1, Absent = 2, Lead = 3, Join = 4 }

    [StructLayout(LayoutKind.Sequential)]
    struct NativeBegun
    {
        public NativeValue Value;
        public IntPtr Load;
        public IntPtr Join;
        public ulong LoadId;
        public BeginState State;
        public uint Reserved;
    }

    enum JoinState : uint { Value = 1, Absent = 2, Failed = 3, Again = 4, TimedOut = 5 }

    [StructLayout(LayoutKind.Sequential)]
    struct NativeJoined
    {
        public NativeValue Value;
        public NativeFailure Failure;
        public JoinState State;
        public uint Reserved;
    }

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    delegate void FreeFunction(UIntPtr userdata);

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    delegate void EventFunction(UIntPtr userdata, IntPtr json, UIntPtr length);

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    delegate void LogFunction(UIntPtr userdata, uint level, IntPtr target, IntPtr message);

    /// Handles are passed as plain numbers: whoever calls keeps the object that owns them alive (GC.KeepAlive), which costs
    /// nothing, where a SafeHandle argument costs two interlocked operations a call.
    static unsafe class Native
    {
        const string Library = "unstale";

        /// UNSTALE_NO_LIMIT
        public const ulong NoLimit = ulong.MaxValue;
        /// UNSTALE_CLOSE_TIMEOUT_MS
        public const int CloseTimeoutMs = 5000;

        [DllImport(Library, EntryPoint = "unstale_result_message")]
        public static extern UIntPtr ResultMessage(NativeResult result, byte* buffer, UIntPtr capacity);
        [DllImport(Library, EntryPoint = "unstale_string_free")]
        public static extern void StringFree(byte* text);
        [DllImport(Library, EntryPoint = "unstale_version")]
        public static extern byte* Version();

        [DllImport(Library, EntryPoint = "unstale_client_connect")]
        public static extern NativeResult ClientConnect(byte* config, IntPtr* client);
        [DllImport(Library, EntryPoint = "unstale_client_cache")]
        public static extern NativeResult ClientCache(IntPtr client, byte* ns, byte* config, IntPtr* cache);
        [DllImport(Library, EntryPoint = "unstale_client_status")]
        public static extern NativeResult ClientStatus(IntPtr client, byte** json);
        [DllImport(Library, EntryPoint = "unstale_client_on_status")]
        public static extern NativeResult ClientOnStatus(
            IntPtr client, IntPtr callback, UIntPtr userdata, IntPtr free, IntPtr* subscription);
        [DllImport(Library, EntryPoint = "unstale_client_wait_for")]
        public static extern NativeResult ClientWaitFor(IntPtr client, byte* token, ulong timeoutMs, byte* reached);
        [DllImport(Library, EntryPoint = "unstale_client_close")]
        public static extern NativeResult ClientClose(IntPtr client, ulong timeoutMs, UIntPtr* unsent);
        [DllImport(Library, EntryPoint = "unstale_client_free")]
        public static extern void ClientFree(IntPtr client);

        [DllImport(Library, EntryPoint = "unstale_cache_get")]
        public static extern NativeResult CacheGet(IntPtr cache, byte* key, UIntPtr length, NativeValue* value);
        [DllImport(Library, EntryPoint = "unstale_cache_peek")]
        public static extern UIntPtr CachePeek(IntPtr cache, byte* key, UIntPtr length);
        [DllImport(Library, EntryPoint = "unstale_cache_contains")]
        public static extern NativeResult CacheContains(IntPtr cache, byte* key, UIntPtr length, byte* contained);
        [DllImport(Library, EntryPoint = "unstale_cache_set")]
        public static extern NativeResult CacheSet(
            IntPtr cache, byte* key, UIntPtr length, NativeValue* value, NativeOptions* options, byte* stored);
        [DllImport(Library, EntryPoint = "unstale_cache_update")]
        public static extern NativeResult CacheUpdate(
            IntPtr cache, byte* key, UIntPtr length, NativeValue* value, NativeOptions* options, IntPtr* receipt);
        [DllImport(Library, EntryPoint = "unstale_cache_evict")]
        public static extern NativeResult CacheEvict(IntPtr cache, byte* key, UIntPtr length, byte* held);
        [DllImport(Library, EntryPoint = "unstale_cache_clear_local")]
        public static extern NativeResult CacheClearLocal(IntPtr cache);
        [DllImport(Library, EntryPoint = "unstale_cache_load_timeout")]
        public static extern ulong CacheLoadTimeout(IntPtr cache);
        [DllImport(Library, EntryPoint = "unstale_cache_len")]
        public static extern UIntPtr CacheLength(IntPtr cache);
        [DllImport(Library, EntryPoint = "unstale_cache_stats")]
        public static extern NativeResult CacheStats(IntPtr cache, byte** json);
        [DllImport(Library, EntryPoint = "unstale_cache_on_invalidated")]
        public static extern NativeResult CacheOnInvalidated(
            IntPtr cache, IntPtr callback, UIntPtr userdata, IntPtr free, IntPtr* subscription);
        [DllImport(Library, EntryPoint = "unstale_cache_free")]
        public static extern void CacheFree(IntPtr cache);

        [DllImport(Library, EntryPoint = "unstale_value_new")]
        public static extern NativeResult ValueNew(
            ulong data, UIntPtr length, IntPtr free, UIntPtr userdata, NativeValue* value);
        [DllImport(Library, EntryPoint = "unstale_value_release")]
        public static extern void ValueRelease(NativeValue* value);

        [DllImport(Library, EntryPoint = "unstale_cache_invalidate")]
        public static extern NativeResult CacheInvalidate(IntPtr cache, byte* key, UIntPtr length, IntPtr* receipt);
        [DllImport(Library, EntryPoint = "unstale_cache_invalidate_version")]
        public static extern NativeResult CacheInvalidateVersion(
            IntPtr cache, byte* key, UIntPtr length, ulong version, IntPtr* receipt);
        [DllImport(Library, EntryPoint = "unstale_cache_invalidate_many")]
        public static extern NativeResult CacheInvalidateMany(
            IntPtr cache, NativeKeyVersion* items, UIntPtr count, IntPtr* receipt);
        [DllImport(Library, EntryPoint = "unstale_cache_invalidate_tags")]
        public static extern NativeResult CacheInvalidateTags(IntPtr cache, NativeText* tags, UIntPtr count, IntPtr* receipt);
        [DllImport(Library, EntryPoint = "unstale_cache_invalidate_prefix")]
        public static extern NativeResult CacheInvalidatePrefix(IntPtr cache, byte* prefix, UIntPtr length, IntPtr* receipt);
        [DllImport(Library, EntryPoint = "unstale_cache_invalidate_all")]
        public static extern NativeResult CacheInvalidateAll(IntPtr cache, IntPtr* receipt);

        [DllImport(Library, EntryPoint = "unstale_receipt_token")]
        public static extern NativeResult ReceiptToken(IntPtr receipt, byte** token);
        [DllImport(Library, EntryPoint = "unstale_receipt_stored")]
        public static extern NativeResult ReceiptStored(IntPtr receipt, byte* stored);
        [DllImport(Library, EntryPoint = "unstale_receipt_wait")]
        public static extern NativeResult ReceiptWait(IntPtr receipt, ulong timeoutMs, byte* delivered);
        [DllImport(Library, EntryPoint = "unstale_receipt_free")]
        public static extern void ReceiptFree(IntPtr receipt);

        [DllImport(Library, EntryPoint = "unstale_cache_lease")]
        public static extern NativeResult CacheLease(IntPtr cache, byte* key, UIntPtr length, IntPtr* lease);
        [DllImport(Library, EntryPoint = "unstale_lease_free")]
        public static extern void LeaseFree(IntPtr lease);

        [DllImport(Library, EntryPoint = "unstale_cache_begin")]
        public static extern NativeResult CacheBegin(
            IntPtr cache, byte* key, UIntPtr length, NativeOptions* options, NativeBegun* begun);
        [DllImport(Library, EntryPoint = "unstale_load_finish")]
        public static extern NativeResult LoadFinish(IntPtr load, NativeValue* value, byte* stored);
        [DllImport(Library, EntryPoint = "unstale_load_fail")]
        public static extern NativeResult LoadFail(IntPtr load, NativeFailure* failure);
        [DllImport(Library, EntryPoint = "unstale_load_abandon")]
        public static extern void LoadAbandon(IntPtr load);
        [DllImport(Library, EntryPoint = "unstale_join_wait")]
        public static extern NativeResult JoinWait(IntPtr join, ulong timeoutMs, NativeJoined* joined);
        [DllImport(Library, EntryPoint = "unstale_join_free")]
        public static extern void JoinFree(IntPtr join);

        [DllImport(Library, EntryPoint = "unstale_subscription_cancel")]
        public static extern void SubscriptionCancel(IntPtr subscription);
        [DllImport(Library, EntryPoint = "unstale_set_log")]
        public static extern NativeResult SetLog(uint level, IntPtr callback, UIntPtr userdata, IntPtr free);
    }
}
