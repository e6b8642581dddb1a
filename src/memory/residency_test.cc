#include "memory/residency.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/gguf_write.h"
#include "formats/test_files.h"

namespace venturi {
namespace {

using testing::HasSubstr;

constexpr int64_t kWide = 1024;

// Ten layers of two matrices, an untied head and a table, a stack of experts.
class ResidencyTest : public testing::Test {
 protected:
  void SetUp() override {
    const Codec* codec = find_codec("Q4_0");
    std::vector<GgufTensor> tensors{{"table", codec, {kWide, 3000}}};
    for (int layer = 0; layer < 10; ++layer)
      for (const char* part : {"a", "b"})
        tensors.push_back({std::to_string(layer) + part, codec, {kWide, part[0] == 'a' ? 2048 : 613}});
    tensors.push_back({"experts", codec, {kWide, 128, 8}});
    tensors.push_back({"heads", codec, {kWide, 32, 4}});
    tensors.push_back({"head", codec, {kWide, 3000}});
    const std::string path = folder_.path + "/model.gguf";
    ASSERT_TRUE(write_gguf(path, {}, tensors, [&](size_t i, const ByteSink& sink) {
      return sink(std::vector<uint8_t>(tensors[i].bytes(), 1));
    }));
    file_ = open_model(path).value();
    catalog_ = std::make_unique<WeightCatalog>(*file_);
    for (const GgufTensor& t : tensors) {
      const Weight* w = catalog_->matrix(t.name, t.dims[0], t.dims[1], t.dims.size() == 3 ? t.dims[2] : 1).value();
      const Use use = t.name == "table" ? Use::kRows : t.name == "experts" ? Use::kRouted
                      : t.name == "heads" ? Use::kResident : Use::kProduct;
      for (int64_t plane = 0; plane < w->n_planes; ++plane) uses_.push_back({w, plane, use});
    }
  }
  std::map<std::string, int64_t> unpinned(const ResidencyPlan& plan) {
    std::map<std::string, int64_t> rows;
    for (const WeightPlan& w : plan.weights) rows[w.name] = w.pinned_rows;
    return rows;
  }

