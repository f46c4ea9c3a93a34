"""Spells a .cu file so that g++ takes it: launches and shared memory, for which CUDA has a syntax of its own.

python spell.py FILE.cu OUT.cpp
"""

import re
import sys
from pathlib import Path

DYNAMIC = re.compile(r"extern __shared__ __align__\(16\) unsigned char (\w+)\[\];")
SHARED = re.compile(r"__shared__ (.+?) (\w+)((?:\[[^\]]+\])*);")


def shared_memory(source: str) -> str:
    """__shared__ T name[n]; → T (&name)[n], which the emulator finds anew in each block."""
    source = DYNAMIC.sub(r"auto* \1 = static_cast<unsigned char*>(::emulated::dynamic_shared());", source)
    return SHARED.sub(
        r"using shared_\2 = \1\3; static const char place_\2 = 0; "
        r"shared_\2& \2 = *static_cast<shared_\2*>"
        r"(::emulated::shared(&place_\2, sizeof(shared_\2), alignof(shared_\2)));",
        source,
    )


def launches(source: str) -> str:
    """kernel<T><<<grid, block, bytes, stream>>>(…) → ::emulated::start(a function that calls kernel<T>, grid, …)(…)"""
    spelt, at = "", 0
    while (opening := source.find("<<<", at)) >= 0:
        closing = source.index(">>>", opening)
        begin, depth = len(source[:opening].rstrip()), 0
        while depth or re.match(r"[\w:>]", source[begin - 1]):  # back over the name and its template arguments
            begin -= 1
            depth += (source[begin] == ">") - (source[begin] == "<")
        kernel = f"[=](auto... a) {{ {source[begin:opening]}(a...); }}"
        spelt += f"{source[at:begin]}::emulated::start({kernel}, {source[opening + 3 : closing]})"
        at = closing + 3
    return spelt + source[at:]


def main(path: Path, out: Path) -> None:
    out.write_text(f'#include <cuda_runtime.h>\n#line 1 "{path}"\n' + launches(shared_memory(path.read_text())))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
