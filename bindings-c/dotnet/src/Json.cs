// Options on their way to the core, whose parser alone knows what is valid; and its answers.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Text;
using System.Text.Json;

namespace Unstale
{
    /// The fields that were given, and further options, as one JSON object.
    sealed class OptionsWriter
    {
        readonly Dictionary<string, object> options = new Dictionary<string, object>();

        public void Add(string name, object value)
        {
            if (value != null) options[name] = value;
        }

        public string Merge(IDictionary<string, object> more)
        {
            if (more != null)
            {
                foreach (var option in more)
                {
                    if (options.ContainsKey(option.Key))
                    {
                        throw new ConfigException($"option `{option.Key}` is given twice, as a property and in Further; give it once");
                    }
                    options.Add(option.Key, option.Value);
                }
            }
            using (var stream = new MemoryStream())
            {
                using (var writer = new Utf8JsonWriter(stream)) Write(writer, "", options);
                return Encoding.UTF8.GetString(stream.ToArray());
            }
        }

        static void Write(Utf8JsonWriter writer, string name, object value)
        {
            // (mcs has no patterns in a switch.)
            if (value == null) writer.WriteNullValue();
            else if (value is bool flag) writer.WriteBooleanValue(flag);
            else if (value is string text) WriteText(writer, name, text);
            else if (value is TimeSpan duration) writer.WriteStringValue(Durations.ToText(duration));
            else if (value is sbyte || value is byte || value is short || value is ushort || value is int || value is uint || value is long)
                writer.WriteNumberValue(Convert.ToInt64(value, CultureInfo.InvariantCulture));
            else if (value is ulong big) writer.WriteNumberValue(big);
            else if (value is decimal exact) writer.WriteNumberValue(exact);
            else if (value is float || value is double) WriteDouble(writer, name, Convert.ToDouble(value, CultureInfo.InvariantCulture));
            else if (value is JsonElement element) element.WriteTo(writer);
            else if (value is Uri uri) WriteText(writer, name, uri.OriginalString);
            else if (value is IDictionary<string, object> nested)
            {
                writer.WriteStartObject();
                foreach (var option in nested)
                {
                    WriteName(writer, option.Key);
                    Write(writer, name.Length == 0 ? option.Key : name + "." + option.Key, option.Value);
                }
                writer.WriteEndObject();
            }
            else if (value is IEnumerable items)
            {
                writer.WriteStartArray();
                foreach (var item in items) Write(writer, name, item);
                writer.WriteEndArray();
            }
            else throw new ConfigException($"option `{name}` cannot be a {value.GetType().Name}");
        }

        static void WriteDouble(Utf8JsonWriter writer, string name, double number)
        {
            if (double.IsNaN(number) || double.IsInfinity(number)) throw new ConfigException($"option `{name}` must be a number, not {number}");
            writer.WriteNumberValue(number);
        }

        // The writer would change half a surrogate pair silently.
        static void WriteText(Utf8JsonWriter writer, string name, string text)
        {
            Strict(name, text);
            writer.WriteStringValue(text);
        }

        static void WriteName(Utf8JsonWriter writer, string name)
        {
            Strict(name, name);
            writer.WritePropertyName(name);
        }

        static void Strict(string name, string text)
        {
            try
            {
                Text.Utf8.GetByteCount(text);
            }
            catch (EncoderFallbackException)
            {
                throw new ConfigException($"option `{name}` has half a surrogate pair");
            }
        }
    }

    /// An answer of the core. Fields that a newer core has, and this does not know, are in the text.
    static class Answer
    {
        public static JsonElement Parse(string json)
        {
            using (var document = JsonDocument.Parse(json)) return document.RootElement.Clone();
        }

        public static string String(this JsonElement o, string name) =>
            o.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

        public static long Long(this JsonElement o, string name) => o.LongOrNull(name) ?? 0;

        public static long? LongOrNull(this JsonElement o, string name) =>
            o.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Number ? value.GetInt64() : (long?)null;

        public static bool Bool(this JsonElement o, string name) =>
            o.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.True;

        public static string[] Strings(this JsonElement o, string name)
        {
            if (!o.TryGetProperty(name, out var value) || value.ValueKind != JsonValueKind.Array) return Array.Empty<string>();
            var strings = new string[value.GetArrayLength()];
            for (var i = 0; i < strings.Length; i++) strings[i] = value[i].GetString();
            return strings;
        }

        public static Dictionary<string, long> Counts(this JsonElement o, string name)
        {
            var counts = new Dictionary<string, long>();
            if (o.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Object)
            {
                foreach (var count in value.EnumerateObject()) counts[count.Name] = count.Value.GetInt64();
            }
            return counts;
        }
    }
}
