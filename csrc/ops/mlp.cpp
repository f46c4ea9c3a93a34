#include "ops/mlp.h"

#include <cstring>
#include <vector>

#include "core/dispatch.h"
#include "core/gemm.h"
#include "core/parallel.h"

namespace n3d::N3D_ISA {

namespace {

constexpr int64_t kForwardRows = 10 * kTileRows;  // a task of the forward pass
static_assert(kTileRows == kMlpTileRows);

template <class T>
struct alignas(64) Line {
  T value[64 / sizeof(T)];
};

// All matrices of a network in panels, and its biases padded; packed once a call, shared by the threads.
template <class T>
class Panels {
 public:
  // transposed: Wᵀ takes layer inputs to outputs (forward), W takes output gradients to input gradients (backward).
  Panels(const MlpShape& s, const T* params, bool transposed) {
    size_t total = 0;
    for (int l = 0; l < s.layers; ++l) {
      at_[l] = total, total += size_t(transposed ? s.in(l) : s.out(l)) * padded(transposed ? s.out(l) : s.in(l));
      bias_at_[l] = total, total += padded(s.out(l));
    }
    memory_.resize(total * sizeof(T) / 64);
    has_bias_ = s.bias;
    T* data = memory_.data()->value;
    for (int l = 0; l < s.layers; ++l) {
      const T* w = params + s.weight(l);
      if (transposed)
        pack_panels<T>(w, 1, s.in(l), s.in(l), s.out(l), data + at_[l]);
      else
        pack_panels<T>(w, s.in(l), 1, s.out(l), s.in(l), data + at_[l]);
      if (s.bias) std::memcpy(data + bias_at_[l], params + s.bias_of(l), s.out(l) * sizeof(T));
    }
  }
  const T* matrix(int layer) const { return memory_.data()->value + at_[layer]; }
  const T* bias(int layer) const { return has_bias_ ? memory_.data()->value + bias_at_[layer] : nullptr; }

