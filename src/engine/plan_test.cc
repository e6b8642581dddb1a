// Plans and their files.
#include "engine/plan.h"

#include <gtest/gtest.h>

namespace venturi {
namespace {

constexpr const char* kModel = VENTURI_SOURCE_DIR "/models/tiny-llama-q8_0.gguf";

MachineProfile machine() {
  MachineProfile p{.threads = 2,
                   .instruction_set = "any",
                   .read_bytes_per_second = {10e9, 9e9, 11e9},
                   .int8_macs_per_second = {100e9, 100e9, 100e9},
                   .f32_macs_per_second = {50e9, 50e9, 50e9},
                   .region_seconds = 1e-6};
  p.disk = {"f", "threads", {{true, true, 1 << 20, 16, {1e9, 1e9, 1e9}}}};
  return p;
}

PlanFile example(uint64_t memory) {
  auto planner = Planner::open(kModel).value();
  Plan plan = planner->fit({.memory = memory, .context = 256, .threads = 2}).value();
  planner->predict(plan, machine());
  return {.model = kModel, .model_bytes = 1, .fingerprint = model_fingerprint(planner->file()), .profile = machine(),
          .plans = {plan}};
}

TEST(Plan, ComesBackFromJsonAndRuns) {
  for (const uint64_t memory : {uint64_t{3'000'000}, uint64_t{40'000'000}}) {
    const PlanFile made = example(memory);
    EXPECT_EQ(made.plans[0].residency.streams(), memory < 10'000'000);
    const auto back = parse_plan_file(plan_file_json(made).dump(1), "plan.json");
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(plan_file_json(*back), plan_file_json(made));
    EXPECT_EQ(back->plans[0].residency, made.plans[0].residency);
    EngineOptions options = back->plans[0].options;
    options.residency = back->plans[0].residency;
    const auto engine = Engine::open(kModel, options);
    ASSERT_TRUE(engine) << engine.error().message;
    // What was planned is what is held.
    EXPECT_EQ((*engine)->footprint().peak(), made.plans[0].footprint.peak());
    EXPECT_EQ((*engine)->residency(), made.plans[0].residency);
    EXPECT_NEAR(static_cast<double>((*engine)->ledger().peak()), static_cast<double>(made.plans[0].footprint.peak()),
                0.05 * static_cast<double>(made.plans[0].footprint.peak()));
  }
}

TEST(Plan, ACacheOfExpertsComesBackToo) {
  PlanFile made = example(3'000'000);
  made.plans[0].residency.expert_cache_bytes = 1 << 20;
  made.plans[0].residency.expert_policy = "lru";
  made.plans[0].residency.expert_guesses = false;
  const auto back = parse_plan_file(plan_file_json(made).dump(), "plan.json");
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->plans[0].residency, made.plans[0].residency);
}

TEST(Plan, AnotherModelsPlanIsRefused) {
  PlanFile made = example(40'000'000);
  const auto file = open_model(kModel).value();
  EXPECT_TRUE(check_plan_for(made, "plan.json", *file));
  made.fingerprint = "0123456789abcdef";
  const Status refused = check_plan_for(made, "plan.json", *file);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("made for another model"), std::string::npos);
}

TEST(Plan, ASmallerTypeIsSmaller) {
  auto planner = Planner::open(kModel).value();
  auto smaller = Planner::open_as(kModel, *find_codec("Q4_0")).value();
  EXPECT_LT(smaller->catalog().bytes(), planner->catalog().bytes() * 6 / 10);
  EXPECT_NE(model_fingerprint(smaller->file()), model_fingerprint(planner->file()));
  EXPECT_TRUE(smaller->fit({.memory = 3'000'000, .context = 256}));
}

void refuses(const Json& json, const char* part) {
  const auto read = parse_plan_file(json.dump(), "plan.json");
  ASSERT_FALSE(read) << part;
  EXPECT_NE(read.error().message.find(part), std::string::npos) << read.error().message;
}

TEST(Plan, WhatIsWrongIsNamed) {
  const Json good = plan_file_json(example(3'000'000));
  Json json = good;
  json["plans"] = Json::array();
  refuses(json, "\"plans\" has no plan");
  json = good;
  json["plans"][0]["options"]["context"] = -1;
  refuses(json, "\"plans[0].options.context\" is -1");
  json = good;
  json["plans"][0]["residency"]["weights"][0]["pinned_rows"] = 1u << 30;
  refuses(json, "\"plans[0].residency.weights[0].pinned_rows\"");
  json = good;
  json["plans"][0]["residency"]["depth"] = 0;
  refuses(json, "\"plans[0].residency.depth\" is 0");
  json = good;
  json["profile"].erase("kernels");
  refuses(json, "there is no \"profile.kernels\"");
  json = good;
  json["version"] = 99;
  refuses(json, "\"version\" is 99");
}

// An edited plan that this model cannot have is an error, not a crash.
TEST(Plan, AnEditedPlanIsCheckedAgainstTheModel) {
  Json json = plan_file_json(example(3'000'000));
  for (auto& weight : json["plans"][0]["residency"]["weights"])
    if (weight["pinned_rows"] < weight["rows"]) weight["pinned_rows"] = 1;
  const auto back = parse_plan_file(json.dump(), "plan.json");
  ASSERT_TRUE(back) << back.error().message;
  EngineOptions options = back->plans[0].options;
  options.residency = back->plans[0].residency;
  const auto engine = Engine::open(kModel, options);
  ASSERT_FALSE(engine);
  EXPECT_NE(engine.error().message.find("pins 1 rows"), std::string::npos) << engine.error().message;
}

}  // namespace
}  // namespace venturi
