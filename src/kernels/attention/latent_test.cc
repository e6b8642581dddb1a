// Values taken out of the keys give the bits that stored values give.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernels/attention/attention.h"

namespace venturi {

namespace {

struct Outputs {
  std::vector<float> top, sum, out;
  bool operator==(const Outputs&) const = default;
};

TEST(LatentValues, SameBitsAsStoredValues) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  struct Size {
    int k_dim, v_dim, n_queries, n_keys;
  };
  for (const Isa isa : runnable_isas())
    for (const auto [k_dim, v_dim, n_queries, n_keys] :
         {Size{40, 32, 3, 70}, Size{24, 24, 1, 1}, Size{37, 21, 13, 200},
          Size{576, 512, 16, 130}}) {
      const AttentionKernels& kernels = attention_kernels(isa);
      const int blocks = (n_keys + kPageTokens - 1) / kPageTokens;
      // Slots that no token has filled hold what was there before: here, NaN.
      std::vector<uint16_t> keys(blocks * key_page_elems(k_dim), 0x7e00),
          values(blocks * value_page_elems(v_dim), 0x7e00);
      std::vector<const uint16_t*> key_pages, value_pages;
      for (int b = 0; b < blocks; ++b) {
        key_pages.push_back(keys.data() + b * key_page_elems(k_dim));
        value_pages.push_back(values.data() + b * value_page_elems(v_dim));
      }
      std::vector<float> key(k_dim);
      for (int t = 0; t < n_keys; ++t) {
        for (float& x : key) x = normal(random);
        const int b = t / kPageTokens;
        kernels.store_key(key.data(), k_dim, t % kPageTokens,
                          keys.data() + b * key_page_elems(k_dim));
        kernels.store_value(key.data() + k_dim - v_dim, v_dim, t % kPageTokens,
                            values.data() + b * value_page_elems(v_dim));
      }
      std::vector<float> queries(static_cast<size_t>(k_dim) * n_queries);
      for (float& x : queries) x = 0.2f * normal(random);
      std::vector<int64_t> lo(n_queries, 0), hi(n_queries);
      for (int q = 0; q < n_queries; ++q) hi[q] = std::max(1, n_keys - n_queries + 1 + q);
      std::vector<float> lanes(16 * n_queries);
      std::vector<uint16_t> scratch(value_page_elems(v_dim), 0x7e00);
      const auto run = [&](bool stored) {
        Outputs o{std::vector<float>(n_queries), std::vector<float>(n_queries),
                  std::vector<float>(static_cast<size_t>(n_queries) * value_stride(v_dim))};
        kernels.split({.keys = key_pages.data(),
                       .values = stored ? value_pages.data() : nullptr,
                       .first_key = 0,
                       .n_blocks = blocks,
                       .n_queries = n_queries,
                       .k_dim = k_dim,
                       .v_dim = v_dim,
                       .queries = queries.data(),
                       .lo = lo.data(),
                       .hi = hi.data(),
                       .soft_cap = 0,
                       .top = o.top.data(),
                       .sum = o.sum.data(),
                       .out = o.out.data(),
                       .lanes = lanes.data(),
                       .value_scratch = scratch.data()});
        // Elements past v_dim are padding.
        for (int q = 0; q < n_queries; ++q)
          for (int i = v_dim; i < value_stride(v_dim); ++i) o.out[q * value_stride(v_dim) + i] = 0;
        return o;
      };
      EXPECT_EQ(run(true), run(false)) << isa_name(isa) << " k " << k_dim << " v " << v_dim;
    }
}

}  // namespace

}  // namespace venturi