 private:
  std::vector<Line<T>> memory_;
  size_t at_[kMlpMaxLayers], bias_at_[kMlpMaxLayers];
  bool has_bias_;
};

template <class T>
void load_rows(const MlpRows<const T>& x, int64_t begin, int rows, T* tile) {
  const int pitch = padded(x.columns[0] + x.columns[1]);
  if (rows < kTileRows || x.columns[0] + x.columns[1] < pitch) std::memset(tile, 0, sizeof(T) * kTileRows * pitch);
  for (int part = 0, first = 0; part < 2; first += x.columns[part++])
    for (int r = 0; r < rows; ++r)
      std::memcpy(tile + r * pitch + first, x.data[part] + (begin + r) * x.stride[part], x.columns[part] * sizeof(T));
}

template <class T>
void store_rows(const T* tile, int rows, int64_t begin, const MlpRows<T>& x) {
  const int pitch = padded(x.columns[0] + x.columns[1]);
  for (int part = 0, first = 0; part < 2; first += x.columns[part++])
    if (x.data[part])
      for (int r = 0; r < rows; ++r)
        std::memcpy(x.data[part] + (begin + r) * x.stride[part], tile + r * pitch + first, x.columns[part] * sizeof(T));
}

// One layer of a tile: out = f(bias + in · Wᵀ).
template <Activation kind, class T>
void layer_forward(const MlpShape& s, const Panels<T>& panels, int l, const T* in, T* out) {
  const int pitch = padded(s.out(l));
  multiply<T>(in, padded(s.in(l)), panels.matrix(l), s.in(l), pitch, panels.bias(l),
              [&](int r, int column, Pack<T> z) { store_pack(out + r * pitch + column, activate<kind>(z)); });
}

// One layer's input gradient: v_in = (v_out · W) ⊙ f′, with `in` = f(…) the layer's input.
template <Activation kind, class T>
void layer_backward(const MlpShape& s, const Panels<T>& panels, int l, const T* in, const T* v_out, T* v_in) {
  const int pitch = padded(s.in(l));
  multiply<T>(v_out, padded(s.out(l)), panels.matrix(l), s.out(l), pitch, nullptr, [&](int r, int column, Pack<T> v) {
    if constexpr (kind != Activation::none) v = activate_vjp<kind>(load_pack(in + r * pitch + column), v);
    store_pack(v_in + r * pitch + column, v);
  });
}

template <class T>
void forward_tile(const MlpForwardArgs<T>& a, const Panels<T>& panels, int64_t begin, int rows) {
  const MlpShape& s = a.shape;
  alignas(64) T ends[kTileRows * kMlpMaxEnds], scratch[2][kTileRows * kMlpMaxWidth];
  load_rows(a.x, begin, rows, ends);
  T* kept = a.hidden ? a.hidden + begin / kTileRows * s.hidden_tile() : nullptr;
  const T* in = ends;
  const int last = s.layers - 1;
  for (int l = 0; l < last; ++l) {
    T* out = kept ? kept : scratch[l % 2];
    if (s.hidden == Activation::relu)
      layer_forward<Activation::relu>(s, panels, l, in, out);
    else
      layer_forward<Activation::none>(s, panels, l, in, out);
    if (kept) kept += kTileRows * padded(s.out(l));
    in = out;
  }
  layer_forward<Activation::none>(s, panels, last, in, ends);
  const int width = s.out(last), pitch = padded(width);
  T* y = a.y + begin * width;
  for (int r = 0; r < rows; ++r)
    if (s.output == Activation::none)
      std::memcpy(y + r * width, ends + r * pitch, width * sizeof(T));
    else
      for (int i = 0; i < width; ++i) y[r * width + i] = activate_output(s.output, ends[r * pitch + i]);
}

// The output's gradient before the activation, padded.
template <class T>
void load_output_gradient(const MlpBackwardArgs<T>& a, int64_t begin, int rows, T* tile) {
  const int width = a.shape.out(a.shape.layers - 1), pitch = padded(width);
  if (rows < kTileRows || width < pitch) std::memset(tile, 0, sizeof(T) * kTileRows * pitch);
  const T *y = a.y + begin * width, *v_y = a.v_y + begin * width;
  for (int r = 0; r < rows; ++r)
    if (a.shape.output == Activation::none)
      std::memcpy(tile + r * pitch, v_y + r * width, width * sizeof(T));
    else
      for (int i = 0; i < width; ++i)
        tile[r * pitch + i] = activate_output_vjp(a.shape.output, y[r * width + i], v_y[r * width + i]);
}

// v_W += Σ δ xᵀ into padded matrices, v_b += Σ δ.
template <class T>
void accumulate_layer(const MlpShape& s, int l, const T* delta, const T* in, T* v_weight, T* v_bias) {
  accumulate_outer<T>(delta, padded(s.out(l)), s.out(l), in, padded(s.in(l)), v_weight);
  if (s.bias)
    for (int r = 0; r < kTileRows; ++r)
      for (int i = 0; i < s.out(l); ++i) v_bias[i] += delta[r * padded(s.out(l)) + i];
}

template <class T>
void backward_tile(const MlpBackwardArgs<T>& a, const Panels<T>& panels, int64_t begin, int rows, T* partial) {
  const MlpShape& s = a.shape;
  alignas(64) T x[kTileRows * kMlpMaxEnds], ends[kTileRows * kMlpMaxEnds], scratch[2][kTileRows * kMlpMaxWidth];
  load_rows(a.x, begin, rows, x);
  load_output_gradient(a, begin, rows, ends);
  const T* delta = ends;
  const T* hidden = a.hidden + (begin / kTileRows + 1) * s.hidden_tile();  // walked back from the tile's end
  for (int l = s.layers - 1; l >= 0; --l) {
    const T* in = l ? hidden -= kTileRows * padded(s.in(l)) : x;
    accumulate_layer(s, l, delta, in, partial + s.partial_weight(l), partial + s.partial_bias(l));
    if (l == 0) break;
    T* v_in = scratch[l % 2];
    if (s.hidden == Activation::relu)
      layer_backward<Activation::relu>(s, panels, l, in, delta, v_in);
    else
      layer_backward<Activation::none>(s, panels, l, in, delta, v_in);
    delta = v_in;
  }
  if (!a.v_x.data[0] && !a.v_x.data[1]) return;
  layer_backward<Activation::none, T>(s, panels, 0, nullptr, delta, x);
  store_rows(x, rows, begin, a.v_x);
}

// Adds the chunks' sums in order and drops the padding, one matrix row (or all biases of a layer) a task.
template <class T>
void reduce_partials(const MlpBackwardArgs<T>& a, int64_t chunks, int64_t stride) {
  const MlpShape& s = a.shape;
  const auto add = [&](int64_t from, int count, T* out) {
    for (int i = 0; i < count; ++i) out[i] = 0;
    for (int64_t c = 0; c < chunks; ++c)
      for (int i = 0; i < count; ++i) out[i] += a.partials[c * stride + from + i];
  };
  for (int l = 0; l < s.layers; ++l) {
    parallel_chunks(s.out(l), 8, [&](int64_t b, int64_t e) {
      for (int64_t o = b; o < e; ++o)
        add(s.partial_weight(l) + o * padded(s.in(l)), s.in(l), a.v_params + s.weight(l) + o * s.in(l));
    });
    if (s.bias) add(s.partial_bias(l), s.out(l), a.v_params + s.bias_of(l));
  }
}

}  // namespace

template <class T>
void mlp_forward(const MlpForwardArgs<T>& a) {
  const Panels<T> panels(a.shape, a.params, true);
  parallel_chunks(a.n, kForwardRows, [&](int64_t begin, int64_t end) {
    for (; begin < end; begin += kTileRows)
      forward_tile(a, panels, begin, static_cast<int>(end - begin < kTileRows ? end - begin : kTileRows));
  });
}

template <class T>
void mlp_backward(const MlpBackwardArgs<T>& a) {
  const Panels<T> panels(a.shape, a.params, false);
  const int64_t stride = a.shape.partial(), chunks = a.shape.chunks(a.n);
  parallel_for(chunks, [&](int64_t c) {
    const int64_t end = (c + 1) * kMlpChunkRows < a.n ? (c + 1) * kMlpChunkRows : a.n;
    T* partial = a.partials + c * stride;
    std::memset(partial, 0, stride * sizeof(T));
    for (int64_t begin = c * kMlpChunkRows; begin < end; begin += kTileRows)
      backward_tile(a, panels, begin, static_cast<int>(end - begin < kTileRows ? end - begin : kTileRows), partial);
  });
  reduce_partials(a, chunks, stride);
}

N3D_INSTANTIATE(mlp_forward, MlpForwardArgs)
N3D_INSTANTIATE(mlp_backward, MlpBackwardArgs)

}  // namespace n3d::N3D_ISA
