// Mixtures whose experts do not all fit: the bits of a resident run, whatever is held and whoever leaves; the
// experts read are those that the simulation counts; and a disk that fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "engine/engine.h"
#include "formats/test_files.h"
#include "memory/experts/simulate.h"
#include "memory/experts/test_traces.h"
#include "ops/route_replay.h"

namespace venturi {

namespace {

using testing::AllOf;
using testing::HasSubstr;
using Row = std::vector<float>;

const std::string kModels = std::string(VENTURI_SOURCE_DIR) + "/tests/data/models/";

std::unique_ptr<Engine> open_engine(const std::string& path, EngineOptions options) {
  options.context = 64;
  options.batch = options.outputs = 48;
  options.sequences = 3;
  if (options.threads == 0) options.threads = 2;
  auto engine = Engine::open(path, options);
  EXPECT_TRUE(engine) << (engine ? "" : engine.error().message);
  return engine ? std::move(engine).value() : nullptr;
}

std::vector<TokenId> tokens_of(const Engine& engine, int64_t n, int64_t seed) {
  std::vector<TokenId> tokens(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) tokens[i] = static_cast<TokenId>((i * 7919 + seed * 31 + 3) % engine.info().vocab_size);
  return tokens;
}

// Two sequences, 11 rows of the first and 3 of the second in one step, then each by itself in chunks.
std::vector<Row> run_rows(Engine& engine, int64_t chunk) {
  const std::vector<TokenId> tokens[] = {tokens_of(engine, 24, 1), tokens_of(engine, 10, 2)};
  std::unique_ptr<SequenceState> states[] = {engine.new_sequence().value(), engine.new_sequence().value()};
  std::vector<Row> rows[2];
  const auto step = [&](std::initializer_list<std::pair<int, int64_t>> parts) {  // of a sequence, so many rows
    Step s;
    for (const auto& [i, n] : parts) {
      const int64_t at = states[i]->length();
      s.spans.push_back({.row_begin = s.n_rows(), .n_rows = n, .position = at, .state = states[i].get()});
      s.tokens.insert(s.tokens.end(), tokens[i].begin() + at, tokens[i].begin() + at + n);
    }
    for (int64_t r = 0; r < s.n_rows(); ++r) s.output_rows.push_back(r);
    const auto out = engine.step(s);
    ASSERT_TRUE(out) << out.error().message;
    int64_t r = 0;
    for (const auto& [i, n] : parts)
      for (const int64_t end = r + n; r < end; ++r) rows[i].emplace_back((*out)->row(r), (*out)->row(r) + (*out)->cols());
  };
  step({{0, 11}, {1, 3}});
  for (const int i : {0, 1})
    while (states[i]->length() < static_cast<int64_t>(tokens[i].size())) {
      if (testing::Test::HasFatalFailure()) return {};
      step({{i, std::min(chunk, static_cast<int64_t>(tokens[i].size()) - states[i]->length())}});
    }
  rows[0].insert(rows[0].end(), rows[1].begin(), rows[1].end());
  return rows[0];
}

class Experts : public testing::TestWithParam<std::string> {
 protected:
  std::string path() const { return kModels + GetParam() + ".gguf"; }
};

TEST_P(Experts, SameBitsWhateverIsHeldAndWhoeverLeaves) {
  auto resident = open_engine(path(), {});
  ASSERT_TRUE(resident);
  EXPECT_EQ(resident->experts(), nullptr);
  const auto rows = run_rows(*resident, 4);
  const int64_t units = ExpertLayout::of(resident->catalog())->units();
  using Backend = DiskOptions::Backend;
  int way = 0;
  for (const Eviction* policy : all_evictions())
    for (const int64_t slots : {int64_t{1}, int64_t{2}, int64_t{3}, units / 2, units - 1, units}) {
      ++way;
      EngineOptions options{.threads = 1 + way % 3, .repack = way % 4 != 0};
      options.wishes = {.expert_slots = slots, .expert_policy = std::string(policy->name), .expert_guesses = way % 2 == 0};
      options.disk = {.backend = way % 3 ? Backend::kAuto : Backend::kThreads, .direct = way % 5 != 0};
      auto engine = open_engine(path(), options);
      ASSERT_TRUE(engine);
      ASSERT_TRUE(engine->experts());
      EXPECT_EQ(engine->experts()->slots(), slots);
      for (int round = 0; round < 2; ++round)
        ASSERT_EQ(run_rows(*engine, 1 + way % 5), rows) << policy->name << ", " << slots << " of " << units << " experts";
      EXPECT_LE(engine->ledger().peak(), engine->footprint().peak());
      engine->experts()->forget();  // when nothing is on its way
      const ExpertCounters count = engine->experts()->expert_counters();
      const uint64_t read = engine->disk_counters().disk_bytes, asked = count.demand_bytes + count.guess_bytes;
      EXPECT_LE(read, asked);
      EXPECT_GE(read + kDiskAlign * (count.misses() + count.guesses), asked);  // the file's last block is cut off
    }
}

// Run by a trace, a step is a visit of every layer; so is a step of the simulation.
TEST_P(Experts, ReadsWhatTheSimulationCounts) {
  auto resident = open_engine(path(), {});
  ASSERT_TRUE(resident);
  const ExpertLayout layout = *ExpertLayout::of(resident->catalog());
  const int64_t top_k = experts_used(resident->file());
  for (const Eviction* policy : all_evictions())
    for (const int64_t slots : {int64_t{1}, top_k, layout.units() / 2, layout.units()})
      for (const int64_t streams : {1, 3}) {
        const int64_t steps = 20;
        const auto trace = sticky_trace(layout.n_layers, layout.n_experts, top_k, steps * streams, 2, 7);
        EngineOptions options;
        options.wishes = {.expert_slots = slots, .expert_policy = std::string(policy->name), .expert_guesses = false};
        auto engine = open_engine(path(), options);
        ASSERT_TRUE(engine);
        std::vector<std::unique_ptr<SequenceState>> states;
        for (int64_t i = 0; i < streams; ++i) states.push_back(engine->new_sequence().value());
        for (int round = 0; round < 2; ++round) {
          auto replay = RouteReplay::create(trace, mixture_gates(engine->catalog()), top_k);
          ASSERT_TRUE(replay);
          replay->set_streams(streams);
          engine->context().set_route_source(&*replay);
          const ExpertCounters before = engine->experts()->expert_counters();
          for (auto& state : states) state->truncate(0);
          for (int64_t t = 0; t < steps; ++t) {
            Step step;
            for (int64_t i = 0; i < streams; ++i) {
              step.tokens.push_back(static_cast<TokenId>(t));
              step.spans.push_back({.row_begin = i, .n_rows = 1, .position = t, .state = states[i].get()});
            }
            ASSERT_TRUE(engine->step(step));
          }
          const ExpertCounters count = engine->experts()->expert_counters() - before;
          const CacheCount expected = simulate(
              trace, {.slots = slots, .streams = streams, .together = resident->catalog().experts()[0].chosen_early}, *policy);
          EXPECT_EQ(count.demands, expected.demands);
          EXPECT_EQ(count.hits, expected.hits) << policy->name << ", " << slots << " slots, " << streams << " streams";
          EXPECT_EQ(count.guesses, 0u);
          engine->experts()->forget();
        }
      }
}

// The smallest budgets stream rows of experts; above them there is a cache, which takes what is left.
TEST_P(Experts, TheBudgetMakesTheSlots) {
  auto resident = open_engine(path(), {});
  ASSERT_TRUE(resident);
  const auto rows = run_rows(*resident, 4);
  const uint64_t all = resident->footprint().peak();
  int64_t slots = 0;
  for (uint64_t memory = all / 4; memory < all; memory += all / 16) {
    EngineOptions options{.memory = memory, .context = 64, .batch = 48, .outputs = 48, .sequences = 3, .threads = 2};
    auto engine = Engine::open(path(), options);
    if (!engine) continue;
    EXPECT_LE((*engine)->footprint().peak(), memory);
    const int64_t now = (*engine)->experts() ? (*engine)->experts()->slots() : 0;
    EXPECT_GE(now, slots) << memory;
    slots = now;
    SCOPED_TRACE(fmt::format("{} of {}: {} slots, routed window {}, window {}", memory, all, slots, (*engine)->residency().routed_bytes, (*engine)->residency().window_bytes));
    EXPECT_EQ(run_rows(**engine, 4), rows) << memory;
    EXPECT_LE((*engine)->ledger().peak(), memory);
  }
  // Experts of the others are smaller than the blocks of the disk around them.
  if (GetParam() == "llama-mixtral" || GetParam() == "qwen3moe-plain") { EXPECT_GT(slots, 0); }
}

// The file shrinks under the engine: steps that need what is gone fail; once it is back, bits are right.
TEST_P(Experts, AStepFailsWithTheDiskAndTheNextOneWorks) {
  TemporaryFolder folder;
  const std::string copy = folder.path + "/model.gguf";
  std::filesystem::copy_file(path(), copy);
  auto resident = open_engine(path(), {});
  ASSERT_TRUE(resident);
  const auto expected = run_rows(*resident, 4);
  EngineOptions options;
  options.wishes.expert_slots = 3;
  auto engine = open_engine(copy, options);
  ASSERT_TRUE(engine);
  const auto feed = [&]() -> Status {
    auto sequence = TRY(engine->new_sequence());
    const auto fed = engine->feed(*sequence, tokens_of(*engine, 20, 1));
    if (fed) return {};
    EXPECT_EQ(sequence->length(), 0);
    return fed.error();
  };
  ASSERT_TRUE(feed());
  const uint64_t size = std::filesystem::file_size(copy);
  std::filesystem::resize_file(copy, size / 4);
  for (int i = 0; i < 5; ++i) {
    const auto failed = feed();
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, Code::kIo);
    EXPECT_THAT(failed.error().message, AllOf(HasSubstr(copy), HasSubstr("truncated")));
  }
  auto original = File::open(path());
  std::vector<uint8_t> bytes(size);
  ASSERT_TRUE(original->read_exact(0, bytes));
  std::FILE* out = std::fopen(copy.c_str(), "r+b");
  ASSERT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), out), bytes.size());
  std::fclose(out);
  // What was on its way while the file was short may still fail.
  Status again = feed();
  for (int i = 0; i < 100 && !again; ++i) again = feed();
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(run_rows(*engine, 4), expected);
}

