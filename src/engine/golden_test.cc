// Every golden model (tools/golden/README.md) through the façade: right logits, right continuations,
// and the same bits however a step is cut, threaded, laid out or shared.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/engine.h"

namespace venturi {

namespace {

using Json = nlohmann::json;
using Row = std::vector<float>;

const std::string kFolder = std::string(VENTURI_SOURCE_DIR) + "/tests/data/models/";

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder))
    if (entry.path().extension() == ".gguf") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

struct Setting {
  int threads = 2;
  bool repack = true;
  int sequences = 2;
};

std::unique_ptr<Engine> open_golden(const std::string& name, const Setting& setting = {}) {
  // 57 tokens at most; bert's and gpt2's position tables end at 64.
  auto engine = Engine::open(kFolder + name + ".gguf", {.context = 64,
                                                        .batch = 128,
                                                        .outputs = 128,
                                                        .sequences = setting.sequences,
                                                        .threads = setting.threads,
                                                        .repack = setting.repack});
  EXPECT_TRUE(engine) << (engine ? "" : engine.error().message);
  return engine ? std::move(engine).value() : nullptr;
}

std::vector<int64_t> every_row(int64_t n) {
  std::vector<int64_t> rows(static_cast<size_t>(n));
  for (int64_t r = 0; r < n; ++r) rows[r] = r;
  return rows;
}

// Output rows of `tokens`, fed `chunk` at a time (0: at once), of a new sequence.
std::vector<Row> run_rows(Engine& engine, const std::vector<TokenId>& tokens, int64_t chunk = 0) {
  auto sequence = engine.new_sequence();
  EXPECT_TRUE(sequence);
  std::vector<Row> rows;
  const auto total = static_cast<int64_t>(tokens.size());
  for (int64_t at = 0; at < total;) {
    const int64_t n = chunk > 0 ? std::min(chunk, total - at) : total;
    Step step;
    step.tokens.assign(tokens.begin() + at, tokens.begin() + at + n);
    step.spans = {{.row_begin = 0, .n_rows = n, .position = at, .state = sequence->get()}};
    step.output_rows = every_row(n);
    const auto out = engine.step(step);
    EXPECT_TRUE(out) << (out ? "" : out.error().message);
    for (int64_t r = 0; r < (*out)->rows(); ++r) rows.emplace_back((*out)->row(r), (*out)->row(r) + (*out)->cols());
    at += n;
  }
  return rows;
}

std::vector<std::vector<TokenId>> prompts_of(const Json& golden) {
  std::vector<std::vector<TokenId>> prompts;
  for (const Json& prompt : golden["prompts"]) prompts.push_back(prompt["tokens"].get<std::vector<TokenId>>());
  return prompts;
}

double deviation(const Row& row, const Row& expected) {
  EXPECT_EQ(row.size(), expected.size());
  double largest = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    const double d = std::abs(static_cast<double>(row[i]) - expected[i]);
    if (!(d <= largest)) largest = d;  // NaN counts
  }
  return largest;
}

class Golden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::ifstream file(kFolder + GetParam() + ".json");
    golden_ = Json::parse(file, nullptr, false);
    ASSERT_TRUE(golden_.is_object());
  }
  Json golden_;
};

TEST_P(Golden, LogitsAndContinuations) {
  auto engine = open_golden(GetParam());
  ASSERT_TRUE(engine);
  double largest = 0;
  for (const Json& prompt : golden_["prompts"]) {
    auto tokens = prompt["tokens"].get<std::vector<TokenId>>();
    if (prompt.contains("pooled")) {
      largest = std::max(largest, deviation(run_rows(*engine, tokens)[0], prompt["pooled"].get<Row>()));
      continue;
    }
    const auto rows = run_rows(*engine, tokens);
    for (const Json& at : prompt["logits"])
      largest = std::max(largest, deviation(rows[at["position"].get<size_t>()], at["values"].get<Row>()));
    auto sequence = engine->new_sequence();
    ASSERT_TRUE(sequence);
    std::vector<TokenId> greedy;
    for (std::vector<TokenId> next = tokens; greedy.size() < prompt["greedy"].size(); next = {greedy.back()}) {
      const auto logits = engine->feed(**sequence, next);
      ASSERT_TRUE(logits) << logits.error().message;
      greedy.push_back(static_cast<TokenId>(std::max_element((*logits).begin(), (*logits).end()) - (*logits).begin()));
    }
    EXPECT_EQ(greedy, prompt["greedy"].get<std::vector<TokenId>>());
  }
  std::printf("deviation %s %.3g\n", GetParam().c_str(), largest);
  EXPECT_LE(largest, 1e-2);
}

INSTANTIATE_TEST_SUITE_P(Models, Golden, testing::ValuesIn(golden_names()), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace

}  // namespace venturi
