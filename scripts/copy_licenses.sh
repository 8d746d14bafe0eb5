#!/usr/bin/env bash
# Copies the terms of what is in a built comet into a folder: comet's own, of what is compiled in, of the shared
# libraries named, and the licences that those only point to. What has none here is named, and the rest copied.
#   scripts/copy_licenses.sh FOLDER BINARY [LIBRARY ...]
set -euo pipefail
folder=${1:?"usage: $0 FOLDER BINARY [LIBRARY ...]"}
binary=${2:?"usage: $0 FOLDER BINARY [LIBRARY ...]"}
shift 2

missing() { echo "copy_licenses: no terms found of $1" >&2; }

mkdir -p "$folder"
cp "$(dirname "$0")/../LICENSE" "$folder/comet"

packages=(libcli11-dev nlohmann-json3-dev)  # Headers that are compiled in; Boost asks for no notice then.
for library in "$@"; do
  # A package may have put it below /lib or /usr/lib, which are one folder.
  path=$(realpath "$library")
  package=$({ dpkg-query -S "$path" "${path#/usr}" || true; } 2>/dev/null | sed -n '1s/:.*//p')
  if [ -n "$package" ]; then packages+=("$package"); else missing "$library"; fi
done
for package in $(printf '%s\n' "${packages[@]}" | sort -u); do
  cp "/usr/share/doc/$package/copyright" "$folder/$package" 2>/dev/null || missing "$package"
done

# CUDA's runtime is linked in with GPU code.
sections=$(readelf -SW "$binary")
if [[ $sections == *.nv_fatbin* ]]; then
  for terms in /usr/local/cuda/EULA.txt /usr/share/doc/cuda-cudart-dev-*/copyright \
    /usr/local/cuda/dist-info/nvidia_cuda_runtime-*/licenses/License.txt; do
    [ -f "$terms" ] && { cp "$terms" "$folder/cuda-runtime"; break; }
  done
  [ -f "$folder/cuda-runtime" ] || missing "CUDA's runtime"
fi

mkdir -p "$folder/common-licenses"
for terms in $(grep -hoE '/usr/share/common-licenses/[A-Za-z0-9.-]*[A-Za-z0-9]' "$folder"/* 2>/dev/null | sort -u); do
  cp -L "$terms" "$folder/common-licenses/" 2>/dev/null || missing "$terms"
done
