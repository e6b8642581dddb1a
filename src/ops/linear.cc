#include "ops/linear.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

#include "base/checked.h"
#include "kernels/matmul/matmul.h"

namespace venturi {

namespace {

// Rows of x that share one pass over a run of weight groups: as many as keep their rounded form in
// the L2 cache beside the group.
constexpr int64_t kRowTile = 64;
constexpr int64_t kFloatRowTile = 96;  // a multiple of every panel width

bool int8_input(const Weight& w) { return w.codec->layout ? w.codec->layout->int8_input : w.codec->group > 0; }

// Bytes in which one group of 16 rows is staged when a weight is not packed.
int64_t stage_bytes(const Weight& w) {
  if (w.packed) return 0;
  if (w.codec->layout) return round_up(packed_bytes(*w.codec->layout, w.n_in, 1), 64);
  const int64_t blocks = w.n_in / 32;
  const int64_t halves = w.codec->group == 16 ? 2 : 1;
  return round_up(blocks * 512 + 2 * blocks * halves * 16 * 4, 64);
}

// Group `group` of a codec without a layout, expanded to a tile in `stage`.
TileGroup expand_group(const Weight& w, const uint8_t* plane, int64_t group, uint8_t* stage) {
  const Codec& codec = *w.codec;
  const int64_t blocks32 = w.n_in / 32;
  const int per32 = 32 / codec.group;
  auto* q = reinterpret_cast<int8_t*>(stage);
  auto* scale = reinterpret_cast<float*>(stage + blocks32 * 512);
  float* min = scale + blocks32 * per32 * kGroupRows;
  int8_t values[256];
  float scales[16], mins[16] = {};
  for (int r = 0; r < kGroupRows; ++r) {
    const int64_t row = group * kGroupRows + r;
    for (int64_t k = 0; k < w.n_in; k += codec.block_elems) {
      if (row < w.n_out) {
        codec.unpack(plane + row * w.row_bytes + k / codec.block_elems * codec.block_bytes, values, scales, mins);
      } else {
        std::memset(values, 0, sizeof values);
        std::fill(std::begin(scales), std::end(scales), 0.0f);
        std::fill(std::begin(mins), std::end(mins), 0.0f);
      }
      for (int i = 0; i < codec.block_elems; i += 4)
        std::memcpy(q + ((k + i) / 4 * kGroupRows + r) * 4, values + i, 4);
      for (int g = 0; g < codec.block_elems / codec.group; ++g) {
        const int64_t at = (k / codec.group + g) * kGroupRows + r;
        scale[at] = scales[g];
        min[at] = mins[g];
      }
    }
  }
  return {q, scale, codec.has_min ? min : nullptr};
}

struct Product {
  const Weight* weight;
  const uint8_t* plane;
  float* y;
  int64_t first_group;  // of this weight in the region's common numbering
  int64_t groups;
};

void run_groups(const MatmulTable& table, const Product& p, int64_t group_begin, int64_t group_end, int64_t m_begin,
                int64_t m_end, const Int8Rows& xq, const FloatPanels& xf, uint8_t* stage) {
  const Weight& w = *p.weight;
  MatmulArgs args{.weights = p.plane, .tile = nullptr, .n = w.n_out, .k = w.n_in, .group_begin = group_begin,
                  .group_end = group_end, .x_int8 = &xq, .x_float = &xf, .m_begin = m_begin, .m_end = m_end,
                  .y = p.y, .y_stride = w.n_out};
  if (w.packed) return table.run[static_cast<int>(w.codec->layout->kernel)](args);
  for (int64_t group = group_begin; group < group_end; ++group) {
    args.group_begin = group;
    args.group_end = group + 1;
    if (w.codec->layout) {
      const int rows = static_cast<int>(std::min<int64_t>(kGroupRows, w.n_out - group * kGroupRows));
      const int64_t row_bytes = static_cast<int64_t>(w.row_bytes);
      // The kernel finds the group where it would lie in a whole matrix.
      const int64_t run = interleaved_groups(*w.codec->layout);
      pack_group(*w.codec->layout, p.plane + group * kGroupRows * row_bytes, row_bytes, rows, w.n_in, group % run, stage);
      args.weights = stage - group / run * run * group_bytes(*w.codec->layout, w.n_in);
      table.run[static_cast<int>(w.codec->layout->kernel)](args);
    } else {
      const TileGroup tile = expand_group(w, p.plane, group, stage);
      args.tile = &tile;
      table.run[static_cast<int>(w.codec->group == 16 ? MatmulKernel::kTile16 : MatmulKernel::kTile32)](args);
    }
  }
}

// All products of one kind of input over the pool.
void run_products(Context& context, std::vector<Product>& products, int64_t rows, const Int8Rows& xq,
                  const FloatPanels& xf, bool is_int8, uint8_t* stages, int64_t stage_size) {
  const MatmulTable& table = matmul_table();
  int64_t groups = 0;
  for (Product& p : products) {
    p.first_group = groups;
    groups += p.groups;
  }
  const int64_t tile = is_int8 ? kRowTile : kFloatRowTile;
  const int64_t m_tiles = ceil_div(rows, tile);
  // Chunks of groups, small enough to even out the threads at the end; a thread's own follow one
  // another.
  // Float groups interleave by four.
  int64_t chunk = std::clamp<int64_t>(groups / (context.threads() * 16), 1, 4);
  if (!is_int8) chunk = round_up(chunk, 4);
  const int64_t chunks = ceil_div(groups, chunk);
  context.pool().parallel_for(m_tiles * chunks, 1, [&](int64_t begin, int64_t end, int worker) {
    uint8_t* stage = stages + worker * stage_size;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t m_begin = item / chunks * tile, m_end = std::min(rows, m_begin + tile);
      const int64_t g0 = item % chunks * chunk, g1 = std::min(groups, g0 + chunk);
      for (const Product& p : products) {
        const int64_t a = std::max(g0, p.first_group), b = std::min(g1, p.first_group + p.groups);
        if (a < b) run_groups(table, p, a - p.first_group, b - p.first_group, m_begin, m_end, xq, xf, stage);
      }
    }
  });
}

}  // namespace

