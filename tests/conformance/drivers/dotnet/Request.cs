// One command's fields, and what a command may fail with.
using System;
using System.Collections.Generic;
using System.Text.Json;
using Unstale;

/// A mistake in the driver, or a command that it does not know.
sealed class DriverException : Exception
{
    public DriverException(string message) : base(message) { }
}

sealed class Request
{
    readonly JsonElement fields;

    public Request(string line)
    {
        using (var document = JsonDocument.Parse(line)) fields = document.RootElement.Clone();
    }

    public string Command => Text("cmd");

    /// Absent and null are the same.
    bool Has(string name, out JsonElement value) => fields.TryGetProperty(name, out value) && value.ValueKind != JsonValueKind.Null;

    public bool Has(string name) => Has(name, out _);

    public string Text(string name) => TextOrNull(name) ?? throw new DriverException(name + " must be a string");

    public string TextOrNull(string name) => Has(name, out var value) ? value.GetString() : null;

    public List<string> Texts(string name)
    {
        var texts = new List<string>();
        if (Has(name, out var value)) foreach (var item in value.EnumerateArray()) texts.Add(item.GetString());
        return texts;
    }

    public long? Number(string name) => Has(name, out var value) ? value.GetInt64() : (long?)null;

    public TimeSpan Duration(string name) =>
        TimeSpan.FromMilliseconds(Number(name) ?? throw new DriverException(name + " must be milliseconds"));

    public IDictionary<string, object> Config()
    {
        var config = new Dictionary<string, object>();
        if (Has("options", out var value)) foreach (var option in value.EnumerateObject()) config[option.Name] = option.Value;
        return config;
    }

    public List<KeyValuePair<string, long?>> Keys()
    {
        var keys = new List<KeyValuePair<string, long?>>();
        if (!Has("keys", out var value)) throw new DriverException("keys must be a list");
        foreach (var pair in value.EnumerateArray())
        {
            var version = pair[1].ValueKind == JsonValueKind.Null ? (long?)null : pair[1].GetInt64();
            keys.Add(new KeyValuePair<string, long?>(pair[0].GetString(), version));
        }
        return keys;
    }

    public SetOptions Options(IDictionary<string, Lease> leases)
    {
        var options = new SetOptions { Tags = Texts("tags"), DependsOn = Texts("depends_on"), Version = Number("version") };
        if (Has("ttl_ms")) options.Ttl = Duration("ttl_ms");
        var id = TextOrNull("lease");
        if (id == null) return options;
        if (!leases.TryGetValue(id, out var lease)) throw new DriverException("no such lease");
        options.Lease = lease;
        return options;
    }

    /// What a loader is told to do: its value (null: not found), or the exception it throws.
    public Outcome Outcome()
    {
        var fail = TextOrNull("fail");
        return fail != null ? new Outcome(null, new LoaderFailed(fail)) : new Outcome(TextOrNull("value"), null);
    }
}
