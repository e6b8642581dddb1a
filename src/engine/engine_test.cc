// What the façade promises beyond right logits (golden_test.cc).
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <cmath>

#include "formats/convert.h"
#include "formats/test_files.h"

namespace venturi {

namespace {

const std::string kFolder = std::string(VENTURI_SOURCE_DIR) + "/tests/data/models/";

using Row = std::vector<float>;

std::unique_ptr<Engine> open(const std::string& path, const EngineOptions& options) {
  auto engine = Engine::open(path, options);
  EXPECT_TRUE(engine) << (engine ? "" : engine.error().message);
  return engine ? std::move(engine).value() : nullptr;
}

EngineOptions with_context(int64_t context) {
  EngineOptions options;
  options.context = context;
  options.threads = 2;
  return options;
}

const std::vector<TokenId> kTokens = {1, 17, 4, 99, 63, 5, 200, 8};

Row logits_of(Engine& engine) {
  auto sequence = engine.new_sequence();
  EXPECT_TRUE(sequence);
  const auto logits = engine.feed(**sequence, kTokens);
  EXPECT_TRUE(logits) << (logits ? "" : logits.error().message);
  return logits ? Row(logits->begin(), logits->end()) : Row();
}

// A step beyond what was planned for, in a budget without a byte to spare.
TEST(Engine, AStepBeyondThePlanIsAnErrorAndHarmsNothing) {
  for (const char* name : {"llama-plain", "llama-mixtral", "deepseek2-v3", "mamba2-plain"}) {
    EngineOptions options = with_context(256);
    options.batch = 8;
    options.sequences = 2;
    options.memory = 1u << 30;
    auto engine = open(kFolder + name + ".gguf", options);
    ASSERT_TRUE(engine) << name;
    const auto rest = engine->ledger().acquire(engine->ledger().available(), "the test");
    ASSERT_TRUE(rest);
    const Row before = logits_of(*engine);

    auto sequence = engine->new_sequence();
    ASSERT_TRUE(sequence);
    Step step;
    step.tokens.assign(256, 5);
    step.spans = {{.row_begin = 0, .n_rows = 256, .position = 0, .state = sequence->get()}};
    for (int64_t r = 0; r < 256; ++r) step.output_rows.push_back(r);
    const auto refused = engine->step(step);
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().code, Code::kOutOfBudget) << name;
    EXPECT_NE(refused.error().message.find("256 rows"), std::string::npos) << refused.error().message;
    EXPECT_EQ((*sequence)->length(), 0) << name;
    sequence->reset();

    EXPECT_EQ(logits_of(*engine), before) << name;
    EXPECT_LE(engine->ledger().peak(), options.memory) << name;
  }
}

// Without a limit the ledger has room for more than was planned.
TEST(Engine, AStepBeyondThePlanRunsWhereTheLedgerHasRoom) {
  EngineOptions options = with_context(256);
  options.batch = 8;
  auto engine = open(kFolder + "llama-plain.gguf", options);
  ASSERT_TRUE(engine);
  auto sequence = engine->new_sequence();
  ASSERT_TRUE(sequence);
  Step step;
  step.tokens.assign(256, 5);
  step.spans = {{.row_begin = 0, .n_rows = 256, .position = 0, .state = sequence->get()}};
  step.output_rows = {255};
  EXPECT_TRUE(engine->step(step));
}

// The context decides, not how many tokens are there so far: eight tokens differ between a context
// within the original one and a context past it; between two within it they do not.
TEST(Engine, GrowingRopesAreFixedByTheContext) {
  for (const char* name : {"llama-rope-dynamic", "llama-rope-long"}) {  // original context: 32
    const std::string path = kFolder + name + ".gguf";
    const auto at = [&](int64_t context) { return logits_of(*open(path, with_context(context))); };
    EXPECT_EQ(at(16), at(32)) << name;
    EXPECT_NE(at(32), at(64)) << name;
  }
  const std::string dynamic = kFolder + "llama-rope-dynamic.gguf";
  EXPECT_NE(logits_of(*open(dynamic, with_context(64))), logits_of(*open(dynamic, with_context(128))));
}

// GGUF to a Hugging Face directory and opened from there: each scaling says the same again.
TEST(Engine, RopeScalingsSurviveHuggingFace) {
  ThreadPool pool(2);
  for (const char* name : {"llama-plain", "llama-rope-linear", "llama-rope-yarn", "llama-rope-dynamic",
                           "llama-rope-long", "llama-rope-long-short"}) {
    const TemporaryFolder folder;
    const std::string path = kFolder + name + ".gguf";
    const auto file = open_model(path);
    ASSERT_TRUE(file) << name;
    const auto report = convert_to_hf(**file, folder.path + "/hf", {.type = "F32"}, pool);
    ASSERT_TRUE(report) << name << ": " << report.error().message;
    for (const int64_t context : {32, 64, 100}) {
      const Row there = logits_of(*open(folder.path + "/hf", with_context(context)));
      const Row here = logits_of(*open(path, with_context(context)));
      ASSERT_EQ(there.size(), here.size());
      for (size_t i = 0; i < here.size(); ++i) ASSERT_NEAR(there[i], here[i], 2e-4) << name;
    }
  }
}

// Every architecture that gives logits likewise. deepseek2-v3 comes back in the other of GGUF's two layouts of its keys, and the norms of
// Gemma and the decays of Mamba 2 are rounded on the way.
TEST(Engine, EveryArchitectureSurvivesHuggingFace) {
  ThreadPool pool(2);
  for (const auto& [name, bound] :
       {std::pair("llama-bias", 0.f), std::pair("llama-mixtral", 0.f), std::pair("llama-window", 0.f),
        std::pair("qwen2-plain", 0.f), std::pair("qwen2moe-plain", 0.f), std::pair("qwen3-plain", 0.f),
        std::pair("qwen3moe-plain", 0.f), std::pair("smallthinker-plain", 0.f),
        std::pair("smallthinker-softmax", 0.f), std::pair("gpt2-plain", 0.f), std::pair("gpt2-relu", 0.f),
        std::pair("deepseek2-v2-lite", 0.f), std::pair("deepseek2-v3", 1e-2f), std::pair("gemma2-plain", 1e-2f),
        std::pair("gemma3-plain", 1e-2f), std::pair("mamba2-plain", 1e-4f)}) {
    const TemporaryFolder folder;
    const std::string path = fmt::format("{}{}.gguf", kFolder, name);
    const auto file = open_model(path);
    ASSERT_TRUE(file) << name;
    const auto report = convert_to_hf(**file, folder.path + "/hf", {.type = "F32"}, pool);
    ASSERT_TRUE(report) << name << ": " << report.error().message;
    const Row there = logits_of(*open(folder.path + "/hf", with_context(64)));
    const Row here = logits_of(*open(path, with_context(64)));
    ASSERT_EQ(there.size(), here.size());
    for (size_t i = 0; i < here.size(); ++i) ASSERT_LE(std::abs(there[i] - here[i]), bound) << name;
  }
}

}  // namespace

}  // namespace venturi
