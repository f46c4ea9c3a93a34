// As on the CPU (splat_bin.cpp), with radix sorts of CUB: the splats by depth, then their entries, emitted in that
// order, by tile alone. That moves far less than one sort of all entries by (tile, depth). Tiles are 16 × 16; an entry
// is made where the ellipse itself touches the tile.
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

#include "core/cuda.h"
#include "ops/splat_bin.h"

namespace n3d::cuda {

namespace {

constexpr int kMany = 16;  // tiles in a splat's box from which on its warp shares them

// Memory handed out in aligned pieces; with a null base only counted.
struct Arena {
  uint8_t* base;
  int64_t bytes = 0;

  explicit Arena(uint8_t* memory) : base(memory) {}
  template <class U>
  U* take(int64_t n) {
    U* p = reinterpret_cast<U*>(base + bytes);
    bytes += (n * int64_t(sizeof(U)) + 255) / 256 * 256;
    return p;
  }
};

struct Scratch : Arena {
  uint32_t* key[2];   // (N,)
  int32_t* order[2];  // (N,)
  int32_t* tiles;     // (N,) by depth, then their running sum
  uint8_t* temporary;
  size_t temporary_bytes = 0;

  Scratch(uint8_t* memory, int64_t n) : Arena(memory) {
    for (int k = 0; k < 2; ++k) key[k] = take<uint32_t>(n), order[k] = take<int32_t>(n);
    tiles = take<int32_t>(n);
    size_t scan = 0;
    cub::DoubleBuffer<uint32_t> keys(key[0], key[1]);
    cub::DoubleBuffer<int32_t> values(order[0], order[1]);
    cub::DeviceRadixSort::SortPairs(nullptr, temporary_bytes, keys, values, n);
    cub::DeviceScan::ExclusiveSum(nullptr, scan, tiles, tiles, n);
    temporary_bytes = temporary_bytes > scan ? temporary_bytes : scan;
    temporary = take<uint8_t>(int64_t(temporary_bytes));
  }
};

struct FillScratch : Arena {
  uint32_t* tile[2];  // (slots,)
  int32_t* slot[2];   // (slots,)
  int32_t* splat;     // (slots,) whose it is
  uint8_t* temporary;
  size_t temporary_bytes = 0;

