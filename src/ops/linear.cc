#include "ops/linear.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

#include "base/checked.h"
#include "base/disk.h"
#include "kernels/matmul/matmul.h"
#include "ops/adapters.h"

namespace venturi {

namespace {

// Rows of x that share one pass over a run of weight groups: as many as keep their rounded form in
// the L2 cache beside the group.
constexpr int64_t kRowTile = 64;
constexpr int64_t kFloatRowTile = 96;  // a multiple of every panel width

bool int8_input(const Weight& w) { return w.codec->layout ? w.codec->layout->int8_input : w.codec->group > 0; }

// Groups that a thread packs together when a weight is not packed. Float groups interleave by four.
constexpr int64_t kStageGroups = 4;

// Bytes of that staging, one thread's.
int64_t stage_bytes(const Weight& w) {
  if (w.packed && w.pinned()) return 0;
  if (w.codec->layout) return round_up(packed_bytes(*w.codec->layout, w.n_in, kStageGroups * kGroupRows), 64);
  const int64_t blocks = w.n_in / 32;
  const int64_t halves = w.codec->group == 16 ? 2 : 1;
  return round_up(blocks * 512 + 2 * blocks * halves * 16 * 4, 64);
}

// Group `group` of `n_rows` rows of a codec without a layout, expanded to a tile in `stage`.
TileGroup expand_group(const Weight& w, const uint8_t* rows, int64_t n_rows, int64_t group, uint8_t* stage) {
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
      if (row < n_rows) {
        codec.unpack(rows + row * w.row_bytes + k / codec.block_elems * codec.block_bytes, values, scales, mins);
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

MatmulKernel tile_kernel(int group, bool has_min) {
  if (group == 16) return has_min ? MatmulKernel::kTile16Min : MatmulKernel::kTile16;
  return has_min ? MatmulKernel::kTile32Min : MatmulKernel::kTile32;
}

// Rows of a weight that are in memory, and where their products go.
struct Product {
  const Weight* weight;
  Piece rows;
  float* y;                 // of the piece's first row
  int64_t first_group = 0;  // of this piece in the region's common numbering
  int64_t groups() const { return ceil_div(rows.row_end - rows.row_begin, kGroupRows); }
};

struct Inputs {
  const Int8Rows* int8;
  const FloatPanels* floats;
  int64_t rows;
  bool is_int8;  // which of the two
  // Rows of x that share one pass over a run of groups.
  int64_t tile() const { return is_int8 ? kRowTile : kFloatRowTile; }
};

// Groups [begin, end) of a piece that is not packed, at most kStageGroups from a multiple of it on: packed
// once for all rows of x.
void run_unpacked(const Product& p, const Inputs& x, int64_t begin, int64_t end, MatmulArgs args, uint8_t* stage) {
  const Weight& w = *p.weight;
  const int64_t row_bytes = static_cast<int64_t>(w.row_bytes);
  const auto run_tiles = [&](MatmulKernel kernel) {
    for (args.m_begin = 0; args.m_begin < x.rows; args.m_begin = args.m_end) {
      args.m_end = std::min(x.rows, args.m_begin + x.tile());
      matmul_table().run[static_cast<int>(kernel)](args);
    }
  };
  if (const PackedLayout* layout = w.codec->layout) {
    const int64_t base = begin / kStageGroups * kStageGroups;
    for (int64_t group = begin; group < end; ++group)
      pack_group(*layout, p.rows.data + group * kGroupRows * row_bytes, row_bytes,
                 static_cast<int>(std::min<int64_t>(kGroupRows, args.n - group * kGroupRows)), w.n_in, group - base, stage);
    // The kernel finds the groups where they would lie in a whole matrix.
    args.weights = stage - base * group_bytes(*layout, w.n_in);
    args.group_begin = begin;
    args.group_end = end;
    return run_tiles(layout->kernel);
  }
  for (int64_t group = begin; group < end; ++group) {
    const TileGroup tile = expand_group(w, p.rows.data, args.n, group, stage);
    args.tile = &tile;
    args.group_begin = group;
    args.group_end = group + 1;
    run_tiles(tile_kernel(w.codec->group, w.codec->has_min));
  }
}

void run_groups(const Product& p, const Inputs& x, int64_t begin, int64_t end, int64_t m_begin, int64_t m_end,
                uint8_t* stage) {
  const Weight& w = *p.weight;
  MatmulArgs args{.weights = p.rows.data, .tile = nullptr, .n = p.rows.row_end - p.rows.row_begin, .k = w.n_in,
                  .group_begin = begin, .group_end = end, .x_int8 = x.int8, .x_float = x.floats,
                  .m_begin = m_begin, .m_end = m_end, .y = p.y, .y_stride = w.n_out};
  if (p.rows.packed) return matmul_table().run[static_cast<int>(w.codec->layout->kernel)](args);
  for (; begin < end; begin = args.group_end) {
    args.group_end = std::min(end, begin / kStageGroups * kStageGroups + kStageGroups);
    run_unpacked(p, x, begin, args.group_end, args, stage);
  }
}

// Products of one kind of input, all packed or none, over the pool.
void run_products(Context& context, std::span<Product> products, const Inputs& x, uint8_t* stages, int64_t stage_size) {
  int64_t groups = 0;
  for (Product& p : products) {
    p.first_group = groups;
    groups += p.groups();
  }
  // What has to be packed first is packed for all rows at once.
  const bool packed = products[0].rows.packed;
  const int64_t tile = packed ? x.tile() : x.rows;
  const int64_t m_tiles = ceil_div(x.rows, tile);
  // Chunks of groups, small enough to even out the threads at the end; a thread's own follow one
  // another.
  // Float groups interleave by four.
  int64_t chunk = std::clamp<int64_t>(groups / (context.threads() * 16), 1, kStageGroups);
  if (!x.is_int8) chunk = round_up(chunk, 4);
  const int64_t chunks = ceil_div(groups, chunk);
  context.pool().parallel_for(m_tiles * chunks, 1, [&](int64_t begin, int64_t end, int worker) {
    uint8_t* stage = stages + worker * stage_size;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t m_begin = item / chunks * tile, m_end = std::min(x.rows, m_begin + tile);
      const int64_t g0 = item % chunks * chunk, g1 = std::min(groups, g0 + chunk);
      for (const Product& p : products) {
        const int64_t a = std::max(g0, p.first_group), b = std::min(g1, p.first_group + p.groups());
        if (a < b) run_groups(p, x, a - p.first_group, b - p.first_group, m_begin, m_end, stage);
      }
    }
  });
}

// Rows that are not in memory, piece by piece as they come.
Status run_streamed(Context& context, const Weight& w, int64_t plane, float* y, const Inputs& x, uint8_t* stages,
                    int64_t stage_size) {
  for (int64_t row = w.pinned_rows; row < w.n_out;) {
    const Piece piece = TRY(w.residency->acquire(w, plane, row));
    Product product{&w, piece, y + piece.row_begin};
    run_products(context, {&product, 1}, x, stages, stage_size);
    w.residency->release(piece);
    row = piece.row_end;
  }
  return {};
}

std::vector<Act> products(Context& context, std::span<const Weight* const> weights, int64_t plane, const Act& x, Use use) {
  const int64_t rows = x.rows(), k = x.cols();
  std::vector<Act> outputs;
  // Rows that were gathered for a sparse feed-forward are that op's (neurons.cc), with their costs.
  const bool gathered = weights[0]->bundles;
  OpCost cost{.op = gathered ? "neurons" : "linear"};
  bool any_int8 = false, any_float = false, halves = false;
  int64_t stage_size = 0;
  for (const Weight* w : weights) {
    assert(w->n_in == k);
    outputs.push_back(context.allocate(rows, w->n_out));
    if (!gathered) {
      cost.weight_bytes += w->row_bytes * w->n_out;
      (int8_input(*w) ? cost.int8_macs : cost.f32_macs) += static_cast<uint64_t>(rows * w->n_out * k);
    }
    (int8_input(*w) ? any_int8 : any_float) = true;
    halves |= int8_input(*w) && w->codec->group == 16;
    stage_size = std::max(stage_size, stage_bytes(*w));
  }
  // In the order in which they are run below.
  for (const bool is_int8 : {true, false})
    for (const Weight* w : weights)
      if (int8_input(*w) == is_int8) context.note(*w, plane, use);
  const int panel = matmul_table().float_panel;
  Act int8_buffer, float_buffer, stages;
  if (any_int8) int8_buffer = context.scratch_bytes(Int8Rows::bytes(rows, k));
  if (any_float) float_buffer = context.scratch_bytes(FloatPanels::bytes(rows, k, panel));
  if (stage_size) stages = context.scratch_bytes(stage_size * context.threads());
  const Context::Scope scope(context, cost, {&x});
  for (const Act& y : outputs) context.also_writes(y);
  if (!scope.computes() || rows == 0) return outputs;

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
  auto* stage = reinterpret_cast<uint8_t*>(stages.data());
  for (const bool is_int8 : {true, false}) {
    const Inputs inputs{&xq, &xf, rows, is_int8};
    // What is pinned is one region; the disk goes on reading meanwhile.
    std::vector<Product> packed, unpacked;
    for (size_t i = 0; i < weights.size(); ++i) {
      const Weight& w = *weights[i];
      if (int8_input(w) == is_int8 && w.pinned_rows > 0)
        (w.packed ? packed : unpacked).push_back({&w, w.pinned_piece(plane), outputs[i].data()});
    }
    if (!packed.empty()) run_products(context, packed, inputs, stage, stage_size);
    if (!unpacked.empty()) run_products(context, unpacked, inputs, stage, stage_size);
    for (size_t i = 0; i < weights.size(); ++i) {
      if (int8_input(*weights[i]) != is_int8) continue;
      const Status status = run_streamed(context, *weights[i], plane, outputs[i].data(), inputs, stage, stage_size);
      if (!status) {
        context.fail(status.error());
        return outputs;
      }
    }
  }
  return outputs;
}

}  // namespace

std::vector<Act> linear_planes(Context& context, std::span<const Weight* const> weights, int64_t plane, const Act& x,
                               Use use) {
  std::vector<Act> outputs = products(context, weights, plane, x, use);
  add_adapters(context, weights, x, outputs);
  return outputs;
}

std::vector<Act> linear(Context& context, std::span<const Weight* const> weights, const Act& x) {
  return linear_planes(context, weights, 0, x, Use::kProduct);
}

Act linear_plane(Context& context, const Weight& weight, int64_t plane, const Act& x, Use use) {
  const Weight* one[] = {&weight};
  return std::move(linear_planes(context, one, plane, x, use)[0]);
}

Act linear(Context& context, const Weight& weight, const Act& x) {
  return linear_plane(context, weight, 0, x, Use::kProduct);
}

namespace {

// Rows of a table that are asked of the disk together.
constexpr int64_t kFetchRows = 16;

// Rows that are not in memory, decoded into y.
Status embed_fetched(Context& context, const Weight& table, std::span<const int32_t> ids, Act& staging, Act& y) {
  std::vector<int64_t> at;
  std::vector<int32_t> missing;
  const uint8_t* rows[kFetchRows];
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= table.pinned_rows) {
      at.push_back(static_cast<int64_t>(i));
      missing.push_back(ids[i]);
    }
    if (static_cast<int64_t>(missing.size()) < kFetchRows && (i + 1 < ids.size() || missing.empty())) continue;
    // The arena aligns to less than the disk does.
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(staging.data()) + kDiskAlign - 1) / kDiskAlign * kDiskAlign;
    TRY(table.residency->fetch_rows(table, missing, reinterpret_cast<uint8_t*>(begin), rows));
    for (size_t j = 0; j < at.size(); ++j) table.codec->decode(rows[j], y.row(at[j]), table.n_in);
    at.clear();
    missing.clear();
  }
  return {};
}

}  // namespace

Act embed(Context& context, const Weight& table, std::span<const int32_t> ids, float scale) {
  Act y = context.allocate(static_cast<int64_t>(ids.size()), table.n_in);
  context.note(table, 0, Use::kRows);
  Act staging;
  if (!table.pinned() || !context.computes())
    staging = context.scratch_bytes(static_cast<int64_t>(kFetchRows * row_staging_bytes(table) + kDiskAlign));
  const Context::Scope scope(context, {.op = "embed", .weight_bytes = table.row_bytes * ids.size()}, {}, {&y});
  if (!scope.computes()) return y;
  if (!table.pinned()) {
    const Status status = embed_fetched(context, table, ids, staging, y);
    if (!status) {
      context.fail(status.error());
      return y;
    }
  }
  context.pool().parallel_for(y.rows(), 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      if (ids[r] < table.pinned_rows) table.decode_row(ids[r], y.row(r));
      if (scale != 1.0f)
        for (int64_t i = 0; i < y.cols(); ++i) y.row(r)[i] *= scale;
    }
  });
  return y;
}

}  // namespace venturi
