// Walks every codec: linear() by every way a weight can be held gives the bits of the plain
// reference on the codec's own values, whatever the threads and whoever stands in the batch.
#include "ops/linear.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/checked.h"
#include "codecs/codec.h"
#include "kernels/matmul/matmul.h"
#include "kernels/test_support.h"

namespace venturi {
namespace {

using namespace kernel_testing;

struct Held {  // a weight and its bytes
  Weight weight;
  std::vector<uint8_t> bytes;
};

std::vector<uint8_t> encoded_rows(const Codec& codec, uint64_t seed, int64_t n_in, int64_t n_rows) {
  const auto values = floats(seed, n_in * n_rows, 0.3f);
  std::vector<uint8_t> rows(codec.bytes(values.size()));
  codec.encode(values.data(), nullptr, rows.data(), static_cast<int64_t>(values.size()));
  return rows;
}

// As WeightCatalog::load leaves it.
std::unique_ptr<Held> hold(const Codec& codec, const std::vector<uint8_t>& rows, int64_t n_in,
                           int64_t n_out, bool repack, int64_t n_planes = 1) {
  auto held = std::make_unique<Held>();
  Weight& w = held->weight;
  w.name = codec.name;
  w.codec = &codec;
  w.n_in = n_in;
  w.n_out = n_out;
  w.n_planes = n_planes;
  w.row_bytes = codec.bytes(n_in);
  w.packed = repack && codec.layout;
  w.plane_bytes = w.packed ? packed_bytes(*codec.layout, n_in, n_out) : w.row_bytes * n_out;
  held->bytes.resize(w.plane_bytes * n_planes);
  for (int64_t p = 0; p < n_planes; ++p) {
    const uint8_t* from = rows.data() + p * n_out * w.row_bytes;
    uint8_t* to = held->bytes.data() + p * w.plane_bytes;
    if (!w.packed) {
      std::memcpy(to, from, n_out * w.row_bytes);
      continue;
    }
    for (int64_t r = 0; r < n_out; r += kGroupRows)
      pack_group(*codec.layout, from + r * w.row_bytes, static_cast<int64_t>(w.row_bytes),
                 static_cast<int>(std::min<int64_t>(kGroupRows, n_out - r)), n_in,
                 r / kGroupRows, to);
  }
  w.data = held->bytes.data();
  return held;
}

std::vector<float> reference(const Codec& codec, const uint8_t* rows, int64_t n_in, int64_t n_out,
                             const std::vector<float>& x) {
  const int64_t m = static_cast<int64_t>(x.size()) / n_in;
  std::vector<float> y(m * n_out);
  if (!codec.unpack) {
    std::vector<float> w(n_in * n_out);
    codec.decode(rows, w.data(), n_in * n_out);
    matmul_reference_float(w.data(), x.data(), m, n_out, n_in, y.data());
    return y;
  }
  std::vector<int8_t> q(n_in * n_out);
  std::vector<float> scale(n_in * n_out / codec.group), min(scale.size());
  for (int64_t b = 0; b < n_in * n_out / codec.block_elems; ++b) {
    const int64_t at = b * codec.block_elems;
    codec.unpack(rows + b * codec.block_bytes, &q[at], &scale[at / codec.group],
                 &min[at / codec.group]);
  }
  matmul_reference_int8(q.data(), scale.data(), codec.has_min ? min.data() : nullptr, codec.group,
                        x.data(), m, n_out, n_in, y.data());
  return y;
}

std::unique_ptr<Context> context_of(int threads) {
  auto context = Context::run(Ledger::create(), std::make_shared<ThreadPool>(threads), 4 << 20);
  EXPECT_TRUE(context);
  return std::move(context).value();
}

Act act_of(Context& context, const std::vector<float>& x, int64_t cols) {
  Act act = context.allocate(static_cast<int64_t>(x.size()) / cols, cols);
  std::memcpy(act.data(), x.data(), x.size() * sizeof(float));
  return act;
}

std::vector<float> values_of(const Act& act) {
  return {act.data(), act.data() + act.rows() * act.cols()};
}

std::vector<float> run_linear(const Weight& w, const std::vector<float>& x, int threads,
                              int64_t plane = 0) {
  auto context = context_of(threads);
  const Act in = act_of(*context, x, w.n_in);
  return values_of(linear_plane(*context, w, plane, in, Use::kProduct));
}

class LinearTest : public testing::TestWithParam<const Codec*> {
 protected:
  const Codec& codec = *GetParam();
  int64_t n_in() const {
    return codec.block_elems == 256 ? 512 : codec.block_elems == 32 ? 288 : 101;
  }
};
INSTANTIATE_TEST_SUITE_P(Codecs, LinearTest,
                         testing::ValuesIn(all_codecs().begin(), all_codecs().end()),
                         [](const auto& info) { return std::string(info.param->name); });

TEST_P(LinearTest, EveryWayToHoldAWeightGivesTheReferencesBits) {
  for (const int64_t n_out : {1, 16, 37, 150}) {
    const auto rows = encoded_rows(codec, n_out, n_in(), n_out);
    const auto packed = hold(codec, rows, n_in(), n_out, true),
               as_stored = hold(codec, rows, n_in(), n_out, false);
    EXPECT_FALSE(as_stored->weight.packed);
    for (const int64_t m : {1, 3, 6, 40, 70}) {
      const auto x = floats(m, m * n_in());
      const auto expected = reference(codec, rows.data(), n_in(), n_out, x);
      for (const int threads : {1, 2}) {
        ASSERT_TRUE(same_bits(run_linear(packed->weight, x, threads), expected))
            << n_out << " x " << m;
        ASSERT_TRUE(same_bits(run_linear(as_stored->weight, x, threads), expected))
            << n_out << " x " << m;
      }
    }
  }
}

// The integer view and the decoder agree, so the reference above means what the format means: with
// inputs that round to int8 exactly (127 in each block), only f32 roundings are between them.
TEST_P(LinearTest, IsTheProductWithTheDecodedWeight) {
  constexpr int64_t kOut = 20;
  const auto rows = encoded_rows(codec, 5, n_in(), kOut);
  std::vector<float> x(n_in()), w(n_in() * kOut);
  for (int64_t i = 0; i < n_in(); ++i)
    x[i] = i % 32 == 0 ? 127.0f
                       : static_cast<float>(static_cast<int>(random_bits(1, 1, i) % 255) - 127);
  codec.decode(rows.data(), w.data(), n_in() * kOut);
  const auto y = run_linear(hold(codec, rows, n_in(), kOut, true)->weight, x, 1);
  for (int64_t j = 0; j < kOut; ++j) {
    double sum = 0, size = 0;
    for (int64_t i = 0; i < n_in(); ++i) {
      sum += double{w[j * n_in() + i]} * x[i];
      size += std::fabs(double{w[j * n_in() + i]} * x[i]);
    }
    // Formats with a minimum cancel scale q against it: both are at most a few times the values.
    EXPECT_NEAR(y[j], sum, size * static_cast<double>(n_in()) * 0x1p-24 * 4) << j;
  }
}

TEST_P(LinearTest, RowsAloneAndTogether) {
  constexpr int64_t kOut = 53, kRows = 66;
  const auto rows = encoded_rows(codec, 6, n_in(), kOut);
  const auto held = hold(codec, rows, n_in(), kOut, true);
  const auto x = floats(7, kRows * n_in());
  const auto together = run_linear(held->weight, x, 2);
  for (const int64_t r :
       {int64_t{0}, int64_t{1}, int64_t{5}, int64_t{63}, int64_t{64}, kRows - 1}) {
    const auto alone =
        run_linear(held->weight, {x.begin() + r * n_in(), x.begin() + (r + 1) * n_in()}, 1);
    EXPECT_TRUE(same_bits(alone.data(), together.data() + r * kOut, kOut)) << r;
  }
  // It would be seen: the next row has other bits.
  EXPECT_FALSE(same_bits(together.data(), together.data() + kOut, kOut));
}

TEST_P(LinearTest, PlanesOfAStack) {
  constexpr int64_t kOut = 19, kPlanes = 3;
  const auto rows = encoded_rows(codec, 8, n_in(), kOut * kPlanes);
  const auto x = floats(9, 4 * n_in());
  for (const bool repack : {true, false}) {
    const auto held = hold(codec, rows, n_in(), kOut, repack, kPlanes);
    for (int64_t p = 0; p < kPlanes; ++p)
      EXPECT_TRUE(same_bits(
          run_linear(held->weight, x, 2, p),
          reference(codec, rows.data() + p * kOut * held->weight.row_bytes, n_in(), kOut, x)))
          << p;
  }
}

TEST_P(LinearTest, EmbeddingsAreDecodedRows) {
  constexpr int64_t kRows = 35;
  const auto rows = encoded_rows(codec, 10, n_in(), kRows);
  std::vector<float> table(kRows * n_in());
  codec.decode(rows.data(), table.data(), kRows * n_in());
  const std::vector<int32_t> ids = {0, 34, 16, 15, 16, 33, 1, 2, 3, 4};
  for (const bool repack : {true, false}) {
    const auto held = hold(codec, rows, n_in(), kRows, repack);
    auto context = context_of(2);
    const auto y = values_of(embed(*context, held->weight, ids, 2.0f));
    for (size_t i = 0; i < ids.size(); ++i)
      for (int64_t j = 0; j < n_in(); ++j)
        ASSERT_EQ(y[i * n_in() + j], 2 * table[ids[i] * n_in() + j]) << i;
  }
}

// Weights of all formats that share an input are one region; each gets what it gets alone.
TEST(Linear, MixedFormatsShareAnInput) {
  constexpr int64_t kIn = 256;
  std::vector<std::unique_ptr<Held>> held;
  std::vector<const Weight*> weights;
  int64_t n_out = 10;
  for (const Codec* codec : all_codecs())
    for (const bool repack : {true, false}) {
      held.push_back(hold(*codec, encoded_rows(*codec, n_out, kIn, n_out), kIn, n_out, repack));
      weights.push_back(&held.back()->weight);
      n_out += 7;
    }
  const auto x = floats(11, 9 * kIn);
  auto context = context_of(3);
  const Act in = act_of(*context, x, kIn);
  const auto together = linear(*context, weights, in);
  for (size_t i = 0; i < weights.size(); ++i)
    EXPECT_TRUE(same_bits(values_of(together[i]), run_linear(*weights[i], x, 1)))
        << weights[i]->name;
}

// What shape mode plans is what a run takes: the arena is never outgrown.
TEST(Linear, ShapeModePlansTheArena) {
  constexpr int64_t kIn = 256, kOut = 200, kRows = 67;
  for (const Codec* codec : all_codecs())
    for (const bool repack : {true, false}) {
      const auto held = hold(*codec, encoded_rows(*codec, 1, kIn, kOut), kIn, kOut, repack);
      auto shape = Context::shape(2);
      {
        const Act x = shape->allocate(kRows, kIn);
        const Act y = linear(*shape, held->weight, x);
        EXPECT_EQ(y.data(), nullptr);
      }
      ASSERT_EQ(shape->costs().size(), 1u);
      EXPECT_EQ(shape->costs()[0].weight_bytes, codec->bytes(kIn) * kOut);
      EXPECT_EQ(shape->costs()[0].int8_macs + shape->costs()[0].f32_macs,
                uint64_t{kIn * kOut * kRows});
      auto ledger = Ledger::create();
      auto context =
          Context::run(ledger, std::make_shared<ThreadPool>(2), shape->arena_peak()).value();
      const uint64_t planned = ledger->held();
      const Act x = act_of(*context, floats(2, kRows * kIn), kIn);
      const Act y = linear(*context, held->weight, x);
      EXPECT_EQ(ledger->peak(), planned) << codec->name;
      EXPECT_EQ(context->arena_peak(), shape->arena_peak()) << codec->name;
    }
}

}  // namespace
}  // namespace venturi
