using System.Reflection;
using System.Runtime.CompilerServices;

// In step with the C library's.
[assembly: AssemblyVersion("0.1.0.0")]
[assembly: AssemblyTitle("Unstale")]
[assembly: InternalsVisibleTo("UnstaleTests")]
