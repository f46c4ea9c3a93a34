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
      at_[l] = total,
      total += size_t(panel_depth(transposed ? s.in(l) : s.out(l))) * padded(transposed ? s.out(l) : s.in(l));
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

// Where a tile's rows lie in memory as they do in a tile, they are used in place; else `tile`.
template <class T>
T* in_place(const MlpRows<T>& x, int64_t begin, int rows, std::remove_const_t<T>* tile) {
  const int width = x.columns[0];
  const bool alike =
      rows == kTileRows && x.columns[1] == 0 && x.stride[0] == tile_pitch(width) && padded(width) == width;
  return alike && x.data[0] ? x.data[0] + begin * x.stride[0] : tile;
}

// The rows as a tile, padded with zeros: in place, or copied into `tile`.
template <class T>
const T* load_rows(const MlpRows<const T>& x, int64_t begin, int rows, T* tile) {
  const T* lying = in_place(x, begin, rows, tile);
  if (lying != tile) return lying;
  const int width = x.columns[0] + x.columns[1], pitch = tile_pitch(width);
  if (rows < kTileRows || width < padded(width)) std::memset(tile, 0, sizeof(T) * kTileRows * pitch);
  for (int part = 0, first = 0; part < 2; first += x.columns[part++])
    copy_rows(x.data[part] + begin * x.stride[part], x.stride[part], rows, x.columns[part], tile + first, pitch);
  return tile;
}

template <class T>
void store_rows(const T* tile, int rows, int64_t begin, const MlpRows<T>& x) {
  const int pitch = tile_pitch(x.columns[0] + x.columns[1]);
  for (int part = 0, first = 0; part < 2; first += x.columns[part++])
    if (x.data[part] && x.data[part] + begin * x.stride[part] != tile)
      copy_rows(tile + first, pitch, rows, x.columns[part], x.data[part] + begin * x.stride[part], x.stride[part]);
}

template <class T>
void prefetch_rows(const MlpRows<const T>& x, int64_t begin, Prefetch& soon) {
  for (int part = 0; part < 2; ++part)
    if (x.columns[part]) soon.add(x.data[part] + begin * x.stride[part], kTileRows * x.stride[part]);
}

struct Rectify {
  template <class S>
  N3D_HD S operator()(int, S z) const {
    return rectify(z);
  }
};

// The gradient of a rectified tile, passed on where it is positive.
template <class T>
struct RectifyVjp {
  const T* y;
  template <class S>
  N3D_HD S operator()(int at, S v) const {
    return activate_vjp(Activation::relu, load(y + at), v);
  }
};

// f(position) for every pack in the first `columns` columns of a tile.
template <class T, class F>
void for_each_pack(int columns, const F& f) {
  for (int r = 0; r < kTileRows; ++r)
    for (int c = 0; c < padded(columns); c += Lanes<T>::kCount) f(r * tile_pitch(columns) + c);
}

template <class T>
void forward_tile(const MlpForwardArgs<T>& a, const Panels<T>& panels, int64_t begin, int rows) {
  const MlpShape& s = a.shape;
  const int last = s.layers - 1;
  alignas(64) T ends[2][kTileRows * kMlpMaxEnds], scratch[2][kTileRows * kMlpMaxWidth];
  T* kept = a.hidden ? a.hidden + begin / kTileRows * s.hidden_tile() : nullptr;
  Prefetch soon;
  if (kept) soon.add(kept + s.hidden_tile(), s.hidden_tile());
  prefetch_rows(a.x, begin + kTileRows, soon);

  const T* in = load_rows(a.x, begin, rows, ends[0]);
  for (int l = 0; l < last; ++l) {
    T* out = kept ? kept : scratch[l % 2];
    if (s.hidden == Activation::relu)
      multiply(in, s.in(l), panels.matrix(l), s.out(l), panels.bias(l), out, soon, Rectify{});
    else
      multiply(in, s.in(l), panels.matrix(l), s.out(l), panels.bias(l), out, soon, Keep{});
    if (kept) kept += kTileRows * tile_pitch(s.out(l));
    in = out;
  }
  const MlpRows<T> rows_y = {{a.y, nullptr}, {s.out(last), 0}, {s.out(last), 0}};
  T* y = in_place(rows_y, begin, rows, ends[1]);
  multiply(in, s.in(last), panels.matrix(last), s.out(last), panels.bias(last), y, soon, Keep{});
  if (s.output != Activation::none)
    for_each_pack<T>(s.out(last), [&](int at) { store(y + at, activate(s.output, load(y + at))); });
  store_rows(y, rows, begin, rows_y);
}