// Hears when a layer's attention begins and when the next layer does, and what the cache had asked of the disk by then.
class LateReads : public Observer {
 public:
  explicit LateReads(const Engine& engine) : cache_(*engine.experts()) {}
  void linear_input(const Weight& weight, int64_t, const float*, int64_t, int64_t) override {
    const std::string block = weight.name.substr(0, weight.name.find('.', weight.name.find('.') + 1));
    if (!in_attention_of_.empty() && block != in_attention_of_) {
      bytes += asked() - asked_before_;
      in_attention_of_.clear();
    }
    if (!weight.name.ends_with("attn_q.weight")) return;
    ++attentions;
    in_attention_of_ = block;
    asked_before_ = asked();
  }
  uint64_t bytes = 0;  // that layers asked for after their attention had begun
  int attentions = 0;

 private:
  uint64_t asked() const {
    const ExpertCounters count = cache_.expert_counters();
    return count.demand_bytes + count.guess_bytes;
  }
  const ExpertCache& cache_;
  std::string in_attention_of_;
  uint64_t asked_before_ = 0;
};

struct Asked {
  uint64_t late_bytes;
  ExpertCounters count;
};

Asked asked_when(const std::string& model, int64_t slots) {
  EngineOptions options;
  options.wishes.expert_slots = slots;
  const auto engine = open_engine(kModels + model + ".gguf", options);
  LateReads late(*engine);
  engine->context().set_observer(&late);
  (void)run_rows(*engine, 3);
  engine->context().set_observer(nullptr);
  EXPECT_GT(late.attentions, 0);
  return {late.bytes, engine->experts()->expert_counters()};
}

