// The cost model against closed forms, on a machine whose rates are round numbers.
#include "planner/cost.h"

#include <gtest/gtest.h>

#include "memory/experts/expert_layout.h"
#include "memory/residency.h"

namespace venturi {
namespace {

constexpr const char* kModel = VENTURI_SOURCE_DIR "/models/tiny-llama-q8_0.gguf";

// Products of one row at 1e9 weights a second interleaved, 0.25e9 as in the file; rows cost the same each.
MachineProfile machine(double disk_rate) {
  MachineProfile p{.threads = 2,
                   .read_bytes_per_second = {10e9, 10e9, 10e9},
                   .int8_macs_per_second = {100e9, 100e9, 100e9},
                   .f32_macs_per_second = {1e18, 1e18, 1e18},
                   .region_seconds = 0};
  p.kernels = {{"Q8_0", true, 1, {1e9, 1e9, 1e9}}, {"Q8_0", false, 1, {0.25e9, 0.25e9, 0.25e9}}};
  if (disk_rate > 0) p.disk = {"f", "threads", {{true, true, 1 << 20, 16, {disk_rate, disk_rate, disk_rate}}}};
  return p;
}

class Cost : public testing::Test {
 protected:
  void SetUp() override {
    file = open_model(kModel).value();
    catalog = std::make_unique<WeightCatalog>(*file);
    model = create_model(*file, *catalog).value();
    const auto shape = Context::shape(2);
    Step step;
    step.tokens = {0};
    step.spans = {{.row_begin = 0, .n_rows = 1, .position = 0, .state = nullptr}};
    step.output_rows = {0};
    (void)model->forward(*shape, step);
    uses = shape->uses();
    for (const WeightUse& use : uses) {
      if (use.use != Use::kProduct) continue;
      values += static_cast<double>(use.weight->n_in * use.weight->n_out);
      bytes += static_cast<double>(use.weight->file_bytes());
    }
  }
  CostInputs inputs(const MachineProfile& profile, bool repack = true) const {
    return {*model, *catalog, plan, profile, 2, repack};
  }

