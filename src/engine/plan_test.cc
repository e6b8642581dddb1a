// Plans and their files.
#include "engine/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "engine/sparse.h"
#include "formats/test_files.h"
#include "memory/experts/expert_layout.h"
#include "memory/experts/simulate.h"
#include "memory/experts/test_traces.h"
#include "ops/route_replay.h"

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

// Headers do not say how a mixture routes; a trace of it does.
TEST(Plan, TakesRoutesFromATrace) {
  const std::string path = VENTURI_SOURCE_DIR "/tests/data/models/llama-mixtral.gguf";
  auto planner = Planner::open(path).value();
  const ExpertLayout layout = *ExpertLayout::of(planner->catalog());
  const int64_t top_k = experts_used(planner->file()), slots = layout.units() / 2, tokens = 300;
  EngineOptions wanted{.context = 64, .threads = 2};
  wanted.wishes = {.expert_slots = slots, .expert_policy = "lru", .expert_guesses = false};
  Plan plan = planner->fit(wanted).value();
  ASSERT_GT(plan.residency.expert_cache_bytes, 0u);
  planner->predict(plan, machine());
  EXPECT_EQ(plan.predicted.experts_found, 0);
  const auto read = [&](const RoutingTrace& trace) {
    const auto taken = planner->assume_routes(trace);
    EXPECT_TRUE(taken) << taken.error().message;
    planner->predict(plan, machine());
    const CacheCount count = simulate(trace, {.slots = slots}, *find_eviction("lru"));
    EXPECT_NEAR(plan.predicted.experts_found, count.hit_rate(), 1e-9);
    return std::pair(plan.predicted.disk_bytes_per_token, static_cast<double>(count.misses()));
  };
  const auto [often, misses_often] = read(uniform_trace(layout.n_layers, layout.n_experts, top_k, tokens, 3));
  const auto [seldom, misses_seldom] = read(sticky_trace(layout.n_layers, layout.n_experts, top_k, tokens, 8, 3));
  EXPECT_LT(seldom, often);
  EXPECT_NEAR(seldom / often, misses_seldom / misses_often, 1e-6);
  const PlanFile file{.model = path, .model_bytes = 1, .fingerprint = "x", .profile = machine(), .plans = {plan}};
  EXPECT_EQ(parse_plan_file(plan_file_json(file).dump(), "plan.json")->plans[0].predicted.experts_found, plan.predicted.experts_found);
  const auto other = planner->assume_routes(uniform_trace(layout.n_layers + 1, layout.n_experts, top_k, 5, 1));
  ASSERT_FALSE(other);
  EXPECT_THAT(other.error().message, testing::HasSubstr("layers"));
}

// What an engine makes of a plan that has been a file is what was planned.
void runs_as_planned(const Plan& made, const std::string& model) {
  const PlanFile file{.model = model, .model_bytes = 1, .fingerprint = "x", .profile = machine(), .plans = {made}};
  const auto back = parse_plan_file(plan_file_json(file).dump(), "plan.json");
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(plan_file_json(*back), plan_file_json(file));
  const auto engine = Engine::open(model, options_of(back->plans[0]));
  ASSERT_TRUE(engine) << engine.error().message;
  EXPECT_EQ((*engine)->footprint().peak(), made.footprint.peak());
  EXPECT_EQ((*engine)->footprint().state_file, made.footprint.state_file);
  EXPECT_EQ((*engine)->residency(), made.residency);
  EXPECT_EQ((*engine)->neuron_plan(), made.neurons);
  EXPECT_LE((*engine)->ledger().peak(), made.footprint.peak());
}

TEST(Plan, StateOnDiskComesBackAndRuns) {
  TemporaryFolder folder;
  for (const uint64_t memory : {Ledger::kUnlimited, uint64_t{6'000'000}}) {
    auto planner = Planner::open(kModel).value();
    EngineOptions wanted{.memory = memory, .context = 1536, .batch = 64, .threads = 2, .spill = folder.path};
    if (memory == Ledger::kUnlimited) wanted.state_memory = 800'000;
    auto plan = planner->fit(wanted);
    ASSERT_TRUE(plan) << plan.error().message;
    ASSERT_TRUE(plan->state.spills()) << memory;
    EXPECT_GT(plan->footprint.state_file, 0u);
    EXPECT_EQ(plan->options.spill, folder.path);
    planner->predict(*plan, machine());
    // The first tokens find their state in memory; at the end all that is beyond it is read for each.
    EXPECT_GT(plan->predicted.tokens_per_second, plan->predicted.tokens_per_second_full);
    runs_as_planned(*plan, kModel);
  }
}

TEST(Plan, WhatHasAPlaceInMemoryDoesNotSpill) {
  auto planner = Planner::open(kModel).value();
  const auto plan = planner->fit({.memory = 60'000'000, .context = 256, .threads = 2, .spill = ""});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_FALSE(plan->state.spills());
  EXPECT_FALSE(plan->options.spill);
  EXPECT_EQ(plan->footprint.state_file, 0u);
}

