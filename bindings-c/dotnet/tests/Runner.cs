// Runs every [Test], each against a deadline; the last line is `N passed, N failed`.
//   test.sh [part of a name …]
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Reflection;
using System.Threading;
using System.Threading.Tasks;

[AttributeUsage(AttributeTargets.Method)]
sealed class TestAttribute : Attribute
{
}

sealed class TestFailed : Exception
{
    public TestFailed(string message) : base(message) { }
}

static class Is
{
    public static void True(bool condition, string what)
    {
        if (!condition) throw new TestFailed("not so: " + what);
    }

    public static void Equal<T>(T expected, T actual, string what = "")
    {
        if (!EqualityComparer<T>.Default.Equals(expected, actual)) throw new TestFailed($"{what} expected {expected}, got {actual}");
    }

    /// Exactly this type, thrown by the call or by the task that it returns.
    public static E Thrown<E>(Func<object> call) where E : Exception
    {
        try
        {
            if (call() is Task task) task.GetAwaiter().GetResult();
        }
        catch (Exception e) when (e.GetType() == typeof(E))
        {
            return (E)e;
        }
        catch (Exception e)
        {
            throw new TestFailed($"expected {typeof(E).Name}, got {e}");
        }
        throw new TestFailed($"expected {typeof(E).Name}, nothing was thrown");
    }

    public static E Thrown<E>(Action call) where E : Exception => Thrown<E>(() =>
    {
        call();
        return null;
    });

    /// Becomes true within ten seconds.
    public static void Soon(Func<bool> condition, string what)
    {
        var clock = Stopwatch.StartNew();
        while (!condition())
        {
            if (clock.Elapsed > TimeSpan.FromSeconds(10)) throw new TestFailed("not within 10 s: " + what);
            Thread.Sleep(1);
        }
    }
}

static class Runner
{
    const int Seconds = 60;

    static int Main(string[] wanted)
    {
        var tests = Assembly.GetExecutingAssembly().GetTypes()
            .SelectMany(type => type.GetMethods(BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic))
            .Where(method => method.GetCustomAttribute<TestAttribute>() != null)
            .Where(method => wanted.Length == 0 || wanted.Any(part => Name(method).Contains(part)))
            .OrderBy(Name, StringComparer.Ordinal);
        int passed = 0, failed = 0;
        foreach (var test in tests)
        {
            var clock = Stopwatch.StartNew();
            var failure = Run(test);
            if (failure == null)
            {
                passed++;
                Console.WriteLine($"ok      {Name(test)} ({clock.ElapsedMilliseconds} ms)");
            }
            else
            {
                failed++;
                Console.WriteLine($"FAILED  {Name(test)}\n{failure}");
            }
        }
        Broker.StopAll();
        Console.WriteLine($"{passed} passed, {failed} failed");
        return failed == 0 && passed > 0 ? 0 : 1;
    }

    static string Name(MethodInfo test) => test.DeclaringType.Name + "." + test.Name;

    static Exception Run(MethodInfo test)
    {
        Exception failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                if (test.Invoke(null, null) is Task task) task.GetAwaiter().GetResult();
            }
            catch (TargetInvocationException e)
            {
                failure = e.InnerException;
            }
            catch (Exception e)
            {
                failure = e;
            }
        }) { IsBackground = true };
        thread.Start();
        return thread.Join(Seconds * 1000) ? failure : new TestFailed($"not over after {Seconds} s");
    }
}
