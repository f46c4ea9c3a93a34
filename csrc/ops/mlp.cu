#include "core/cuda.h"
#include "ops/mlp.h"

// One block of 256 threads takes a tile of 64 rows through all layers; activations stay in shared memory, weights pass
// through it in stages. Each thread holds a 4 × 4 piece of a 64 × 64 product. float32 throughout, no tensor cores.

namespace n3d::cuda {

namespace {

constexpr int kRows = kMlpTileRows, kStage = 32, kBlock = 64, kPitch = kBlock + 4;
static_assert(kRows == 64 && kThreads == 256, "thread (ty, tx) owns rows 4 ty … and columns 4 tx … of a block");

constexpr int N3D_HD pitch(int width) { return padded(width) + 4; }  // + 4: rows start in different banks

template <class T>
struct alignas(2 * sizeof(T)) Quad {
  T v[4];
};
template <>
struct alignas(16) Quad<float> {
  float v[4];
};

template <class T>
__device__ Quad<T> quad(const T* p) {
  return *reinterpret_cast<const Quad<T>*>(p);
}

// finish(row, column, Σ_k A[row][k] B[k][column]) for A (64, depth) in shared memory, zero-padded, and B = load(k, c).
// along_k: consecutive threads load along k, else along c, whichever is contiguous in global memory.
template <bool along_k, class T, class Load, class Finish>
__device__ void multiply(const T* a, int a_pitch, int depth, int columns, T* stage, const Load& load,
                         const Finish& finish) {
  const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
  for (int c0 = 0; c0 < padded(columns); c0 += kBlock) {
    T sum[4][4] = {};
    for (int k0 = 0; k0 < depth; k0 += kStage) {
      __syncthreads();
      for (int i = threadIdx.x; i < kStage * kBlock; i += kThreads) {
        const int k = along_k ? i % kStage : i / kBlock, c = along_k ? i / kStage : i % kBlock;
        stage[k * kPitch + c] = k0 + k < depth && c0 + c < columns ? load(k0 + k, c0 + c) : T(0);
      }
      __syncthreads();
      for (int k = 0; k < kStage && k0 + k < depth; k += 4) {
        Quad<T> left[4], right[4];
        for (int i = 0; i < 4; ++i) left[i] = quad(a + (4 * ty + i) * a_pitch + k0 + k);
        for (int j = 0; j < 4; ++j) right[j] = quad(stage + (k + j) * kPitch + 4 * tx);
        for (int i = 0; i < 4; ++i)
          for (int j = 0; j < 4; ++j)
            for (int l = 0; l < 4; ++l) sum[i][l] += left[i].v[j] * right[j].v[l];
      }
    }
    if (c0 + 4 * tx < padded(columns))
      for (int i = 0; i < 4; ++i)
        for (int l = 0; l < 4; ++l) finish(4 * ty + i, c0 + 4 * tx + l, sum[i][l]);
  }
}

// C (rows: padded out, columns: padded in) += δᵀ · X over the tile's rows; C is this block's own, in global memory.
template <class T>
__device__ void accumulate_outer(const T* delta, int out, const T* x, int in, T* c) {
  const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
  const int out_pitch = pitch(out), in_pitch = pitch(in), columns = padded(in);
  for (int o = 4 * ty; o < padded(out); o += kBlock)
    for (int i = 4 * tx; i < columns; i += kBlock) {
      T sum[4][4] = {};
      for (int r = 0; r < kRows; ++r) {
        const Quad<T> left = quad(delta + r * out_pitch + o), right = quad(x + r * in_pitch + i);
        for (int k = 0; k < 4; ++k)
          for (int l = 0; l < 4; ++l) sum[k][l] += left.v[k] * right.v[l];
      }
      for (int k = 0; k < 4; ++k)
        for (int l = 0; l < 4; ++l) c[(o + k) * columns + i + l] += sum[k][l];
    }
}

template <class T>
__device__ void load_rows(const MlpRows<const T>& x, int64_t begin, int rows, T* tile) {
  const int width = x.columns[0] + x.columns[1], columns = padded(width);
  for (int i = threadIdx.x; i < kRows * columns; i += kThreads) {
    const int r = i / columns, c = i % columns, part = c >= x.columns[0];
    const bool inside = r < rows && c < width;
    tile[r * pitch(width) + c] = inside ? x.data[part][(begin + r) * x.stride[part] + c - part * x.columns[0]] : T(0);
  }
}

// Shared memory of a kernel: tiles as wide as the widest layer, and the stage.
template <class T>
size_t shared_bytes(const MlpShape& s, int tiles) {
  int widest = 0;
  for (int l = 0; l <= s.layers; ++l) widest = s.width[l] > widest ? s.width[l] : widest;
  return sizeof(T) * (tiles * kRows * pitch(widest) + kStage * kPitch);
}

template <class T>
__global__ void __launch_bounds__(kThreads) forward_kernel(MlpForwardArgs<T> a, int tile_size) {
  extern __shared__ __align__(16) unsigned char memory[];
  T *stage = reinterpret_cast<T*>(memory), *in = stage + kStage * kPitch, *out = in + tile_size;
  const MlpShape& s = a.shape;
  const int64_t begin = blockIdx.x * int64_t(kRows);
  const int rows = a.n - begin < kRows ? a.n - begin : kRows, last = s.layers - 1;
  T* kept = a.hidden ? a.hidden + blockIdx.x * int64_t(s.hidden_tile()) : nullptr;
  load_rows(a.x, begin, rows, in);
  for (int l = 0; l < s.layers; ++l) {
    const int depth = s.in(l), width = s.out(l);
    const T *w = a.params + s.weight(l), *bias = s.bias ? a.params + s.bias_of(l) : nullptr;
    const auto weight = [&](int k, int c) { return w[c * depth + k]; };
    multiply<true>(in, pitch(depth), depth, width, stage, weight, [&](int r, int c, T z) {
      if (bias && c < width) z += bias[c];
      if (l < last) {
        z = activate(s.hidden, z);
        out[r * pitch(width) + c] = z;
        if (kept) kept[r * tile_pitch(width) + c] = z;
      } else if (r < rows && c < width) {
        a.y[(begin + r) * width + c] = activate(s.output, z);
      }
    });
    if (kept) kept += kRows * tile_pitch(width);
    T* swap = in;
    in = out, out = swap;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) backward_kernel(MlpBackwardArgs<T> a, int tile_size) {
  extern __shared__ __align__(16) unsigned char memory[];
  T *stage = reinterpret_cast<T*>(memory), *in = stage + kStage * kPitch;
  const MlpShape& s = a.shape;
  T* partial = a.v_params ? a.partials + blockIdx.x * int64_t(s.partial()) : nullptr;
  for (int i = threadIdx.x; partial && i < s.partial(); i += kThreads) partial[i] = 0;
  const int64_t chunk = blockIdx.x * kMlpChunkRows;
  const int64_t end = chunk + kMlpChunkRows < a.n ? chunk + kMlpChunkRows : a.n;
  for (int64_t begin = chunk; begin < end; begin += kRows) {
    T *delta = in + tile_size, *v_in = delta + tile_size;
    const int rows = end - begin < kRows ? end - begin : kRows, out = s.out(s.layers - 1);
    const T* hidden = a.hidden + (begin / kRows + 1) * s.hidden_tile();  // walked back from the tile's end
    __syncthreads();
    for (int i = threadIdx.x; i < kRows * padded(out); i += kThreads) {
      const int r = i / padded(out), c = i % padded(out);
      const int64_t at = (begin + r) * out + c;
      delta[r * pitch(out) + c] =
          r < rows && c < out ? activate_vjp(s.output, s.output == Activation::none ? T(0) : a.y[at], a.v_y[at]) : T(0);
    }
    for (int l = s.layers - 1; l >= 0; --l) {
      const int width = s.in(l), columns = padded(width), depth = s.out(l);
      if (l > 0) {
        hidden -= kRows * tile_pitch(width);
        for (int i = threadIdx.x; i < kRows * columns; i += kThreads)
          in[i / columns * pitch(width) + i % columns] = hidden[i / columns * tile_pitch(width) + i % columns];
      } else {
        load_rows(a.x, begin, rows, in);
      }
      __syncthreads();
      if (partial) accumulate_outer(delta, depth, in, width, partial + s.partial_weight(l));
      if (partial && s.bias)
        for (int c = threadIdx.x; c < depth; c += kThreads)
          for (int r = 0; r < kRows; ++r) partial[s.partial_bias(l) + c] += delta[r * pitch(depth) + c];
      if (l == 0 && !a.v_x.data[0] && !a.v_x.data[1]) break;
      const T* w = a.params + s.weight(l);
      const auto weight = [&](int k, int c) { return w[k * width + c]; };
      multiply<false>(delta, pitch(depth), depth, width, stage, weight, [&](int r, int c, T v) {
        if (l > 0) {
          v = activate_vjp(s.hidden, in[r * pitch(width) + c], v);
          v_in[r * pitch(width) + c] = v;
        } else if (r < rows && c < width) {
          const int part = c >= a.v_x.columns[0];
          if (a.v_x.data[part]) a.v_x.data[part][(begin + r) * a.v_x.stride[part] + c - part * a.v_x.columns[0]] = v;
        }
      });
      __syncthreads();
      T* swap = delta;
      delta = v_in, v_in = swap;
    }
  }
}

// Adds the chunks' sums in order and drops the padding; one thread a parameter.
template <class T>
__global__ void reduce_kernel(MlpBackwardArgs<T> a, int chunks) {
  const MlpShape& s = a.shape;
  const int i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= s.parameters()) return;
  int l = 0, from;
  if (i < s.weight(s.layers)) {
    while (i >= s.weight(l + 1)) ++l;
    const int at = i - s.weight(l);
    from = s.partial_weight(l) + at / s.in(l) * padded(s.in(l)) + at % s.in(l);
  } else {
    while (i >= s.bias_of(l + 1)) ++l;
    from = s.partial_bias(l) + i - s.bias_of(l);
  }
  T sum = 0;
  for (int c = 0; c < chunks; ++c) sum += a.partials[c * int64_t(s.partial()) + from];
  a.v_params[i] = sum;
}

template <class Kernel, class Args>
void launch(const char* name, Kernel kernel, int64_t grid, size_t shared, int tile_size, const Args& args) {
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)) !=
      cudaSuccess)
    throw std::runtime_error(std::string(name) + ": this GPU's shared memory is too small for so wide a network");
  kernel<<<static_cast<unsigned>(grid), kThreads, shared, stream(args.stream)>>>(args, tile_size);
  check(name);
}