std::vector<Act> linear_planes(Context& context, std::span<const Weight* const> weights, int64_t plane, const Act& x) {
  const int64_t rows = x.rows(), k = x.cols();
  std::vector<Act> outputs;
  OpCost cost{.op = "linear"};
  bool any_int8 = false, any_float = false, halves = false;
  int64_t stage_size = 0;
  for (const Weight* w : weights) {
    assert(w->n_in == k);
    outputs.push_back(context.allocate(rows, w->n_out));
    cost.weight_bytes += w->row_bytes * w->n_out;
    (int8_input(*w) ? cost.int8_macs : cost.f32_macs) += static_cast<uint64_t>(rows * w->n_out * k);
    (int8_input(*w) ? any_int8 : any_float) = true;
    halves |= int8_input(*w) && w->codec->group == 16;
    stage_size = std::max(stage_size, stage_bytes(*w));
  }
  const int panel = matmul_table().float_panel;
  Act int8_buffer, float_buffer, stages;
  if (any_int8) int8_buffer = context.scratch_bytes(Int8Rows::bytes(rows, k));
  if (any_float) float_buffer = context.scratch_bytes(FloatPanels::bytes(rows, k, panel));
  if (stage_size) stages = context.scratch_bytes(stage_size * context.threads());
  const Context::Scope scope(context, cost);
  if (!scope.computes()) return outputs;

  if (Observer* observer = context.observer())
    for (const Weight* w : weights) observer->linear_input(*w, plane, x.data(), rows, k);

  Int8Rows xq;
  FloatPanels xf;
  if (any_int8) {
    xq = Int8Rows::over(int8_buffer.data(), rows, k);
    context.pool().parallel_for(rows, 8, [&](int64_t begin, int64_t end, int) {
      matmul_table().round_int8(x.data(), k, begin, end, halves, xq);
    });
  }
  if (any_float) {
    xf = {rows, k, panel, float_buffer.data()};
    context.pool().parallel_for(ceil_div(rows, panel), 1, [&](int64_t begin, int64_t end, int) {
      pack_panels(x.data(), k, begin * panel, std::min(rows, end * panel), xf);
    });
  }
  for (const bool is_int8 : {true, false}) {
    std::vector<Product> products;
    for (size_t i = 0; i < weights.size(); ++i)
      if (int8_input(*weights[i]) == is_int8)
        products.push_back({weights[i], weights[i]->data + plane * weights[i]->plane_bytes, outputs[i].data(), 0,
                            ceil_div(weights[i]->n_out, kGroupRows)});
    if (!products.empty())
      run_products(context, products, rows, xq, xf, is_int8, reinterpret_cast<uint8_t*>(stages.data()), stage_size);
  }
  return outputs;
}

std::vector<Act> linear(Context& context, std::span<const Weight* const> weights, const Act& x) {
  return linear_planes(context, weights, 0, x);
}

Act linear_plane(Context& context, const Weight& weight, int64_t plane, const Act& x) {
  const Weight* one[] = {&weight};
  return std::move(linear_planes(context, one, plane, x)[0]);
}

Act linear(Context& context, const Weight& weight, const Act& x) { return linear_plane(context, weight, 0, x); }

Act embed(Context& context, const Weight& table, std::span<const int32_t> ids, float scale) {
  Act y = context.allocate(static_cast<int64_t>(ids.size()), table.n_in);
  const Context::Scope scope(context, {.op = "embed", .weight_bytes = table.row_bytes * ids.size()});
  if (!scope.computes()) return y;
  context.pool().parallel_for(y.rows(), 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      table.decode_row(ids[r], y.row(r));
      if (scale != 1.0f)
        for (int64_t i = 0; i < y.cols(); ++i) y.row(r)[i] *= scale;
    }
  });
  return y;
}

}  // namespace venturi
