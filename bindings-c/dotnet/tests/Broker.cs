// A real mosquitto on a free loopback port, one for all tests.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using Unstale;

static class Broker
{
    static readonly Lazy<(Process process, int port)> shared = new Lazy<(Process process, int port)>(() => Start());
    static readonly List<Process> started = new List<Process>();

    public static string Url => "mqtt://127.0.0.1:" + shared.Value.port;

    /// A topic of its own, so that tests do not hear each other.
    public static ClientOptions Options(string topic = null) => new ClientOptions { Topic = topic ?? Topic() };

    public static string Topic() => "t/" + Guid.NewGuid().ToString("N");

    public static Process Publish(string topic, string payload)
    {
        var process = Process.Start(new ProcessStartInfo("mosquitto_pub")
        {
            ArgumentList = { "-p", shared.Value.port.ToString(), "-q", "1", "-t", topic, "-m", payload },
        });
        process.WaitForExit();
        return process;
    }

    public static void StopAll()
    {
        foreach (var process in started)
        {
            process.Kill();
            process.WaitForExit();
        }
    }

    static (Process process, int port) Start()
    {
        // Debian puts it where a user's PATH often does not look.
        var folders = Environment.GetEnvironmentVariable("PATH") + ":/usr/sbin:/usr/local/sbin";
        var program = folders.Split(':').Select(folder => Path.Combine(folder, "mosquitto")).FirstOrDefault(File.Exists)
            ?? throw new InvalidOperationException("mosquitto is missing; run .ci/setup broker");
        for (var attempt = 0; attempt < 5; attempt++) // another process may take a free port first
        {
            var probe = new TcpListener(IPAddress.Loopback, 0);
            probe.Start();
            var port = ((IPEndPoint)probe.LocalEndpoint).Port;
            probe.Stop();
            var process = Process.Start(new ProcessStartInfo(program)
            {
                ArgumentList = { "-p", port.ToString() }, RedirectStandardError = true, RedirectStandardOutput = true,
            });
            process.ErrorDataReceived += (sender, line) => { };
            process.BeginErrorReadLine();
            while (!process.HasExited)
            {
                try
                {
                    new TcpClient("127.0.0.1", port).Dispose();
                    started.Add(process);
                    return (process, port);
                }
                catch (SocketException)
                {
                    Thread.Sleep(10);
                }
            }
        }
        throw new InvalidOperationException("mosquitto did not start");
    }
}