// The gradient of the output before its activation.
template <class T>
const T* load_delta(const MlpBackwardArgs<T>& a, int64_t begin, int rows, T* tile) {
  const int width = a.shape.out(a.shape.layers - 1);
  const T* v_y = load_rows<T>({{a.v_y, nullptr}, {width, 0}, {width, 0}}, begin, rows, tile);
  if (a.shape.output == Activation::none) return v_y;
  alignas(64) T memory[kTileRows * kMlpMaxEnds];
  const T* y = load_rows<T>({{a.y, nullptr}, {width, 0}, {width, 0}}, begin, rows, memory);
  for_each_pack<T>(width,
                   [&](int at) { store(tile + at, activate_vjp(a.shape.output, load(y + at), load(v_y + at))); });
  return tile;
}

// v_W += Σ δ xᵀ into padded matrices, v_b += Σ δ; nothing where partial is null.
template <class T>
void accumulate_layer(const MlpShape& s, int l, const T* delta, const T* in, T* partial, Prefetch& soon) {
  if (!partial) return;
  accumulate_outer(delta, s.out(l), in, s.in(l), partial + s.partial_weight(l), soon);
  T* v_bias = partial + s.partial_bias(l);
  if (s.bias)
    for (int r = 0; r < kTileRows; ++r)
      for (int i = 0; i < s.out(l); ++i) v_bias[i] += delta[r * tile_pitch(s.out(l)) + i];
}

template <class T>
void backward_tile(const MlpBackwardArgs<T>& a, const Panels<T>& panels, int64_t begin, int rows, T* partial) {
  const MlpShape& s = a.shape;
  alignas(64) T ends[2][kTileRows * kMlpMaxEnds], scratch[2][kTileRows * kMlpMaxWidth];
  const T* hidden = a.hidden + (begin / kTileRows + 1) * s.hidden_tile();  // walked back from the tile's end
  const int width = s.out(s.layers - 1);
  Prefetch soon;
  soon.add(hidden, s.hidden_tile());
  prefetch_rows(a.x, begin + kTileRows, soon);
  soon.add(a.v_y + (begin + kTileRows) * width, kTileRows * width);

  const T *delta = load_delta(a, begin, rows, ends[0]), *none = nullptr;
  for (int l = s.layers - 1; l > 0; --l) {
    const T* in = hidden -= kTileRows * tile_pitch(s.in(l));
    accumulate_layer(s, l, delta, in, partial, soon);
    T* v_in = scratch[l % 2];
    if (s.hidden == Activation::relu)
      multiply(delta, s.out(l), panels.matrix(l), s.in(l), none, v_in, soon, RectifyVjp<T>{in});
    else
      multiply(delta, s.out(l), panels.matrix(l), s.in(l), none, v_in, soon, Keep{});
    delta = v_in;
  }
  accumulate_layer(s, 0, delta, load_rows(a.x, begin, rows, ends[1]), partial, soon);
  if (!a.v_x.data[0] && !a.v_x.data[1]) return;
  T* v_x = in_place(a.v_x, begin, rows, ends[1]);
  multiply(delta, s.out(0), panels.matrix(0), s.in(0), none, v_x, soon, Keep{});
  store_rows(v_x, rows, begin, a.v_x);
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
    T* partial = a.v_params ? a.partials + c * stride : nullptr;
    if (partial) std::memset(partial, 0, stride * sizeof(T));
    for (int64_t begin = c * kMlpChunkRows; begin < end; begin += kTileRows)
      backward_tile(a, panels, begin, static_cast<int>(end - begin < kTileRows ? end - begin : kTileRows), partial);
  });
  if (a.v_params) reduce_partials(a, chunks, stride);
}

N3D_INSTANTIATE(mlp_forward, MlpForwardArgs)
N3D_INSTANTIATE(mlp_backward, MlpBackwardArgs)

}  // namespace n3d::N3D_ISA