TEST(Plan, FeedForwardsReadByNeuronComeBackAndRun) {
  TemporaryFolder folder;
  const std::string path = folder.path + "/model.gguf";
  std::filesystem::copy_file(VENTURI_SOURCE_DIR "/tests/data/models/llama-relu.gguf", path);
  auto planner = Planner::open(path).value();
  EngineOptions wanted{.context = 64, .batch = 32, .threads = 2};
  const auto whole = planner->fit(wanted);
  ASSERT_TRUE(whole) << whole.error().message;
  EXPECT_FALSE(whole->neurons.used());
  ThreadPool pool(1);
  const auto written = write_sidecar(sidecar_path(path), planner->file(), neuron_layers(planner->model()), pool);
  ASSERT_TRUE(written) << written.error().message;
  wanted.neurons = NeuronPlan{.window_bytes = 16384, .ring_bytes = 4 << 20};
  auto plan = planner->fit(wanted);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->neurons, wanted.neurons);
  EXPECT_TRUE(plan->options.sparse);
  for (const PlannedWeight& w : plan->weights)
    EXPECT_EQ(w.by_neuron, w.name.find("ffn_up") != std::string::npos || w.name.find("ffn_down") != std::string::npos) << w.name;
  const auto read = [&](double active) {
    planner->assume_active(active);
    planner->predict(*plan, machine());
    EXPECT_EQ(plan->predicted.active_neurons, active);
    return plan->predicted.disk_bytes_per_token;
  };
  const double few = read(0.05), many = read(0.2);
  EXPECT_NEAR(many / few, 4, 0.5);
  runs_as_planned(*plan, path);
  // The plan with the model's own feed-forwards after it is what it was without a sidecar.
  wanted.neurons.reset();
  const auto again = planner->fit(wanted);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->residency, whole->residency);
  EXPECT_FALSE(again->options.sparse);
  // Without the sidecar that it names, it says so.
  std::filesystem::remove(sidecar_path(path));
  const auto gone = Engine::open(path, options_of(*plan));
  ASSERT_FALSE(gone);
  EXPECT_THAT(gone.error().message, testing::HasSubstr("there is no sidecar"));
}

// Files of before these were in it.
TEST(Plan, OlderFilesAreRead) {
  const PlanFile made = example(3'000'000);
  Json json = plan_file_json(made);
  json["plans"][0]["options"].erase("sparse");
  for (const char* name : {"neurons", "state_file"}) json["plans"][0]["footprint"].erase(name);
  const auto back = parse_plan_file(json.dump(), "plan.json");
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(plan_file_json(*back), plan_file_json(made));
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

TEST(Plan, SaysOfWhatTypeStateIsAndHowManyExpertsHaveSlots) {
  EXPECT_EQ(example(3'000'000).plans[0].state_type, "F16");
  const std::string folder = VENTURI_SOURCE_DIR "/tests/data/models/";
  const auto fitted = [&](const char* name, ResidencyWishes wishes) {
    return Planner::open(folder + name).value()->fit({.context = 64, .threads = 2, .wishes = wishes}).value();
  };
  EXPECT_EQ(fitted("mamba2-plain.gguf", {}).state_type, "F32");
  const Plan plan = fitted("llama-mixtral.gguf", {.expert_slots = 5, .expert_policy = "lru"});
  EXPECT_EQ(plan.expert_slots, 5);
  const auto file = open_model(folder + "llama-mixtral.gguf").value();
  WeightCatalog catalog(*file);
  const auto model = create_model(*file, catalog);
  EXPECT_EQ(plan.experts, ExpertLayout::of(catalog)->units());
  PlanFile made = example(3'000'000);
  made.plans[0] = plan;
  made.assumptions = {"that all is well"};
  const Json json = plan_file_json(made);
  EXPECT_EQ(json["plans"][0]["residency"]["expert_slots"], 5);
  EXPECT_EQ(json["plans"][0]["footprint"]["state_type"], "F16");
  EXPECT_EQ(plan_file_json(*parse_plan_file(json.dump(), "plan.json")), json);
}

// Rather fewer rows in a step than weights on the disk.
TEST(Plan, ASmallerBatchComesBeforeStreaming) {
  auto planner = Planner::open(kModel).value();
  const Plan whole = planner->fit({.context = 1024, .threads = 2}).value();
  EXPECT_EQ(whole.options.batch, 512);
  const Plan tight = planner->fit({.memory = whole.footprint.peak() - 1, .context = 1024, .threads = 2}).value();
  EXPECT_LT(tight.options.batch, 512);
  EXPECT_FALSE(tight.residency.streams());
  // One that was asked for stays.
  const Plan asked = planner->fit({.memory = whole.footprint.peak() - 1, .context = 1024, .batch = 512, .threads = 2}).value();
  EXPECT_TRUE(asked.residency.streams());
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