// A router that sees what enters the layer: what it chooses is asked for before the attention, all of it, and nothing
// is guessed. With one slot, an expert cannot be asked for before another has been used; other models choose afterwards.
TEST(EarlyRouter, NothingIsAskedForAfterTheAttentionHasBegun) {
  for (const char* model : {"smallthinker-plain", "smallthinker-softmax"})
    for (const int64_t slots : {6, 8}) {
      const auto [late_bytes, count] = asked_when(model, slots);
      EXPECT_EQ(late_bytes, 0u) << model;
      EXPECT_GT(count.misses(), 0u);
      EXPECT_EQ(count.asked_ahead, count.misses());
      EXPECT_EQ(count.guesses, 0u);
      EXPECT_EQ(count.guess_bytes, 0u);
    }
  EXPECT_GT(asked_when("smallthinker-plain", 1).late_bytes, 0u);
  const auto [late_bytes, count] = asked_when("qwen3moe-plain", 6);
  EXPECT_GE(late_bytes, count.demand_bytes);
  EXPECT_GT(count.demand_bytes, 0u);
  EXPECT_EQ(count.asked_ahead, 0u);
}

TEST(ExpertCacheOptions, WhatThereIsNotIsTold) {
  EngineOptions options{.context = 64};
  options.wishes = {.expert_slots = 2, .expert_policy = "oracle"};
  const auto refused = Engine::open(kModels + "llama-mixtral.gguf", options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kInvalidArgument);
  EXPECT_THAT(refused.error().message, HasSubstr("oracle"));
}

INSTANTIATE_TEST_SUITE_P(Models, Experts,
                         testing::Values("llama-mixtral", "qwen2moe-plain", "qwen3moe-plain", "deepseek2-v2-lite",
                                         "deepseek2-v3", "smallthinker-plain", "smallthinker-softmax"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace

}  // namespace venturi
