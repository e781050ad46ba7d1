using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Unstale;

static class LoadTests
{
    sealed class Own : Exception
    {
        public Own(string message) : base(message) { }
    }

    static Client Alone() => Client.Connect("memory://" + Guid.NewGuid().ToString("N"));

    static T InTime<T>(Task<T> task) => task.Wait(10000) ? task.Result : throw new TestFailed("not within 10 s");

    static void Joins(Cache<string> cache, long count) => Is.Soon(() => cache.Stats.Joins >= count, count + " joins");

    [Test]
    static void a_value_is_loaded_once_and_kept()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("l");
            var loads = 0;
            for (var i = 0; i < 3; i++) Is.Equal("1", cache.GetOrLoad("k", () => (++loads).ToString()));
            Is.Equal("1", cache.GetOrLoadAsync("k", () => Task.FromResult("2")).Result);
            Is.Equal("9", cache.GetOrLoadAsync("t", token => Task.FromResult("9"), new SetOptions { Tags = new[] { "x" } }).Result);
            cache.InvalidateTags("x");
            Is.Equal(null, cache.Get("t"));
        }
    }

    [Test]
    static void null_means_not_found_and_is_kept_only_with_a_negative_ttl()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("n");
            var loads = 0;
            Func<string> none = () => { loads++; return null; };
            Is.Equal(null, cache.GetOrLoad("k", none));
            Is.Equal(null, cache.GetOrLoad("k", none));
            Is.Equal(2, loads);
            var keeps = client.OpenCache<string>("m", new CacheOptions { NegativeTtl = TimeSpan.FromMinutes(1) });
            Is.Equal(null, keeps.GetOrLoad("k", none));
            Is.Equal(null, keeps.GetOrLoad("k", none));
            Is.Equal(null, keeps.GetOrLoadAsync("k", () => Task.FromResult("v")).Result);
            Is.Equal(3, loads);
        }
    }

    [Test]
    static void threads_and_tasks_share_one_load()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("s");
            var gate = new TaskCompletionSource<string>();
            var loads = 0;
            Func<string> blocking = () => { Interlocked.Increment(ref loads); return gate.Task.Result; };
            Func<Task<string>> later = () => { Interlocked.Increment(ref loads); return gate.Task; };
            var callers = Enumerable.Range(0, 16).Select(i => i % 2 == 0
                ? Task.Factory.StartNew(() => cache.GetOrLoad("k", blocking), TaskCreationOptions.LongRunning)
                : cache.GetOrLoadAsync("k", later).AsTask()).ToArray();
            Joins(cache, 15);
            var value = new string('v', 3);
            gate.SetResult(value);
            foreach (var caller in callers) Is.True(ReferenceEquals(value, InTime(caller)), "the same object");
            Is.Equal(1, loads);
        }
    }

    [Test]
    static void many_joins_block_no_thread_of_the_pool()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("p", new CacheOptions { LoadTimeout = TimeSpan.FromMinutes(1) });
            var gate = new TaskCompletionSource<string>();
            var callers = Enumerable.Range(0, 2000).Select(i => cache.GetOrLoadAsync("k", () => gate.Task).AsTask()).ToArray();
            Is.Equal(1999L, cache.Stats.Joins);
            // The pool runs something else meanwhile.
            Is.Equal(5, InTime(Task.Run(() => 5)));
            gate.SetResult("v");
            Is.True(Task.WaitAll(callers, 10000), "all end");
        }
    }

    [Test]
    static void a_loaders_own_exception_reaches_all_unchanged()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("x");
            var own = new Own("no database");
            Is.True(ReferenceEquals(own, Is.Thrown<Own>(() => cache.GetOrLoad("k", () => throw own))), "the same object");
            Is.True(ReferenceEquals(own, Is.Thrown<Own>(() => cache.GetOrLoadAsync("k", () => throw own).AsTask())), "the same object");
            var gate = new TaskCompletionSource<string>();
            var leader = cache.GetOrLoadAsync("k", () => gate.Task).AsTask();
            var joiner = cache.GetOrLoadAsync("k", () => Task.FromResult("not called")).AsTask();
            var thread = Task.Factory.StartNew(() => cache.GetOrLoad("k", () => "not called"), TaskCreationOptions.LongRunning);
            Joins(cache, 2);
            gate.SetException(own);
            foreach (var caller in new[] { leader, joiner, thread })
                Is.True(ReferenceEquals(own, Is.Thrown<Own>(() => caller)), "the same object");
            Is.Equal("v", cache.GetOrLoad("k", () => "v"), "afterwards");
            Is.Equal(3L, cache.Stats.LoadFailures);
        }
    }

    [Test]
    static void a_value_invalidated_while_loaded_is_returned_and_not_stored()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("f");
            Is.Equal("old", cache.GetOrLoad("k", () => { cache.Invalidate("k"); return "old"; }));
            Is.Equal(null, cache.Get("k"));
            var gate = new TaskCompletionSource<string>();
            var tagged = cache.GetOrLoadAsync("t", () => gate.Task, new SetOptions { Tags = new[] { "red" } }).AsTask();
            cache.InvalidateTags("red");
            gate.SetResult("old");
            Is.Equal("old", InTime(tagged));
            Is.Equal(null, cache.Get("t"));
        }
    }

    [Test]
    static void cancelling_ends_the_callers_wait_only()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("c");
            var gate = new TaskCompletionSource<string>();
            var leader = cache.GetOrLoadAsync("k", () => gate.Task).AsTask();
            var source = new CancellationTokenSource();
            var joiner = cache.GetOrLoadAsync("k", token => Task.FromResult("x"), source.Token).AsTask();
            var thread = Task.Factory.StartNew(() => cache.GetOrLoad("k", () => "x", null, source.Token), TaskCreationOptions.LongRunning);
            Joins(cache, 2);
            source.Cancel();
            Is.Thrown<OperationCanceledException>(() => joiner);
            Is.Thrown<OperationCanceledException>(() => thread);
            gate.SetResult("v");
            Is.Equal("v", InTime(leader));
            Is.Thrown<OperationCanceledException>(() => cache.GetOrLoad("new", () => "v", null, source.Token));
            Is.Equal(null, cache.Get("new"));
        }
    }

    [Test]
    static void when_the_leader_is_cancelled_one_who_waits_loads()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("d");
            var source = new CancellationTokenSource();
            var leader = cache.GetOrLoadAsync("k", async token => { await Task.Delay(Timeout.Infinite, token); return "x"; }, source.Token).AsTask();
            var joiner = cache.GetOrLoadAsync("k", () => Task.FromResult("v")).AsTask();
            Joins(cache, 1);
            source.Cancel();
            Is.Thrown<TaskCanceledException>(() => leader);
            Is.Equal("v", InTime(joiner));
            Is.Equal("v", cache.Get("k"));
        }
    }

    [Test]
    static void load_timeout_limits_a_join()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("t", new CacheOptions { LoadTimeout = TimeSpan.FromMilliseconds(30) });
            var gate = new TaskCompletionSource<string>();
            var leader = cache.GetOrLoadAsync("k", () => gate.Task).AsTask();
            Is.Equal(ErrorKind.Timeout, Is.Thrown<TimedOutException>(() => cache.GetOrLoad("k", () => "x")).Kind);
            Is.Thrown<TimedOutException>(() => cache.GetOrLoadAsync("k", () => Task.FromResult("x")).AsTask());
            gate.SetResult("v");
            Is.Equal("v", InTime(leader));
        }
    }

    [Test]
    static void a_loader_that_asks_for_its_own_key_is_told()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("r");
            Is.Thrown<InvalidArgumentException>(() => cache.GetOrLoad("k", () => cache.GetOrLoad("k", () => "x")));
            Is.Thrown<InvalidArgumentException>(() => cache.GetOrLoadAsync("k", async () =>
            {
                await Task.Yield();
                return await cache.GetOrLoadAsync("k", () => Task.FromResult("x"));
            }).AsTask());
            Is.Equal("inner", cache.GetOrLoad("outer", () => cache.GetOrLoad("other", () => "inner")));
            // What was led before does not cling to this thread.
            var gate = new TaskCompletionSource<string>();
            var leader = cache.GetOrLoadAsync("k", () => gate.Task).AsTask();
            var joiner = cache.GetOrLoadAsync("k", () => Task.FromResult("x")).AsTask();
            gate.SetResult("v");
            Is.Equal("v", InTime(joiner));
            Is.Equal("v", InTime(leader));
        }
    }

    [Test]
    static void closing_ends_all_waits()
    {
        var client = Alone();
        var cache = client.OpenCache<string>("w");
        var gate = new TaskCompletionSource<string>();
        var leader = cache.GetOrLoadAsync("k", () => gate.Task).AsTask();
        var joiner = cache.GetOrLoadAsync("k", () => Task.FromResult("x")).AsTask();
        var thread = Task.Factory.StartNew(() => cache.GetOrLoad("k", () => "x"), TaskCreationOptions.LongRunning);
        Joins(cache, 2);
        client.Close(TimeSpan.Zero);
        Is.Thrown<ClosedException>(() => joiner);
        Is.Thrown<ClosedException>(() => thread);
        gate.SetResult("v");
        Is.Equal("v", InTime(leader));
    }

    [Test]
    static void a_loader_that_returns_no_task_is_a_failed_load()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<string>("z");
            Is.Thrown<InvalidOperationException>(() => cache.GetOrLoadAsync("k", (Func<Task<string>>)(() => null)).AsTask());
            Is.Equal("v", cache.GetOrLoad("k", () => "v"));
        }
    }

    [Test]
    static void readers_and_invalidators_race_without_a_stale_value()
    {
        using (var client = Alone())
        {
            var cache = client.OpenCache<object>("race");
            var source = 0;
            var end = Task.Delay(1500);
            var workers = new List<Task>();
            for (var i = 0; i < 3; i++)
            {
                workers.Add(Task.Factory.StartNew(() =>
                {
                    while (!end.IsCompleted)
                    {
                        // Read before: what is served afterwards was loaded from that or later.
                        var least = Volatile.Read(ref source);
                        var got = (int)cache.GetOrLoad("k", () => Volatile.Read(ref source));
                        if (got < least - 1) throw new TestFailed($"{got} was served, after {least} was invalidated");
                    }
                }, TaskCreationOptions.LongRunning));
            }
            workers.Add(Task.Factory.StartNew(() =>
            {
                while (!end.IsCompleted)
                {
                    Interlocked.Increment(ref source);
                    cache.Invalidate("k");
                    var got = (int)cache.GetOrLoad("k", () => Volatile.Read(ref source));
                    if (got != source) throw new TestFailed($"{got} was served, after {source} was invalidated");
                }
            }, TaskCreationOptions.LongRunning));
            Task.WaitAll(workers.ToArray());
        }
    }
}
