// Products per head against their definition, with weights held in every way and cut out of a
// taller matrix.
#include "ops/heads.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "formats/gguf_write.h"
#include "formats/test_files.h"

namespace venturi {

namespace {

constexpr int64_t kHeads = 3, kHeadRows = 52, kRow = 20, kOut = 32, kIn = 64, kRows = 70;

class Heads : public testing::TestWithParam<std::tuple<const char*, bool>> {
 protected:
  void SetUp() override {
    codec_ = find_codec(std::get<0>(GetParam()));
    ASSERT_TRUE(codec_);
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    std::vector<float> values(kHeads * kHeadRows * kIn);
    for (float& v : values) v = normal(random);
    std::vector<uint8_t> bytes(codec_->bytes(values.size()));
    codec_->encode(values.data(), nullptr, bytes.data(), static_cast<int64_t>(values.size()));
    decoded_.resize(values.size());
    codec_->decode(bytes.data(), decoded_.data(), static_cast<int64_t>(values.size()));
    const std::string path = folder_.path + "/w.gguf";
    ASSERT_TRUE(write_gguf(path, {}, {{"w", codec_, {kIn, kHeads * kHeadRows}}},
                           [&](size_t, const ByteSink& sink) { return sink(bytes); }));
    file_ = open_model(path).value();
    catalog_ = std::make_unique<WeightCatalog>(*file_);
    weight_ = catalog_->slice("w", kIn, kHeads, kHeadRows, kRow, kOut).value();
    pool_ = std::make_shared<ThreadPool>(2);
    ASSERT_TRUE(
        catalog_->load(*ledger_, *pool_, {.repack = std::get<1>(GetParam()), .progress = {}}));
    context_ = Context::run(ledger_, pool_, 4 << 20).value();
  }
  Act random_act(int64_t rows, int64_t cols) {
    std::mt19937 random(9);
    std::normal_distribution<float> normal;
    Act act = context_->allocate(rows, cols);
    for (int64_t i = 0; i < rows * cols; ++i) act.data()[i] = normal(random);
    return act;
  }
  // Row `row` of head `h`'s slice.
  const float* row(int64_t h, int64_t row) const {
    return decoded_.data() + (h * kHeadRows + kRow + row) * kIn;
  }

  const Codec* codec_ = nullptr;
  std::vector<float> decoded_;
  TemporaryFolder folder_;
  std::unique_ptr<ModelFile> file_;
  std::unique_ptr<WeightCatalog> catalog_;
  Weight* weight_ = nullptr;
  std::shared_ptr<Ledger> ledger_ = Ledger::create();
  std::shared_ptr<ThreadPool> pool_;
  std::unique_ptr<Context> context_;
};

TEST_P(Heads, Forward) {
  const int64_t x_stride = kIn + 5, y_stride = kOut + 3;
  const Act x = random_act(kRows, kHeads * x_stride);
  Act y = context_->allocate(kRows, kHeads * y_stride);
  std::fill_n(y.data(), kRows * y.cols(), -7.0f);
  linear_heads(*context_, *weight_, x, 5, y, 2);
  // Inputs of integer formats are rounded to 8 bits: 1/254 of a block's largest, about 3.
  const double per_term = codec_->group > 0 ? 0.012 : 1e-6;
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t h = 0; h < kHeads; ++h) {
      const float* part = y.row(r) + h * y_stride;
      EXPECT_EQ(part[0], -7.0f);
      EXPECT_EQ(part[1], -7.0f);
      EXPECT_EQ(part[y_stride - 1], -7.0f);
      for (int64_t o = 0; o < kOut; ++o) {
        double expected = 0, magnitude = 0;
        for (int64_t i = 0; i < kIn; ++i) {
          expected += static_cast<double>(x.row(r)[h * x_stride + 5 + i]) * row(h, o)[i];
          magnitude += std::abs(row(h, o)[i]);
        }
        ASSERT_NEAR(part[2 + o], expected, per_term * (magnitude + 4)) << r << " " << h << " " << o;
      }
    }
}

TEST_P(Heads, Transposed) {
  const int64_t x_stride = kOut + 4, y_stride = kIn + 1;
  const Act x = random_act(kRows, kHeads * x_stride);
  Act y = context_->allocate(kRows, kHeads * y_stride);
  std::fill_n(y.data(), kRows * y.cols(), -7.0f);
  linear_heads_transposed(*context_, *weight_, x, 4, y, 1);
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t h = 0; h < kHeads; ++h) {
      EXPECT_EQ(y.row(r)[h * y_stride], -7.0f);
      for (int64_t i = 0; i < kIn; ++i) {
        double expected = 0, magnitude = 0;
        for (int64_t o = 0; o < kOut; ++o) {
          const double term = static_cast<double>(x.row(r)[h * x_stride + 4 + o]) * row(h, o)[i];
          expected += term;
          magnitude += std::abs(term);
        }
        // kOut roundings of partial sums.
        ASSERT_NEAR(y.row(r)[h * y_stride + 1 + i], expected, kOut * 6e-8 * magnitude)
            << r << " " << h << " " << i;
      }
    }
  // A row alone gives the bits that it gives among others.
  Act one = context_->allocate(1, x.cols()), alone = context_->allocate(1, y.cols());
  std::memcpy(one.data(), x.row(66), x.cols() * sizeof(float));
  std::fill_n(alone.data(), alone.cols(), -7.0f);
  linear_heads_transposed(*context_, *weight_, one, 4, alone, 1);
  EXPECT_EQ(std::memcmp(alone.data(), y.row(66), y.cols() * sizeof(float)), 0);
}

INSTANTIATE_TEST_SUITE_P(Formats, Heads,
                         testing::Combine(testing::Values("F32", "F16", "Q8_0", "Q4_0", "Q5_1"),
                                          testing::Bool()));

}  // namespace

}  // namespace venturi