  FillScratch(uint8_t* memory, int64_t n) : Arena(memory) {
    for (int k = 0; k < 2; ++k) tile[k] = take<uint32_t>(n), slot[k] = take<int32_t>(n);
    splat = take<int32_t>(n);
    cub::DoubleBuffer<uint32_t> keys(tile[0], tile[1]);
    cub::DoubleBuffer<int32_t> values(slot[0], slot[1]);
    cub::DeviceRadixSort::SortPairs(nullptr, temporary_bytes, keys, values, n);
    temporary = take<uint8_t>(int64_t(temporary_bytes));
  }
};

template <class T>
__device__ bool touches(const Splat<T>& g, int x, int y) {
  const T h = T(-0.5) * g.b, left = T(x * kTileSizeCuda) + T(0.5) - g.x, top = T(y * kTileSizeCuda) + T(0.5) - g.y;
  const T size = kTileSizeCuda - 1;
  return least_exponent<T>(g, h / g.c, h / g.a, left, top, left + size, top + size) <= g.reach;
}

// f(tile's number in the box, tile x, tile y, how many were touched before it) for the touched tiles of this thread's
// splat; returns their number. Large boxes are shared by the warp, one after the other: all its threads must call.
template <class T, class F>
__device__ int each_touched(const Splat<T>& g, bool seen, const F& f) {
  const unsigned all = 0xffffffffu, lane = threadIdx.x % 32;
  const SplatBox box = seen ? SplatBox::of(g) : SplatBox{0, 0, -1, -1};
  const int count = seen ? box.width() * box.height() : 0;
  int touched = 0;
  if (count < kMany)
    for (int y = box.y0; y <= box.y1; ++y)
      for (int x = box.x0; x <= box.x1; ++x)
        if (count == 1 || touches(g, x, y)) f(g, x, y, touched++);
  for (unsigned large = __ballot_sync(all, count >= kMany); large; large &= large - 1) {
    const int owner = __ffs(large) - 1;
    const Splat<T>* shared =
        reinterpret_cast<const Splat<T>*>(__shfl_sync(all, reinterpret_cast<unsigned long long>(&g), owner));
    const SplatBox b = SplatBox::of(*shared);
    const int tiles = b.width() * b.height();
    int before = 0;
    for (int i = 0; i < tiles; i += 32) {
      const int at = i + int(lane), x = b.x0 + at % b.width(), y = b.y0 + at / b.width();
      const bool hit = at < tiles && touches(*shared, x, y);
      const unsigned hits = __ballot_sync(all, hit);
      if (hit) f(*shared, x, y, before + __popc(hits & ((1u << lane) - 1)));
      before += __popc(hits);
    }
    if (int(lane) == owner) touched = before;
  }
  return touched;
}

template <class T>
__device__ bool record(const SplatBinArgs<T>& a, int64_t i, Splat<T>& g) {
  const T opacity = a.opacity[i];
  const Footprint<T, T> f(a.conic[3 * i], a.conic[3 * i + 1], a.conic[3 * i + 2], opacity);
  g.x = a.xy[2 * i], g.y = a.xy[2 * i + 1];
  g.a = f.a, g.b = f.b, g.c = f.c, g.level = f.level, g.reach = f.reach;
  for (int c = 0; c < kRecorded; ++c) g.feature[c] = c < a.channels ? a.features[i * a.channels + c] : T(0);
  const Span<T, T> x(g.x, f.rx, T(a.width)), y(g.y, f.ry, T(a.height));
  const bool seen = can_be_seen(opacity, a.depth[i], f) & x.in & y.in;
  if (seen) SplatBox::of_pixels(int(x.first), int(y.first), int(x.last), int(y.last), kTileSizeCuda).write(g);
  return seen;
}

template <class T>
__global__ void record_splats(SplatBinArgs<T> a, uint32_t* key, int32_t* order) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  const bool there = i < a.count;
  Splat<T>& g = a.splats[there ? i : 0];
  const bool seen = there && record(a, i, g);
  __syncwarp();
  const int tiles = each_touched(g, seen, [](const Splat<T>&, int, int, int) {});
  if (!there) return;
  g.tiles = tiles, g.slot = 0;
  key[i] = tiles == 0 ? 0xffffffffu : sort_key(float(a.depth[i]));
  order[i] = int32_t(i);
}

template <class T>
__global__ void count_tiles(int64_t n, const Splat<T>* splats, const int32_t* order, int32_t* tiles) {
  const int64_t r = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (r < n) tiles[r] = splats[order[r]].tiles;
}

template <class T>
__global__ void number_slots(int64_t n, Splat<T>* splats, const int32_t* order, const int32_t* before) {
  const int64_t r = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (r < n) splats[order[r]].slot = before[r];
}

template <class T>
__global__ void emit_entries(SplatFillArgs<T> a, const int32_t* order, FillScratch s) {
  const int64_t r = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  const bool there = r < a.count;
  const Splat<T>& g = a.splats[there ? order[r] : 0];
  const int tiles_x = int(tiles_along(a.width, kTileSizeCuda));
  const Splat<T>* first = a.splats;
  each_touched(g, there && g.tiles > 0, [&](const Splat<T>& of, int x, int y, int k) {
    const int32_t slot = of.slot + k;
    s.tile[0][slot] = uint32_t(y * tiles_x + x);
    s.slot[0][slot] = slot;
    s.splat[slot] = int32_t(&of - first);
  });
}

// Sorted entries: whose they are, their rows of gradients, where each tile's begin.
template <class T>
__global__ void place_entries(SplatFillArgs<T> a, const uint32_t* tile, const int32_t* slot, const int32_t* splat,
                              int64_t tiles) {
  const int64_t at = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (at > a.slots) return;
  const int64_t from = at == 0 ? 0 : int64_t(tile[at - 1]) + 1, to = at == a.slots ? tiles : int64_t(tile[at]);
  for (int64_t t = from; t <= to; ++t) a.tile_begin[t] = int32_t(at);
  if (at == a.slots) return;
  a.entry[at] = splat[slot[at]];
  a.place[at] = slot[at];
}

}  // namespace

