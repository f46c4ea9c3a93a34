#include "core/cuda.h"
#include "core/operand.h"
#include "ops/mlp.h"

// mlp on tensor cores. A warp takes 16 rows through all layers, alone: their activations lie in its part of shared
// memory, rounded, and the weights beside them, read once a block (or, where they do not fit, layer by layer).
// Backward, the block's warps come together in every layer for v_W = δᵀ x, over the rows of all.
//
// Matrices in shared memory are row-major. One copy of W (out, in) serves both ways: ldmatrix transposes.

namespace n3d::cuda {

namespace {

constexpr int kRows = kMlpWarpRows, kMostThreads = kMlpWarps * kWarp;
constexpr int kTiles = 8;  // of 8 columns, of a product's sums that a warp holds at a time

// Scalars between rows: 16 bytes times an odd number, so that the rows of ldmatrix's squares are in different banks.
constexpr int N3D_HD pitch(int width) { return padded(width) + 8; }

constexpr int N3D_HD weight_scalars(int in, int out) { return padded(out) * pitch(in); }

__device__ uint32_t& two(bfloat16* p) { return *reinterpret_cast<uint32_t*>(p); }
__device__ float low(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ float high(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

// C += A · B for the first `tiles` (even) tiles: A (16, depth); right_at(k, j) gives B's operand at row k, tile j.
template <class Right>
__device__ void multiply(const bfloat16* a, int a_pitch, int depth, int tiles, float (&c)[kTiles][4],
                         const Right& right_at) {
  for (int k = 0; k < depth; k += 16) {
    const Operand row = left(a + k, a_pitch);
#pragma unroll
    for (int j = 0; j < kTiles; j += 2)
      if (j < tiles) {
        const Operand columns = right_at(k, j);
        mma(c[j], row.square, columns.square[0], columns.square[1]);
        mma(c[j + 1], row.square, columns.square[2], columns.square[3]);
      }
  }
}

// f(tile, half) for the pairs of neighbours that a lane holds of a product: c[tile][2 half], c[tile][2 half + 1].
template <class F>
__device__ void for_each_pair(int tiles, const F& f) {
#pragma unroll
  for (int j = 0; j < kTiles; ++j)
    if (j < tiles) f(j, 0), f(j, 1);
}

// --- rows in memory ---

template <class T>
__device__ MlpRows<T> one_array(T* data, int width) {
  return {{data, nullptr}, {width, 0}, {width, 0}};
}

// Where a column of a row lies, and how many columns of its array there are from it on: none where it is not wanted.
template <class T>
struct Place {
  T* p;
  int left;
};
template <class T>
__device__ Place<T> place(const MlpRows<T>& x, int64_t row, int column) {
  const bool second = column >= x.columns[0];
  if (second) column -= x.columns[0];
  T* data = second ? x.data[1] : x.data[0];
  return {data + row * (second ? x.stride[1] : x.stride[0]) + column,
          data ? (second ? x.columns[1] : x.columns[0]) - column : 0};
}

// Both at once: there are two, and they begin where eight bytes may.
template <class T>
__device__ bool together(const Place<T>& first) {
  return first.left > 1 && reinterpret_cast<uintptr_t>(first.p) % sizeof(float2) == 0;
}

// Columns c and c + 1 of a row, zero outside.
__device__ float2 load_pair(const MlpRows<const float>& x, int64_t n, int64_t row, int c) {
  if (row >= n) return {0, 0};
  const auto first = place(x, row, c);
  if (together(first)) return *reinterpret_cast<const float2*>(first.p);
  const auto second = place(x, row, c + 1);
  return {first.left > 0 ? *first.p : 0, second.left > 0 ? *second.p : 0};
}

__device__ void store_pair(const MlpRows<float>& x, int64_t n, int64_t row, int c, float2 v) {
  if (row >= n) return;
  const auto first = place(x, row, c), second = place(x, row, c + 1);
  if (together(first)) {
    *reinterpret_cast<float2*>(first.p) = v;
    return;
  }
  if (first.left > 0) *first.p = v.x;
  if (second.left > 0) *second.p = v.y;
}

// A warp's tile, rounded: f(row, column) gives two neighbours.
template <class F>
__device__ void fill(bfloat16* tile, int width, const F& f) {
  for (int c = lane() % 8 * 2; c < padded(width); c += 16)
#pragma unroll
    for (int r = lane() / 8; r < kRows; r += 4) {
      const float2 v = f(r, c);
      two(tile + r * pitch(width) + c) = pack(v.x, v.y);
    }
}

// --- shared memory: weights, two tiles a warp, and the block's sums where there is room ---

struct Plan {
  bool resident;      // all weights at once, or those of one layer at a time
  bool sums;          // in shared memory, or where the partial sums go
  int warps;          // of a block
  int weights, tile;  // scalars: of the weights, of a tile
  size_t bytes;
};

class Weights {
 public:
  __device__ Weights(const MlpShape& s, const float* params, bfloat16* memory, bool resident)
      : s_(s), params_(params), memory_(memory), resident_(resident) {
    for (int l = 0; resident && l < s.layers; ++l) load(l, memory + at(l));
    __syncthreads();
  }
  // Of all threads at once.
  __device__ const bfloat16* layer(int l) const {
    if (resident_) return memory_ + at(l);
    __syncthreads();
    load(l, memory_);
    __syncthreads();
    return memory_;
  }

 private:
  __device__ int at(int layer) const {
    int at = 0;
    for (int l = 0; l < layer; ++l) at += weight_scalars(s_.in(l), s_.out(l));
    return at;
  }
  __device__ void load(int l, bfloat16* to) const {
    const int in = s_.in(l), out = s_.out(l), pairs = padded(in) / 2;
    const MlpRows<const float> w = one_array(params_ + s_.weight(l), in);
    for (int i = threadIdx.x; i < padded(out) * pairs; i += blockDim.x) {
      const float2 v = load_pair(w, out, i / pairs, i % pairs * 2);
      two(to + i / pairs * pitch(in) + i % pairs * 2) = pack(v.x, v.y);
    }
  }

  const MlpShape& s_;
  const float* params_;
  bfloat16* memory_;
  bool resident_;
};

__global__ void __launch_bounds__(kMostThreads, 2) forward_kernel(MlpForwardArgs<float> a, Plan plan) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto* all = reinterpret_cast<bfloat16*>(memory);
  const MlpShape& s = a.shape;
  const Weights weights(s, a.params, all, plan.resident);
  const MlpRows<float> y = one_array(a.y, s.out(s.layers - 1));
  bfloat16 *in = all + plan.weights + 2 * warp() * plan.tile, *out = in + plan.tile;
  const int64_t chunk = MlpTensorRows(a.n).chunk, end = (blockIdx.x + 1) * chunk < a.n ? (blockIdx.x + 1) * chunk : a.n;
  for (int64_t step = blockIdx.x * chunk; step < end; step += plan.warps * kRows) {
    const int64_t begin = step + warp() * kRows;
    auto* kept = reinterpret_cast<uint32_t*>(begin < a.n ? a.hidden : nullptr);
    if (kept) kept += begin / kRows * s.kept_pairs(s.layers - 1);
    fill(in, s.in(0), [&](int r, int c) { return load_pair(a.x, a.n, begin + r, c); });
    for (int l = 0; l < s.layers; ++l) {
      const int width = s.out(l), depth = s.in(l);
      const bfloat16* w = weights.layer(l);
      const float* bias = s.bias ? a.params + s.bias_of(l) : nullptr;
      __syncwarp();
      for (int first = 0; first < padded(width); first += 8 * kTiles) {
        const int tiles = minimum(kTiles, (padded(width) - first) / 8);
        float z[kTiles][4];
        for_each_pair(tiles, [&](int j, int half) {
          for (int i = 0; i < 2; ++i) {
            const int c = first + 8 * j + own_column() + i;
            z[j][2 * half + i] = bias && c < width ? bias[c] : 0;
          }
        });
        multiply(in, pitch(depth), padded(depth), tiles, z, [&](int k, int j) {
          return right_of_transposed(w + (first + 8 * j) * pitch(depth) + k, pitch(depth));
        });
        for_each_pair(tiles, [&](int j, int half) {
          const int r = own_row() + 8 * half, c = first + 8 * j + own_column();
          const float* pair = z[j] + 2 * half;
          if (l == s.layers - 1) {
            store_pair(y, a.n, begin + r, c, {activate(s.output, pair[0]), activate(s.output, pair[1])});
          } else {
            const uint32_t x = pack(activate(s.hidden, pair[0]), activate(s.hidden, pair[1]));
            two(out + r * pitch(width) + c) = x;
            if (kept) kept[((first / 8 + j) * 2 + half) * kWarp + lane()] = x;
          }
        });
      }
      __syncwarp();
      if (kept) kept += kRows * padded(width) / 2;
      bfloat16* swap = in;
      in = out, out = swap;
    }
  }
}

// Sums are kept as the lanes hold them: tile after tile of 16 outputs × 8 inputs, lane after lane, four scalars each.
__device__ float4& sums_of(float* sums, int in, int output, int input) {
  return reinterpret_cast<float4*>(sums)[(output / 16 * (padded(in) / 8) + input / 8) * kWarp + lane()];
}

// v_W += δᵀ x, v_b += δᵀ 1 over the rows of all warps, which share the products: 16 outputs by 32 inputs, or biases.
__device__ void accumulate(const MlpShape& s, int l, const bfloat16* delta, const bfloat16* x, int tile, float* sums) {
  const int in = s.in(l), pieces = (padded(in) + 31) / 32, warps = blockDim.x / kWarp;
  float *v_weight = sums + s.partial_weight(l), *v_bias = sums + s.partial_bias(l);
  for (int task = warp(); task < padded(s.out(l)) / 16 * (pieces + s.bias); task += warps) {
    const int o = task / (pieces + s.bias) * 16, first = task % (pieces + s.bias) * 32;
    if (first >= padded(in)) {
      float c[4] = {};
      constexpr uint32_t kOnes = 0x3f803f80;
      for (int w = 0; w < warps; ++w)
        mma(c, left_of_transposed(delta + 2 * w * tile + o, pitch(s.out(l))).square, kOnes, kOnes);
      if (own_column() == 0)  // all columns are the same
        for (int half = 0; half < 2; ++half) v_bias[o + own_row() + 8 * half] += c[2 * half];
      continue;
    }
    const int tiles = minimum(4, (padded(in) - first) / 8);
    float c[4][4];
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (j < tiles) {
        const float4 sum = sums_of(v_weight, in, o, first + 8 * j);
        c[j][0] = sum.x, c[j][1] = sum.y, c[j][2] = sum.z, c[j][3] = sum.w;
      }
    for (int w = 0; w < warps; ++w) {
      const Operand outputs = left_of_transposed(delta + 2 * w * tile + o, pitch(s.out(l)));
#pragma unroll
      for (int j = 0; j < 4; j += 2)
        if (j < tiles) {
          const Operand inputs = right(x + 2 * w * tile + first + 8 * j, pitch(in));
          mma(c[j], outputs.square, inputs.square[0], inputs.square[1]);
          mma(c[j + 1], outputs.square, inputs.square[2], inputs.square[3]);
        }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (j < tiles) sums_of(v_weight, in, o, first + 8 * j) = {c[j][0], c[j][1], c[j][2], c[j][3]};
  }
}

__global__ void __launch_bounds__(kMostThreads, 2) backward_kernel(MlpBackwardArgs<float> a, Plan plan) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto* all = reinterpret_cast<bfloat16*>(memory);
  const MlpShape& s = a.shape;
  float* partial = a.v_params ? a.partials + blockIdx.x * int64_t(s.partial()) : nullptr;
  float* sums = plan.sums ? reinterpret_cast<float*>(all + plan.weights + 2 * plan.warps * plan.tile) : partial;
  for (int i = threadIdx.x; sums && i < s.partial(); i += blockDim.x) sums[i] = 0;
  const Weights weights(s, a.params, all, plan.resident);
  const int outputs = s.out(s.layers - 1);
  const MlpRows<const float> y = one_array(a.y, outputs), v_y = one_array(a.v_y, outputs);
  bfloat16 *tiles_of_delta = all + plan.weights, *tiles_of_x = tiles_of_delta + plan.tile;  // of the first warp
  const int own = 2 * warp() * plan.tile;
  const int64_t chunk = MlpTensorRows(a.n).chunk, end = (blockIdx.x + 1) * chunk < a.n ? (blockIdx.x + 1) * chunk : a.n;
  for (int64_t step = blockIdx.x * chunk; step < end; step += plan.warps * kRows) {
    const int64_t begin = step + warp() * kRows;
    const auto* kept = reinterpret_cast<const uint32_t*>(a.hidden) + begin / kRows * s.kept_pairs(s.layers - 1);
    fill(tiles_of_delta + own, outputs, [&](int r, int c) {
      const float2 v = load_pair(v_y, a.n, begin + r, c);
      if (s.output == Activation::none) return v;
      const float2 f = load_pair(y, a.n, begin + r, c);
      return float2{activate_vjp(s.output, f.x, v.x), activate_vjp(s.output, f.y, v.y)};
    });
    for (int l = s.layers - 1; l >= 0; --l) {
      const int width = s.in(l), depth = s.out(l);
      bfloat16 *delta = tiles_of_delta + own, *x = tiles_of_x + own;
      if (l == 0) {
        fill(x, width, [&](int r, int c) { return load_pair(a.x, a.n, begin + r, c); });
      } else {
        const uint32_t* layer = kept + s.kept_pairs(l - 1) + lane();
        for (int i = 0; i < padded(width) / 4; ++i)  // i: 2 · tile + half, as forward left them
          two(x + (own_row() + i % 2 * 8) * pitch(width) + i / 2 * 8 + own_column()) =
              begin < a.n ? layer[i * kWarp] : 0;
      }
      __syncthreads();
      if (sums) accumulate(s, l, tiles_of_delta, tiles_of_x, plan.tile, sums);
      __syncthreads();
      if (l == 0 && !a.v_x.data[0] && !a.v_x.data[1]) break;
      const bfloat16* w = weights.layer(l);
      for (int first = 0; first < padded(width); first += 8 * kTiles) {
        const int tiles = minimum(kTiles, (padded(width) - first) / 8);
        float v[kTiles][4] = {};
        multiply(delta, pitch(depth), padded(depth), tiles, v,
                 [&](int k, int j) { return right(w + k * pitch(width) + first + 8 * j, pitch(width)); });
        for_each_pair(tiles, [&](int j, int half) {
          const int r = own_row() + 8 * half, c = first + 8 * j + own_column();
          const float* pair = v[j] + 2 * half;
          if (l == 0) {
            store_pair(a.v_x, a.n, begin + r, c, {pair[0], pair[1]});
          } else {  // δ of the layer before takes the place of its output
            uint32_t& at = two(x + r * pitch(width) + c);
            at = pack(activate_vjp(s.hidden, low(at), pair[0]), activate_vjp(s.hidden, high(at), pair[1]));
          }
        });
      }
      __syncwarp();
      bfloat16* swap = tiles_of_delta;
      tiles_of_delta = tiles_of_x, tiles_of_x = swap;
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; plan.sums && i < s.partial(); i += blockDim.x) partial[i] = sums[i];
}

// Adds the chunks' sums, always in the same order, and puts them where the parameters are: a block 32 of them, whose
// warps take every eighth chunk.
__global__ void reduce_kernel(MlpBackwardArgs<float> a, int chunks) {
  __shared__ float of_warp[kMlpWarps][kWarp];
  const MlpShape& s = a.shape;
  const int i = blockIdx.x * kWarp + lane();  // partial() is a multiple of 16
  float sum = 0;
  for (int c = warp(); i < s.partial() && c < chunks; c += kMlpWarps) sum += a.partials[c * int64_t(s.partial()) + i];
  of_warp[warp()][lane()] = sum;
  __syncthreads();
  if (warp() > 0 || i >= s.partial()) return;
  for (int w = 1; w < kMlpWarps; ++w) sum += of_warp[w][lane()];
  int l = 0;
  if (i < s.partial_weight(s.layers)) {
    while (i >= s.partial_weight(l + 1)) ++l;
    const int at = i - s.partial_weight(l), tile = at / (4 * kWarp), holder = at / 4 % kWarp,
              tiles = padded(s.in(l)) / 8;
    const int output = tile / tiles * 16 + holder / 4 + at % 4 / 2 * 8,
              input = tile % tiles * 8 + holder % 4 * 2 + at % 2;
    if (output < s.out(l) && input < s.in(l)) a.v_params[s.weight(l) + output * s.in(l) + input] = sum;
  } else {
    while (i >= s.partial_bias(l + 1)) ++l;
    const int output = i - s.partial_bias(l);
    if (s.bias && output < s.out(l)) a.v_params[s.bias_of(l) + output] = sum;
  }
}

// As many warps as there is room for, all weights if they leave it; then the sums.
Plan plan_of(const MlpShape& s, bool sums) {
  int device = 0, limit = 0, all = 0, largest = 0, widest = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  for (int l = 0; l < s.layers; ++l) {
    const int size = weight_scalars(s.in(l), s.out(l));
    all += size;
    largest = size > largest ? size : largest;
  }
  for (int l = 0; l <= s.layers; ++l) widest = s.width[l] > widest ? s.width[l] : widest;
  const int tile = kRows * pitch(widest);
  const auto bytes = [&](int weights, int warps) { return sizeof(bfloat16) * (weights + size_t(2) * warps * tile); };
  const size_t room = limit;
  Plan p{bytes(all, kMlpWarps) <= room, false, kMlpWarps, all, tile, 0};
  if (!p.resident) p.weights = largest;
  while (p.warps > 1 && bytes(p.weights, p.warps) > room) p.warps /= 2;
  p.bytes = bytes(p.weights, p.warps);
  p.sums = sums && p.bytes + sizeof(float) * s.partial() <= room;
  if (p.sums) p.bytes += sizeof(float) * s.partial();
  return p;
}

template <class Kernel, class Args>
void launch(const char* name, Kernel kernel, const Plan& plan, const Args& args) {
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(plan.bytes));
  const auto grid = static_cast<unsigned>(MlpTensorRows(args.n).chunks());
  kernel<<<grid, plan.warps * kWarp, plan.bytes, stream(args.stream)>>>(args, plan);
  check(name);
}

}  // namespace

bool mlp_tensor_cores() {
  cudaFuncAttributes attributes{};
  const cudaError_t error = cudaFuncGetAttributes(&attributes, forward_kernel);
  cudaGetLastError();  // no launch's error
  return error == cudaSuccess && attributes.ptxVersion >= 80;
}

void mlp_forward_bfloat16(const MlpForwardArgs<float>& a) {
  if (a.n > 0) launch("mlp_forward", forward_kernel, plan_of(a.shape, false), a);
}

void mlp_backward_bfloat16(const MlpBackwardArgs<float>& a) {
  if (a.n > 0) launch("mlp_backward", backward_kernel, plan_of(a.shape, a.v_params != nullptr), a);
  if (!a.v_params) return;
  reduce_kernel<<<blocks(a.shape.partial(), kWarp), kMostThreads, 0, stream(a.stream)>>>(
      a, static_cast<int>(MlpTensorRows(a.n).chunks()));
  check("mlp_backward");
}

}  // namespace n3d::cuda
