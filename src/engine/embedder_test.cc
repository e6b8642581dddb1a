// Embeddings: those of the reference in numpy, whatever is beside them.
#include "engine/embedder.h"
#include "engine/service.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>

namespace venturi {
namespace {

const std::string kModels = VENTURI_SOURCE_DIR "/tests/data/models/";

std::unique_ptr<Engine> open(const std::string& name, int sequences, int64_t batch = 64) {
  EngineOptions options;
  options.context = 64;
  options.batch = batch;
  options.sequences = sequences;
  options.outputs = sequences;
  options.threads = 2;
  auto engine = Engine::open(kModels + name, options);
  EXPECT_TRUE(engine) << (engine ? "" : engine.error().message);
  return engine ? std::move(engine).value() : nullptr;
}

Result<Embedder::Embeddings> embed(Embedder& embedder, std::vector<std::vector<TokenId>> texts) {
  std::promise<Result<Embedder::Embeddings>> promise;
  auto future = promise.get_future();
  auto id = embedder.submit(
      std::move(texts), [&](Result<Embedder::Embeddings> r, const Embedder::Times&) { promise.set_value(std::move(r)); });
  if (!id) return std::move(id).error();
  return future.get();
}

TEST(Embedder, IsTheReferencesAndKnowsNoNeighbours) {
  for (const char* name : {"bert-mean", "bert-cls"}) {
    std::ifstream file(kModels + name + ".json");
    const auto golden = nlohmann::json::parse(file);
    const auto engine = open(std::string(name) + ".gguf", 4);
    auto embedder = Embedder::start(*engine);
    ASSERT_TRUE(embedder);
    std::vector<std::vector<TokenId>> texts;
    for (const auto& prompt : golden["prompts"]) texts.push_back(prompt["tokens"]);
    for (int i = 0; i < 20; ++i) texts.push_back({2, 10 + i, 3});
    const auto together = embed(**embedder, texts);
    ASSERT_TRUE(together);
    for (size_t i = 0; i < texts.size(); ++i) {
      const auto alone = embed(**embedder, {texts[i]});
      ASSERT_TRUE(alone);
      EXPECT_EQ((*alone)[0], (*together)[i]) << i;
      if (i >= golden["prompts"].size()) continue;
      const std::vector<float> expected = golden["prompts"][i]["pooled"];
      ASSERT_EQ(expected.size(), (*alone)[0].size());
      for (size_t d = 0; d < expected.size(); ++d)
        EXPECT_NEAR((*alone)[0][d], expected[d], 2e-3) << name << i << " " << d;
    }
    EXPECT_LT((*embedder)->counts().steps, 2 * texts.size());
  }
}

TEST(Embedder, RefusesCancelsAndDrains) {
  const auto engine = open("bert-mean.gguf", 2);
  auto embedder = Embedder::start(*engine, {.max_waiting = 3});
  ASSERT_TRUE(embedder);
  for (const std::vector<TokenId>& wrong :
       {std::vector<TokenId>{}, std::vector<TokenId>(65, 3), std::vector<TokenId>{1 << 20}})
    EXPECT_EQ(embed(**embedder, {wrong}).error().code, Code::kInvalidArgument);
  EXPECT_FALSE(embed(**embedder, {}));
  std::atomic<int> done = 0;
  int refused = 0;
  for (int i = 0; i < 40; ++i) {
    auto id = (*embedder)->submit(std::vector<std::vector<TokenId>>(30, {2, 7, 8, 3}),
                                  [&](Result<Embedder::Embeddings>, const Embedder::Times&) { ++done; });
    if (!id) {
      ++refused;
      EXPECT_EQ(id.error().code, Code::kOutOfBudget);
    } else if (i % 2) {
      (*embedder)->cancel(*id);
    }
  }
  EXPECT_TRUE((*embedder)->drain(30));
  const Embedder::Counts counts = (*embedder)->counts();
  EXPECT_EQ(counts.waiting, 0);
  EXPECT_EQ(static_cast<uint64_t>(done) + counts.cancelled, counts.requests);
  EXPECT_EQ(counts.requests + refused, 40u);
  EXPECT_FALSE(embed(**embedder, {{2, 3}}));
  EXPECT_EQ(Embedder::start(*open("llama-plain.gguf", 1)).error().code, Code::kUnsupported);
}

// A decoder's last token is the reference's last hidden state; its mean is that of every prefix's last.
TEST(Embedder, PoolsHiddenStatesOfDecoders) {
  for (const char* name : {"llama-plain-f16", "llama-plain", "qwen3-plain", "gemma3-plain", "gpt2-plain", "deepseek2-v3", "mamba2-plain"}) {
    SCOPED_TRACE(name);
    std::ifstream file(kModels + name + ".json");
    const auto golden = nlohmann::json::parse(file);
    const auto engine = open(std::string(name) + ".gguf", 4);
    std::vector<std::vector<TokenId>> texts;
    for (const auto& prompt : golden["prompts"]) texts.push_back(prompt["tokens"]);
    auto embedder = Embedder::start(*engine, {.pooling = Pooling::kLast}).value();
    const auto last = embed(*embedder, texts);
    ASSERT_TRUE(last) << last.error().message;
    for (size_t i = 0; i < texts.size(); ++i) {
      const auto expected = golden["prompts"][i]["hidden"]["final_norm"].get<std::vector<float>>();
      ASSERT_EQ((*last)[i].size(), expected.size());
      for (size_t j = 0; j < expected.size(); ++j) EXPECT_NEAR((*last)[i][j], expected[j], 0.02 + 0.02 * std::abs(expected[j])) << i << " " << j;
    }
    std::vector<std::vector<TokenId>> prefixes;
    for (size_t n = 1; n <= texts[0].size(); ++n) prefixes.emplace_back(texts[0].begin(), texts[0].begin() + static_cast<std::ptrdiff_t>(n));
    const auto each = embed(*embedder, prefixes);
    embedder.reset();
    embedder = Embedder::start(*engine, {.pooling = Pooling::kMean}).value();
    const auto mean = embed(*embedder, texts);
    ASSERT_TRUE(mean);
    for (size_t j = 0; j < (*mean)[0].size(); ++j) {
      double sum = 0;
      for (const auto& one : *each) sum += one[j];
      EXPECT_EQ((*mean)[0][j], static_cast<float>(sum / static_cast<double>(each->size())));
    }
    // However it is cut.
    const auto narrow = open(std::string(name) + ".gguf", 3, 7);
    for (const Pooling pooling : {Pooling::kMean, Pooling::kLast}) {
      auto cut = Embedder::start(*narrow, {.pooling = pooling}).value();
      const auto again = embed(*cut, texts);
      ASSERT_TRUE(again);
      EXPECT_EQ(*again, pooling == Pooling::kMean ? *mean : *last);
    }
  }
}

TEST(Embedder, SharesAnEngineWithAService) {
  const auto engine = [] {
    EngineOptions options;
    options.context = options.batch = 64;
    options.sequences = options.outputs = 4;
    options.threads = 2;
    options.shared_state = true;
    return Engine::open(kModels + "llama-plain.gguf", options).value();
  }();
  const auto turn = std::make_shared<Turn>();
  auto embedder = Embedder::start(*engine, {.turn = turn, .pooling = Pooling::kMean, .sequences = 2}).value();
  ServiceOptions options{.turn = turn};
  options.scheduler.max_running = 2;
  auto service = Service::start(*engine, options).value();
  const auto alone = embed(*embedder, {{5, 6, 7}});
  std::promise<void> ended;
  std::vector<TokenId> drawn;
  ASSERT_TRUE(service->submit({.prompt = {1, 2, 3}, .max_new_tokens = 40, .sampling = {.temperature = 0, .logit_bias = {}}, .ignore_end = true}, [&](const Update& u) {
    if (u.token) drawn.push_back(u.token->id);
    if (u.finish != Finish::kNone) ended.set_value();
  }));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(*embed(*embedder, {{5, 6, 7}}), *alone);
  ended.get_future().get();
  EXPECT_EQ(drawn.size(), 40u);
}

}  // namespace
}  // namespace venturi
