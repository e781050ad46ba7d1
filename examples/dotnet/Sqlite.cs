// As much of SQLite as the example needs, over Debian's libsqlite3.so.0.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Text;

sealed class Sqlite : IDisposable
{
    const string Lib = "libsqlite3.so.0";
    const int Row = 100, Done = 101;
    static readonly IntPtr Transient = new IntPtr(-1); // SQLite copies what is bound

    [DllImport(Lib)] static extern int sqlite3_open(byte[] file, out IntPtr db);
    [DllImport(Lib)] static extern int sqlite3_busy_timeout(IntPtr db, int ms);
    [DllImport(Lib)] static extern int sqlite3_prepare_v2(IntPtr db, byte[] sql, int length, out IntPtr query, IntPtr tail);
    [DllImport(Lib)] static extern int sqlite3_bind_text(IntPtr query, int index, byte[] text, int length, IntPtr free);
    [DllImport(Lib)] static extern int sqlite3_step(IntPtr query);
    [DllImport(Lib)] static extern int sqlite3_column_count(IntPtr query);
    [DllImport(Lib)] static extern IntPtr sqlite3_column_text(IntPtr query, int column);
    [DllImport(Lib)] static extern int sqlite3_column_bytes(IntPtr query, int column);
    [DllImport(Lib)] static extern int sqlite3_finalize(IntPtr query);
    [DllImport(Lib)] static extern IntPtr sqlite3_errmsg(IntPtr db);
    [DllImport(Lib)] static extern int sqlite3_close(IntPtr db);

    readonly IntPtr db;

    public Sqlite(string file)
    {
        Check(sqlite3_open(Encoding.UTF8.GetBytes(file + "\0"), out db) == 0);
        sqlite3_busy_timeout(db, 10000);
    }

    /// Runs one statement in autocommit: for a change, this returns after the commit.
    public List<string[]> Run(string sql, params string[] arguments)
    {
        Check(sqlite3_prepare_v2(db, Encoding.UTF8.GetBytes(sql + "\0"), -1, out var query, IntPtr.Zero) == 0);
        try
        {
            for (var i = 0; i < arguments.Length; i++)
            {
                var text = Encoding.UTF8.GetBytes(arguments[i]);
                Check(sqlite3_bind_text(query, i + 1, text, text.Length, Transient) == 0);
            }
            var rows = new List<string[]>();
            for (;;)
            {
                var step = sqlite3_step(query);
                if (step == Done) return rows;
                Check(step == Row);
                var row = new string[sqlite3_column_count(query)];
                for (var i = 0; i < row.Length; i++)
                {
                    var text = sqlite3_column_text(query, i);
                    var bytes = new byte[sqlite3_column_bytes(query, i)];
                    if (bytes.Length > 0) Marshal.Copy(text, bytes, 0, bytes.Length);
                    row[i] = Encoding.UTF8.GetString(bytes);
                }
                rows.Add(row);
            }
        }
        finally
        {
            sqlite3_finalize(query);
        }
    }

    void Check(bool ok)
    {
        if (!ok) throw new InvalidOperationException("SQLite: " + Marshal.PtrToStringAnsi(sqlite3_errmsg(db)));
    }

    public void Dispose() => sqlite3_close(db);
}
