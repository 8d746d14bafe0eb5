#!/usr/bin/env python3
"""What files compiled for an instruction set may share with the others.

Usage: check_isa_symbols.py NM ARCHIVE

An inline function of a header that all files read, emitted by a file that is compiled for AVX-512, may be
the copy that the linker keeps for everybody, and then ends the process on a lesser machine. So each weak
symbol of such a file must be of a type of its own, comet::cpu::...Simd, or of a template over it.
"""

import re
import subprocess
import sys

OBJECT = re.compile(r":kernels_(avx2|avx512vnni)\.cc\.o:")
SYMBOL = re.compile(r":[0-9a-f]* *(?P<kind>[A-Za-z]) (?P<name>.*)$")
OWN = re.compile(r"^(?:\S.* )?comet::cpu::(?:\w+<comet::cpu::Avx\w+Simd>|Avx\w+Simd)::")


def main():
    nm, archive = sys.argv[1:]
    listing = subprocess.run([nm, "-A", "-C", "--defined-only", archive], capture_output=True, text=True,
                             check=True).stdout
    num_own, shared = 0, []
    for line in listing.splitlines():
        symbol = SYMBOL.search(line)
        if not OBJECT.search(line) or symbol is None or symbol["kind"] not in "WwVvu":
            continue
        if OWN.match(symbol["name"]):
            num_own += 1
        else:
            shared.append(line)
    for line in shared:
        print(f"a shared function compiled for an instruction set: {line}")
    if num_own == 0:
        print(f"{archive}: has no kernels for AVX2 or AVX-512, or their names have changed")
    return 1 if shared or num_own == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
