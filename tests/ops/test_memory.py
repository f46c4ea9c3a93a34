import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from neural3d.ops.memory import keep_memory
if {keep}:
    assert keep_memory()
for _ in range(30):
    torch.empty(16 << 20).fill_(1)  # 64 MiB: 16384 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="keep_memory is for glibc")
def test_kept_memory_is_seldom_faulted_in():
    def faults(keep):
        script = FAULTS.format(keep=keep)
        return int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)

    assert faults(True) < 0.5 * faults(False)