template <class T>
int tile_scalars(const MlpShape& s) {
  return static_cast<int>(shared_bytes<T>(s, 1) / sizeof(T)) - kStage * kPitch;
}

}  // namespace

template <class T>
void mlp_forward(const MlpForwardArgs<T>& a) {
  if (a.n == 0) return;
  launch("mlp_forward", forward_kernel<T>, (a.n + kRows - 1) / kRows, shared_bytes<T>(a.shape, 2),
         tile_scalars<T>(a.shape), a);
}

template <class T>
void mlp_backward(const MlpBackwardArgs<T>& a) {
  const int64_t chunks = a.shape.chunks(a.n);
  if (chunks > 0)
    launch("mlp_backward", backward_kernel<T>, chunks, shared_bytes<T>(a.shape, 3), tile_scalars<T>(a.shape), a);
  if (!a.v_params) return;
  reduce_kernel<<<blocks(a.shape.parameters()), kThreads, 0, stream(a.stream)>>>(a, static_cast<int>(chunks));
  check("mlp_backward");
}

template void mlp_forward<float>(const MlpForwardArgs<float>&);
template void mlp_forward<double>(const MlpForwardArgs<double>&);
template void mlp_backward<float>(const MlpBackwardArgs<float>&);
template void mlp_backward<double>(const MlpBackwardArgs<double>&);

}  // namespace n3d::cuda
