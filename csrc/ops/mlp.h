// A small fully connected network, after tiny-cuda-nn's FullyFusedMLP (Müller et al., "Real-time Neural Radiance
// Caching for Path Tracing", 2021): x₀ = x, zₗ = Wₗ xₗ + bₗ, xₗ₊₁ = f(zₗ), with f the hidden or the output activation.
// Backward, with δ for the gradient of z: v_Wₗ = Σ_rows δₗ xₗᵀ, v_bₗ = Σ_rows δₗ, v_xₗ = Wₗᵀ δₗ, δₗ₋₁ = v_xₗ ⊙ f′.
// Every activation here has a derivative that its own output gives, so only outputs are kept for backward.
//
// In bfloat16, on tensor cores (mlp_tensor.cu), what is multiplied is rounded to bfloat16 and nothing else: Wₗ, x₀, the
// hidden xₗ and every δₗ, each once; sums, biases, activations, y, v_x₀, v_Wₗ and v_bₗ are float32. bfloat16 has
// float32's range, so gradients need no scaling; float16 would lose those below 6e-8.
#pragma once

#include "core/gemm.h"
#include "core/hd.h"
#include "core/simd.h"

namespace n3d {

enum class Activation : int { none = 0, relu = 1, sigmoid = 2, exponential = 3 };

constexpr int kMlpMaxLayers = 9;   // eight hidden and the output
constexpr int kMlpMaxWidth = 128;  // of hidden layers
constexpr int kMlpMaxEnds = 256;   // of the input and the output

constexpr int kMlpWarpRows = 16;  // that a warp takes through all layers on tensor cores

// Rows that are processed as one tile, and rows whose share of the parameters' gradient is summed on its own. They
// follow from the device and not from the number of threads, and so do the results.
#if defined(__CUDACC__) || defined(N3D_CUDA_MODULE)
constexpr int64_t kMlpTileRows = 64, kMlpChunkRows = 16 * kMlpTileRows;
#else
constexpr int64_t kMlpTileRows = 96, kMlpChunkRows = 21 * kMlpTileRows;
#endif

// Parameters are one flat array: the weights (out, in) of every layer, then, where there are biases, those (out).
struct MlpShape {
  int layers;                    // matrices: hidden layers + 1
  int width[kMlpMaxLayers + 1];  // input, hidden…, output
  bool bias;
  Activation hidden, output;

  N3D_HD int in(int layer) const { return width[layer]; }
  N3D_HD int out(int layer) const { return width[layer + 1]; }

  // Where a layer's weights and biases start among the parameters.
  N3D_HD int weight(int layer) const {
    int at = 0;
    for (int l = 0; l < layer; ++l) at += in(l) * out(l);
    return at;
  }
  N3D_HD int bias_of(int layer) const {
    int at = weight(layers);
    for (int l = 0; l < layer; ++l) at += out(l);
    return at;
  }

  N3D_HD int parameters() const { return bias ? bias_of(layers) : weight(layers); }

  // The same in a chunk's partial sums, where matrices are padded; the last is the number of scalars in a chunk.
  N3D_HD int partial_weight(int layer) const {
    int at = 0;
    for (int l = 0; l < layer; ++l) at += padded(in(l)) * padded(out(l));
    return at;
  }
  N3D_HD int partial_bias(int layer) const {
    int at = partial_weight(layers);
    for (int l = 0; l < layer; ++l) at += padded(out(l));
    return at;
  }
  N3D_HD int partial() const { return partial_bias(layers); }

  // Where a hidden layer's outputs start among those kept of a warp's rows, in pairs of bfloat16.
  N3D_HD int kept_pairs(int layer) const {
    int at = 0;
    for (int l = 0; l < layer; ++l) at += kMlpWarpRows * padded(out(l)) / 2;
    return at;
  }

  // Scalars kept of a tile for backward: hidden layer after hidden layer, each (kMlpTileRows, tile_pitch).
  N3D_HD int hidden_tile() const {
    int columns = 0;
    for (int l = 0; l + 1 < layers; ++l) columns += tile_pitch(out(l));
    return columns * kMlpTileRows;
  }

  int64_t hidden_size(int64_t n) const { return (n + kMlpTileRows - 1) / kMlpTileRows * hidden_tile(); }
  int64_t chunks(int64_t n) const { return (n + kMlpChunkRows - 1) / kMlpChunkRows; }
};

// On tensor cores a block takes a chunk of rows, 16 for each of its warps at a time. There are few chunks, as each
// reads the weights and writes its sums: some four blocks for each multiprocessor of today's largest GPUs.
constexpr int kMlpWarps = 8, kMlpMaxChunks = 512;

struct MlpTensorRows {
  int64_t n, chunk;  // rows, and how many of them are a chunk: whole blocks

  N3D_HD explicit MlpTensorRows(int64_t n) : n(n) {
    const int64_t step = kMlpWarpRows * kMlpWarps, steps = (n + step - 1) / step;
    chunk = (steps + kMlpMaxChunks - 1) / kMlpMaxChunks * step;
  }
  N3D_HD int64_t chunks() const { return n > 0 ? (n + chunk - 1) / chunk : 0; }
  N3D_HD int64_t warp_tiles() const { return (n + kMlpWarpRows - 1) / kMlpWarpRows; }
};

// Rows of the input, which may be the side-by-side concatenation of two arrays; the second may have no columns.
template <class T>
struct MlpRows {
  T* data[2];  // (n, columns); null: not wanted (gradients only)
  int columns[2];
  int64_t stride[2];  // scalars between rows
};

template <class T>
struct MlpForwardArgs {
  MlpShape shape;
  int64_t n;  // rows
  const T* params;
  MlpRows<const T> x;
  T* y;       // (n, output)
  T* hidden;  // hidden_size: the hidden layers' outputs, kept for backward; or null
  void* stream;
};

template <class T>
struct MlpBackwardArgs {
  MlpShape shape;
  int64_t n;
  const T* params;
  MlpRows<const T> x;
  const T* y;       // what forward gave
  const T* hidden;  // what forward kept
  const T* v_y;     // (n, output)
  MlpRows<T> v_x;
  T* partials;  // workspace (chunks, partial): the parameters' gradient of each chunk of rows; null with v_params
  T* v_params;  // (parameters), overwritten; null: not wanted
  void* stream;
};

namespace N3D_ISA {

// f(z), for a scalar or a pack. NaN stays NaN.
template <class S>
N3D_HD S activate(Activation kind, S z) {
  if (kind == Activation::relu) return rectify(z);
  if (kind == Activation::sigmoid) return 1 / (1 + exponentials(-z).exp);
  if (kind == Activation::exponential) return exponentials(z).exp;
  return z;
}

// v_z = v · f′(z), from y = f(z).
template <class S>
N3D_HD S activate_vjp(Activation kind, S y, S v) {
  if (kind == Activation::relu) return select(y > S{}, v, S{});
  if (kind == Activation::sigmoid) return v * y * (1 - y);
  if (kind == Activation::exponential) return v * y;
  return v;
}

}  // namespace N3D_ISA
#if defined(__CUDACC__) || defined(N3D_CUDA_MODULE)
namespace cuda {

// Whether the code for this GPU was made for tensor cores that multiply bfloat16: sm_80 and later.
bool mlp_tensor_cores();

// `hidden` holds pairs of bfloat16 here: kept_pairs(layers − 1) for each of MlpTensorRows' warp_tiles.
void mlp_forward_bfloat16(const MlpForwardArgs<float>&);
void mlp_backward_bfloat16(const MlpBackwardArgs<float>&);

}  // namespace cuda
#endif

}  // namespace n3d
