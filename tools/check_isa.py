"""Checks that no AVX code can reach processors without AVX: python tools/check_isa.py BUILD_FOLDER

Inline functions and templates become weak symbols, of which the linker keeps one copy, whichever object file it came
from. So a weak function in an AVX2 or AVX-512 object file must belong to that variant's own namespace (core/hd.h); a
std::vector or std::sort instantiated there might be the copy that everybody runs. Use plain arrays and loops instead.
"""

import subprocess
import sys
from pathlib import Path


def strangers(variant: str, symbols: str) -> list[str]:
    """The weak functions in `nm --demangle` output that do not name the variant's namespace."""
    lines = [line.split(maxsplit=2) for line in symbols.splitlines() if line[:1] not in ("", " ")]
    return [name for _, kind, name in lines if kind == "W" and f"n3d::{variant}::" not in name]


def main(folder: Path) -> int:
    found = 0
    checked = 0
    for variant in ("avx2", "avx512"):
        for path in sorted(folder.rglob(f"ops_{variant}.dir/**/*.o")):
            done = subprocess.run(
                ["nm", "--demangle", "--defined-only", path], capture_output=True, text=True, check=True
            )
            names = strangers(variant, done.stdout)
            checked += 1
            found += len(names)
            for name in names:
                print(f"{path.name} ({variant}): {name}")
    print(f"{checked} object files of AVX variants, {found} shared functions")
    return 1 if found or not checked else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
