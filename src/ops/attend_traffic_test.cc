// Keys and values that attention reads, as shape mode counts them, against the least that any algorithm
// with as much fast memory must move: Theta(pairs * k_dim * v_dim / M) elements (Saha and Ye, "The I/O
// Complexity of Attention", ICML 2024), and each key, value, query and output once.
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/attention/attention.h"
#include "ops/attend.h"

namespace venturi {
namespace {

struct Shape {
  int k_dim, v_dim, n_kv_heads, group;
  int64_t keys, rows;  // the last `rows` of `keys` tokens
};

struct Traffic {
  double counted, least;  // elements
};

Traffic traffic(const Shape& s) {
  const auto context = Context::shape(2);
  const AttendParams p{.n_heads = s.n_kv_heads * s.group, .n_kv_heads = s.n_kv_heads, .k_dim = s.k_dim, .v_dim = s.v_dim};
  Step step;
  step.tokens.resize(s.rows);
  step.spans.push_back({.row_begin = 0, .n_rows = s.rows, .position = s.keys - s.rows});
  Act q = context->allocate(s.rows, p.n_heads * s.k_dim), k = context->allocate(s.rows, s.n_kv_heads * s.k_dim);
  const Act v = context->allocate(s.rows, s.n_kv_heads * s.v_dim);
  attend(*context, step, p, q, k, v);
  const double kv = s.k_dim + value_stride(s.v_dim), heads = s.n_kv_heads;
  const auto rows = static_cast<double>(s.rows), keys = static_cast<double>(s.keys);
  const double queries = rows * s.group * kv;  // and outputs, of a KV head
  // What a tile keeps at hand: its queries, two outputs each, and a page.
  const int tile = std::max(query_tile(s.k_dim, s.v_dim) / s.group, 1) * s.group;
  const double memory = tile * (s.k_dim + 2.0 * s.v_dim) + kPageTokens * kv;
  const double pairs = s.group * (rows * keys - rows * (rows - 1) / 2);
  return {static_cast<double>(context->costs().back().state_bytes) / 2 + heads * queries,
          heads * (keys * kv + queries + pairs * s.k_dim * s.v_dim / memory)};
}

TEST(AttendTraffic, StaysWithinAConstantOfTheBound) {
  for (const auto& [k, v] : {std::pair{64, 64}, {80, 80}, {96, 96}, {128, 128}, {192, 128}, {256, 256}, {576, 512}})
    for (const int group : {1, 4, 8, 16})
      for (const int64_t keys : {64, 512, 1000, 4096, 32768, 131072})
        for (const int64_t rows : {int64_t{1}, int64_t{17}, int64_t{512}, keys}) {
          if (rows > keys) continue;
          const Traffic t = traffic({k, v, 2, group, keys, rows});
          EXPECT_GE(t.counted, 0.95 * t.least / 2) << k << " " << group << " " << keys << " " << rows;
          EXPECT_LE(t.counted, 15 * t.least) << k << " " << group << " " << keys << " " << rows << " tile " << query_tile(k, v);
        }
}

TEST(AttendTraffic, FollowsTheFormula) {
  const auto counted = [](int64_t keys, int64_t rows, int group) { return traffic({128, 128, 1, group, keys, rows}).counted; };
  // Twice the prompt, four times the pairs.
  EXPECT_NEAR(counted(65536, 65536, 4) / counted(32768, 32768, 4), 4, 0.05);
  // A token that decodes reads each key and value once, for all heads that share them.
  for (const int group : {1, 4, 8, 16}) EXPECT_EQ(counted(8192, 1, group), 8192 * 256 + group * 256);
}

}  // namespace
}  // namespace venturi