  std::unique_ptr<ModelFile> file;
  std::unique_ptr<WeightCatalog> catalog;
  std::unique_ptr<Model> model;
  std::vector<WeightUse> uses;
  ResidencyPlan plan;
  double values = 0, bytes = 0;  // of all products of a step
};

TEST_F(Cost, AResidentStepIsItsProductsAndTheState) {
  const MachineProfile p = machine(0);
  const StepForecast f = forecast_decode(inputs(p), 1, 0);
  EXPECT_EQ(f.disk_bytes, 0);
  EXPECT_EQ(f.disk_seconds, 0);
  EXPECT_NEAR(f.seconds, values / 1e9, values / 1e9 * 0.001);
  // Interleaved Q8_0 takes a line more where blocks are odd in number.
  EXPECT_GE(f.memory_bytes, bytes);
  EXPECT_LT(f.memory_bytes, 1.1 * bytes);
  // Keys and values of what is in the context, at the read bandwidth.
  const StepForecast later = forecast_decode(inputs(p), 1, 1000);
  EXPECT_GT(later.memory_bytes, f.memory_bytes);
  EXPECT_NEAR(later.seconds - f.seconds, (later.memory_bytes - f.memory_bytes) / 10e9, 1e-9);
}

TEST_F(Cost, NotInterleavedGoesAtItsOwnRate) {
  const MachineProfile p = machine(0);
  EXPECT_NEAR(forecast_decode(inputs(p, false), 1, 0).seconds, values / 0.25e9, values / 0.25e9 * 0.001);
}

TEST_F(Cost, RowsOfAPromptCostWhatTheProfileSays) {
  const MachineProfile p = machine(0);
  const StepForecast one = forecast_decode(inputs(p), 1, 0), four = forecast_decode(inputs(p), 4, 0);
  // Beyond the last point measured a row costs as much as there.
  EXPECT_NEAR(four.seconds, 4 * one.seconds, one.seconds * 0.01);
  // Chunks add up but for the head, which only the last needs, and row operations.
  const StepForecast whole = forecast_prefill(inputs(p), 32, 32), cut = forecast_prefill(inputs(p), 32, 16);
  EXPECT_NEAR(whole.compute_seconds, cut.compute_seconds, cut.compute_seconds * 0.01);
}

TEST_F(Cost, AStreamedStepIsTheLargerOfComputeAndReading) {
  plan = plan_residency(*catalog, uses, 1500000, {}).value();
  ASSERT_TRUE(plan.streams());
  ASSERT_TRUE(catalog->pin(plan));
  const ResidencyForecast forecast = forecast_residency(*catalog, uses, plan);
  double outside = 0;
  for (const WeightUse& use : uses)
    if (use.use == Use::kProduct)
      outside += static_cast<double>(use.weight->n_in * (use.weight->n_out - std::min(use.weight->pinned_rows, use.weight->n_out)));
  const double compute = (values - outside) / 1e9 + outside / 0.25e9;
  for (const double rate : {1e6, 1e12}) {
    const MachineProfile p = machine(rate);
    const StepForecast f = forecast_decode(inputs(p), 1, 0);
    // Whole blocks: at most one more at each piece's ends, and a row of the embedding table.
    EXPECT_GE(f.disk_bytes, static_cast<double>(forecast.cycle_bytes));
    EXPECT_LE(f.disk_bytes, static_cast<double>(forecast.cycle_bytes) * 1.2);
    EXPECT_NEAR(f.compute_seconds, compute, compute * 0.001);
    EXPECT_NEAR(f.disk_seconds, f.disk_bytes / rate, 1e-9);
    const double longer = std::max(f.compute_seconds, f.disk_seconds), shorter = std::min(f.compute_seconds, f.disk_seconds);
    EXPECT_NEAR(f.seconds, longer + kExposed * shorter, 1e-9);
    EXPECT_EQ(f.binds(), rate < 1e9 ? "disk" : "compute");
  }
  // A window that lets little be in flight gets less of a disk that wants much.
  MachineProfile waiting = machine(1e9);
  waiting.disk.rates.push_back({false, true, 4096, 1, {1e6, 1e6, 1e6}});
  const uint64_t in_flight = in_flight_bytes(plan);
  EXPECT_LT(in_flight, 1u << 20);
  const double rate = waiting.disk_bytes_per_second(plan.request_bytes, plan.depth, in_flight);
  EXPECT_LT(rate, 1e9);
  const StepForecast slow = forecast_decode(inputs(waiting), 1, 0);
  EXPECT_NEAR(slow.disk_seconds, slow.disk_bytes / rate, 1e-9);
  EXPECT_EQ(in_flight_bytes({.window_bytes = 16u << 20}), 12u << 20);
  EXPECT_EQ(in_flight_bytes({.window_bytes = 64u << 10}), 32u << 10);
  EXPECT_EQ(in_flight_bytes({}), UINT64_MAX);
  // A step of many rows reads as much as one of one row.
  const MachineProfile p = machine(1e9);
  EXPECT_NEAR(forecast_decode(inputs(p), 8, 0).disk_bytes, forecast_decode(inputs(p), 1, 0).disk_bytes, 8 * 8192);
}

// Where the router sees what enters the layer, experts are read beside the attention: what that computes is no longer
// waited for, and no more than that.
TEST(EarlyRouter, HidesReadsBehindAttention) {
  const auto file = open_model(VENTURI_SOURCE_DIR "/tests/data/models/smallthinker-plain.gguf").value();
  WeightCatalog catalog(*file);
  const auto model = create_model(*file, catalog).value();
  auto& stacks = const_cast<std::vector<ExpertStack>&>(catalog.experts());
  ASSERT_TRUE(stacks[0].chosen_early);
  ResidencyPlan plan;
  plan.expert_cache_bytes = ExpertLayout::of(catalog)->cache_bytes(10);
  for (const auto& weight : catalog.matrices()) weight->pinned_rows = weight->name.find("_exps") == std::string::npos ? weight->n_out : 0;
  const auto forecast = [&](double disk_rate, bool early) {
    for (ExpertStack& stack : stacks) stack.chosen_early = early;
    const MachineProfile p = machine(disk_rate);
    return forecast_decode({*model, catalog, plan, p, 2, true}, 1, 40);
  };
  const StepForecast slow = forecast(1e6, false), slow_early = forecast(1e6, true);
  EXPECT_GT(slow.disk_bytes, 0);
  EXPECT_EQ(slow_early.disk_bytes, slow.disk_bytes);
  EXPECT_EQ(slow_early.compute_seconds, slow.compute_seconds);
  EXPECT_LT(slow_early.seconds, slow.seconds);
  EXPECT_GT(slow_early.seconds, slow.seconds - slow.compute_seconds);
  // A layer's reads are hidden whole where they take no longer than its attention.
  MachineProfile p = machine(1e15);
  p.region_seconds = 1;
  const auto hidden = forecast_decode({*model, catalog, plan, p, 2, true}, 1, 40);
  EXPECT_NEAR(hidden.seconds, hidden.compute_seconds, 1e-6);
}

}  // namespace
}  // namespace venturi
