#!/usr/bin/env bash
# Copies a built comet and the shared libraries it needs, but the C library, into a folder that runs on
# another Linux host whose C library is at least as new: FOLDER/comet starts it there. FOLDER/licenses has
# the terms of what is in it; what has none on this host is named.
#   scripts/bundle.sh FOLDER [BINARY]     BINARY: build/release/bin/comet
set -euo pipefail
folder=${1:?"usage: $0 FOLDER [BINARY]"}
binary=${2:-"$(dirname "$0")/../build/release/bin/comet"}

mkdir -p "$folder/lib"
cp "$binary" "$folder/lib/comet"
strip "$folder/lib/comet"
# These belong to the host's C library: two of them in one process do not get along.
host_libraries='/(ld-linux-x86-64|libc|libm|libdl|libpthread|librt|libresolv)\.so'
needed=$(ldd "$binary")
if grep 'not found' <<<"$needed" >&2; then
  echo "bundle: $binary needs the libraries above, which this host does not have" >&2
  exit 1
fi
mapfile -t libraries < <(
  awk '$2 == "=>" && $3 ~ /^\// {print $3}' <<<"$needed" | grep -vE "$host_libraries")
cp -L "${libraries[@]}" "$folder/lib/"

cat > "$folder/comet" <<'START'
#!/usr/bin/env bash
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "$here/lib/comet" "$@"
START
chmod +x "$folder/comet"

"$(dirname "$0")/copy_licenses.sh" "$folder/licenses" "$binary" "${libraries[@]}"
