# For bash, to be sourced: a .NET runtime and a compiler, also where there is no SDK.
#   dotnet      the runtime's program, from the pip package dotnetcore2 (CoreCLR 3.1), installed into .cache/venv when missing
#   references  what mcs is told in place of its own class library: that of the runtime
#   built       where Unstale.dll is built
# shellcheck shell=bash disable=SC2034
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
built=$root/.cache/dotnet
requirement=dotnetcore2==3.1.23

find_dotnet() {
  local folder
  for folder in "$root"/.cache/venv/lib/python3*/site-packages/dotnetcore2; do
    dotnet=$folder/bin/dotnet
    framework=$folder/bin/shared/Microsoft.NETCore.App/${requirement#*==}
    [ -e "$framework/System.Private.CoreLib.dll" ] && return
  done
  return 1
}

if ! find_dotnet; then
  [ -x "$root/.cache/venv/bin/pip" ] || python3 -m venv "$root/.cache/venv"
  "$root/.cache/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "$requirement"
  find_dotnet || { echo "$requirement cannot be installed" >&2; exit 1; }
fi
[ -x "$dotnet" ] || chmod +x "$dotnet"    # pip forgets it

export DOTNET_CLI_TELEMETRY_OPTOUT=1
export DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1    # no libicu

references=()
for assembly in "$framework"/{Microsoft.*,netstandard,System.*}.dll; do
  case $assembly in
    */System.Private.CoreLib.dll | */System.Private.Uri.dll) ;;
    */System.Private.* | */System.Runtime.WindowsRuntime*) continue ;;    # the insides of others; Windows only
  esac
  references+=("-r:$assembly")
done

# compile OUT KIND [argument …]: KIND is library or exe
compile() {
  local out=$1 kind=$2
  shift 2
  command -v mcs >/dev/null || { echo "mcs is missing; run .ci/setup dotnet" >&2; exit 1; }
  # Aside, so that nobody meets a half-made one; under its own name, which becomes the assembly's.
  local aside
  aside=$(mktemp -d "$(dirname "$out")/.new.XXXXXX")
  mcs -nologo -nowarn:1702 -optimize+ -debug- -langversion:7.2 -nostdlib -noconfig "-target:$kind" "-out:$aside/$(basename "$out")" \
    "${references[@]}" "$@" || { rm -rf "$aside"; return 1; }
  mv "$aside/$(basename "$out")" "$out"
  rmdir "$aside"
  cat >"${out%.dll}.runtimeconfig.json" <<'JSON'
{
  "runtimeOptions": {
    "framework": { "name": "Microsoft.NETCore.App", "version": "3.1.0" },
    "configProperties": { "System.Globalization.Invariant": true }
  }
}
JSON
}
