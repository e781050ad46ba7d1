// get_or_load with loaders that the script controls: the blocking form at once, the asynchronous one in the background.
using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;
using Unstale;

/// What the script's loaders throw; it must come back as the same object.
sealed class LoaderFailed : Exception
{
    public LoaderFailed(string message) : base(message) { }
}

sealed class Outcome
{
    readonly string value;
    readonly LoaderFailed failure;

    public Outcome(string value, LoaderFailed failure)
    {
        this.value = value;
        this.failure = failure;
    }

    public string Happen()
    {
        if (failure == null) return value;
        Loads.Raised(failure);
        throw failure;
    }
}

sealed class Loads
{
    sealed class Running
    {
        public volatile bool Called;
        public Task<string> Task;
        public readonly TaskCompletionSource<Outcome> Finish =
            new TaskCompletionSource<Outcome>(TaskCreationOptions.RunContinuationsAsynchronously);
    }

    // Every object that a loader of this process raised: an exception counts as the loader's own only if it is one of them.
    static readonly HashSet<LoaderFailed> raised = new HashSet<LoaderFailed>();

    readonly Dictionary<string, Running> running = new Dictionary<string, Running>();

    public static void Raised(LoaderFailed failure)
    {
        lock (raised) raised.Add(failure);
    }

    static object Describe(bool called, bool done, string value, Exception failure)
    {
        string failed = null;
        if (failure != null)
        {
            bool own;
            lock (raised) own = failure is LoaderFailed && raised.Contains((LoaderFailed)failure);
            if (!own) throw failure;
            failed = failure.Message;
        }
        return new Dictionary<string, object> { ["called"] = called, ["done"] = done, ["value"] = value, ["failed"] = failed };
    }

    /// The blocking form.
    public static object Blocking(Cache<string> cache, string key, SetOptions options, Outcome outcome)
    {
        var called = false;
        try
        {
            var value = cache.GetOrLoad(key, () =>
            {
                called = true;
                return outcome.Happen();
            }, options);
            return Describe(called, true, value, null);
        }
        catch (LoaderFailed failure)
        {
            return Describe(called, true, null, failure);
        }
    }

    public void Start(string id, Cache<string> cache, string key, SetOptions options)
    {
        var load = new Running();
        running[id] = load;
        load.Task = Task.Run(async () => await cache.GetOrLoadAsync(key, async cancellation =>
        {
            load.Called = true;
            var outcome = await load.Finish.Task.ConfigureAwait(false);
            return outcome.Happen();
        }, options).ConfigureAwait(false));
    }

    public object State(string id)
    {
        var load = Find(id);
        // First whether it is done: one that is has called its loader before.
        if (!load.Task.IsCompleted) return Describe(load.Called, false, null, null);
        return load.Task.IsFaulted
            ? Describe(load.Called, true, null, load.Task.Exception.InnerException)
            : Describe(load.Called, true, load.Task.Result, null);
    }

    public void Finish(string id, Outcome outcome)
    {
        if (!Find(id).Finish.TrySetResult(outcome)) throw new DriverException("finished twice");
    }

    Running Find(string id) => running.TryGetValue(id, out var load) ? load : throw new DriverException("no such load");
}
