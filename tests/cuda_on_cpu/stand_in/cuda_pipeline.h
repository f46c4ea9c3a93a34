// Copies arrive when they are waited for, not before: who forgets to wait reads what was there (emulator.h: poison).
#pragma once

#include <cuda_runtime.h>

inline void __pipeline_memcpy_async(void* to, const void* from, size_t bytes) { emulated::copy_later(to, from, bytes); }
inline void __pipeline_commit() { emulated::commit_copies(); }
inline void __pipeline_wait_prior(int groups) { emulated::wait_for_copies(groups); }