template <class T>
void splat_bin(const SplatBinArgs<T>& a) {
  a.totals[0] = a.count, a.totals[1] = 0;
  if (a.count == 0) return;
  Scratch s(a.scratch, a.count);
  const auto where = stream(a.stream);
  record_splats<<<blocks(a.count), kThreads, 0, where>>>(a, s.key[0], s.order[0]);
  cub::DoubleBuffer<uint32_t> keys(s.key[0], s.key[1]);
  cub::DoubleBuffer<int32_t> order(s.order[0], s.order[1]);
  cub::DeviceRadixSort::SortPairs(s.temporary, s.temporary_bytes, keys, order, a.count, 0, 32, where);
  if (order.Current() != s.order[0])  // an even number of passes leaves them there
    cudaMemcpyAsync(s.order[0], order.Current(), a.count * sizeof(int32_t), cudaMemcpyDeviceToDevice, where);
  count_tiles<<<blocks(a.count), kThreads, 0, where>>>(a.count, a.splats, s.order[0], s.tiles);
  int32_t last[2] = {0, 0};
  cudaMemcpyAsync(&last[0], s.tiles + a.count - 1, sizeof(int32_t), cudaMemcpyDeviceToHost, where);
  cub::DeviceScan::ExclusiveSum(s.temporary, s.temporary_bytes, s.tiles, s.tiles, a.count, where);
  number_slots<<<blocks(a.count), kThreads, 0, where>>>(a.count, a.splats, s.order[0], s.tiles);
  cudaMemcpyAsync(&last[1], s.tiles + a.count - 1, sizeof(int32_t), cudaMemcpyDeviceToHost, where);
  cudaStreamSynchronize(where);  // the one of a step: how much room the entries need
  check("splat_bin");
  a.totals[1] = int64_t(last[0]) + last[1];
  if (a.totals[1] < 0) a.totals[1] = int64_t(1) << 31;  // the sum overflowed
}

template <class T>
void splat_fill(const SplatFillArgs<T>& a) {
  const auto where = stream(a.stream);
  const int64_t tiles = tiles_along(a.width, kTileSizeCuda) * tiles_along(a.height, kTileSizeCuda);
  if (a.slots == 0) {
    cudaMemsetAsync(a.tile_begin, 0, (tiles + 1) * sizeof(int32_t), where);
    return;
  }
  const Scratch s(a.scratch, a.count);
  FillScratch f(a.fill_scratch, a.slots);
  emit_entries<<<blocks(a.count), kThreads, 0, where>>>(a, s.order[0], f);
  cub::DoubleBuffer<uint32_t> keys(f.tile[0], f.tile[1]);
  cub::DoubleBuffer<int32_t> values(f.slot[0], f.slot[1]);
  int bits = 1;
  while (tiles - 1 >> bits) ++bits;
  cub::DeviceRadixSort::SortPairs(f.temporary, f.temporary_bytes, keys, values, a.slots, 0, bits, where);
  place_entries<<<blocks(a.slots + 1), kThreads, 0, where>>>(a, keys.Current(), values.Current(), f.splat, tiles);
  check("splat_fill");
}

template <class T>
void splat_scratch(const SplatScratchArgs<T>& a) {
  a.bytes[0] = Scratch(nullptr, a.count).bytes;
  a.bytes[1] = FillScratch(nullptr, a.slots).bytes;
}

template void splat_scratch<float>(const SplatScratchArgs<float>&);
template void splat_scratch<double>(const SplatScratchArgs<double>&);
template void splat_bin<float>(const SplatBinArgs<float>&);
template void splat_bin<double>(const SplatBinArgs<double>&);
template void splat_fill<float>(const SplatFillArgs<float>&);
template void splat_fill<double>(const SplatFillArgs<double>&);

}  // namespace n3d::cuda