  TemporaryFolder folder_;
  std::unique_ptr<ModelFile> file_;
  std::unique_ptr<WeightCatalog> catalog_;
  std::vector<WeightUse> uses_;
};

TEST_F(ResidencyTest, EveryBudgetIsUsedAndKept) {
  const uint64_t least = least_residency_bytes(*catalog_, uses_), all = catalog_->bytes();
  for (uint64_t budget = least; budget < all; budget += (all - least) / 37) {
    const auto plan = plan_residency(*catalog_, uses_, budget);
    ASSERT_TRUE(plan) << plan.error().message;
    ASSERT_TRUE(catalog_->pin(*plan));
    const auto forecast = forecast_residency(*catalog_, uses_, *plan);
    EXPECT_EQ(forecast.pinned_bytes, catalog_->bytes());
    EXPECT_LE(forecast.memory(), budget);
    EXPECT_TRUE(plan->streams());
    EXPECT_FALSE(unpinned(*plan).contains("heads"));
    // Windows take a quarter at most, unless they are the smallest; the rest is pinned, but for what
    // rounding to segments and huge pages leaves.
    if (budget <= 2 * least || budget >= all - (4u << 20)) continue;
    EXPECT_GE(forecast.memory() + (3u << 20), budget) << budget;
  }
  catalog_->pin_all();
  const auto everything = plan_residency(*catalog_, uses_, all);
  ASSERT_TRUE(everything);
  EXPECT_FALSE(everything->streams());
  const auto nothing = plan_residency(*catalog_, uses_, least - 1);
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().code, Code::kOutOfBudget);
}

TEST_F(ResidencyTest, HeadFirstTableLastTheRestAlike) {
  const uint64_t all = catalog_->bytes();
  const auto most = unpinned(*plan_residency(*catalog_, uses_, all - (1u << 20)));
  EXPECT_EQ(most.size(), 1u);
  EXPECT_EQ(most.at("table"), 0);
  const auto half = unpinned(*plan_residency(*catalog_, uses_, all / 2));
  EXPECT_FALSE(half.contains("head"));
  EXPECT_EQ(half.at("table"), 0);
  // The first and the second half of the layers are pinned alike.
  double pinned[2] = {};
  for (int layer = 0; layer < 10; ++layer) {
    const std::string name = std::to_string(layer) + "a";
    pinned[layer / 5] += static_cast<double>(half.contains(name) ? half.at(name) : 2048);
  }
  EXPECT_NEAR(pinned[0] / pinned[1], 1, 0.25);
}

TEST_F(ResidencyTest, WishesBound) {
  const uint64_t all = catalog_->bytes();
  const auto window = plan_residency(*catalog_, uses_, all, {.window_bytes = 4u << 20, .pinned_bytes = 5u << 20});
  ASSERT_TRUE(window);
  EXPECT_EQ(window->window_bytes, 4u << 20);
  const auto forecast = forecast_residency(*catalog_, uses_, *window);
  EXPECT_LE(forecast.pinned_bytes, (5u << 20) + 4096);
  EXPECT_GE(forecast.pinned_bytes, 4u << 20);
}

TEST_F(ResidencyTest, AWindowIsAsLargeAsWhatIsStreamedOrRefusedWithTheLargest) {
  const uint64_t all = catalog_->bytes();
  const auto wide = plan_residency(*catalog_, uses_, all * 20, {.window_bytes = all * 9, .pinned_bytes = all / 2});
  ASSERT_TRUE(wide) << wide.error().message;
  const auto forecast = forecast_residency(*catalog_, uses_, *wide);
  EXPECT_GE(wide->window_bytes, forecast.cycle_bytes);
  EXPECT_LE(wide->window_bytes, forecast.cycle_bytes + 100 * 4096);
  const auto asked = [&](uint64_t bytes) { return plan_residency(*catalog_, uses_, all / 2, {.window_bytes = bytes}); };
  const auto refused = asked(all);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kOutOfBudget);
  const std::string& message = refused.error().message;
  const size_t at = message.find("--window ");
  ASSERT_NE(at, std::string::npos) << message;
  const uint64_t largest = std::stoull(message.substr(at + 9)) * 1000;
  EXPECT_TRUE(asked(largest));
  EXPECT_FALSE(asked(largest + 1000));
}

TEST_F(ResidencyTest, SegmentsCoverAPlaneInWholeAlignments) {
  const Weight& w = *catalog_->matrix("0b", kWide, 613).value();
  for (const uint64_t bytes : {1u, 20'000u, 100'000u, 1u << 30})
    for (const int64_t pinned : {0, 16, 608, 612}) {
      const int64_t rows = segment_rows(w, pinned, bytes);
      EXPECT_EQ(rows % row_alignment(w), 0);
      EXPECT_GE(rows, row_alignment(w));
      EXPECT_LE(static_cast<uint64_t>(rows) * w.row_bytes, std::max<uint64_t>(bytes, row_alignment(w) * w.row_bytes) +
                                                              row_alignment(w) * w.row_bytes);
    }
}

TEST_F(ResidencyTest, PlansThatDoNotFitTheModelAreTold) {
  const auto refused = [&](const std::string& name, int64_t rows) {
    const Status status = catalog_->pin({.weights = {{name, rows}}});
    EXPECT_FALSE(status);
    return status ? std::string() : status.error().message;
  };
  EXPECT_THAT(refused("none", 0), HasSubstr("none"));
  EXPECT_THAT(refused("0b", 17), HasSubstr("multiple of 16"));
  EXPECT_THAT(refused("0b", 640), HasSubstr("613"));
  EXPECT_THAT(refused("0b", -16), HasSubstr("0b"));
  EXPECT_TRUE(catalog_->pin({.weights = {{"0b", 613}, {"0a", 16}}}));
}

}  // namespace
}  // namespace venturi
