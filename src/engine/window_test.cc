// Models whose tokens see a window: the state holds the window and a step, with the bits of one
// that holds everything.
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/engine.h"

namespace venturi {

namespace {

using Row = std::vector<float>;

class Windows : public testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<Engine> open(int64_t batch, int sequences = 1) const {
    EngineOptions options{
        .context = 1152, .batch = batch, .outputs = batch, .sequences = sequences, .threads = 2};
    auto engine = Engine::open(
        std::string(VENTURI_SOURCE_DIR) + "/tests/data/models/" + GetParam() + ".gguf", options);
    EXPECT_TRUE(engine) << (engine ? "" : engine.error().message);
    return engine ? std::move(engine).value() : nullptr;
  }
};

// Output rows of tokens [sequence.length(), end), `chunk` a step.
void run(Engine& engine, SequenceState& sequence, int64_t end, int64_t chunk,
         std::vector<Row>& rows) {
  while (sequence.length() < end) {
    const int64_t at = sequence.length(), n = std::min(chunk, end - at);
    Step step;
    for (int64_t i = 0; i < n; ++i) {
      step.tokens.push_back(static_cast<TokenId>(((at + i) * 7919 + 3) % engine.info().vocab_size));
      step.output_rows.push_back(i);
    }
    step.spans = {{.row_begin = 0, .n_rows = n, .position = at, .state = &sequence}};
    const auto out = engine.step(step);
    ASSERT_TRUE(out) << out.error().message;
    for (int64_t r = 0; r < n; ++r)
      rows.emplace_back((*out)->row(r), (*out)->row(r) + (*out)->cols());
  }
}

TEST_P(Windows, SameBitsInLessMemory) {
  auto everything = open(1152), small = open(50), smallest = open(1);
  ASSERT_TRUE(everything && small && smallest);
  uint64_t held_always = 0, windowed = 0;  // bytes of a page of all slots of a kind
  for (const SlotSpec& slot : everything->info().slots)
    (slot.window > 0 ? windowed : held_always) += slot.page_bytes();
  ASSERT_GT(windowed, 0u);
  const int64_t window = everything->info().slots[0].window;
  ASSERT_GT(window, 0);
  const auto planned = [&](uint64_t rows) {
    return 18 * held_always + ((static_cast<uint64_t>(window) + rows + 61) / 64 + 1) * windowed;
  };
  const uint64_t rounding = 4096 * everything->info().slots.size();
  EXPECT_GE(everything->footprint().state, 18 * (held_always + windowed));
  EXPECT_LE(small->footprint().state, planned(50) + rounding);
  EXPECT_LE(smallest->footprint().state, planned(1) + rounding);
  EXPECT_LE(small->ledger().peak(), small->footprint().peak());

  std::vector<Row> expected;
  auto sequence = everything->new_sequence().value();
  run(*everything, *sequence, 1100, 1100, expected);
  for (const int64_t chunk : {50, 13}) {
    std::vector<Row> rows;
    auto other = small->new_sequence().value();
    run(*small, *other, 1100, chunk, rows);
    EXPECT_EQ(rows, expected) << chunk;
  }
  std::vector<Row> rows;
  auto other = smallest->new_sequence().value();
  run(*smallest, *other, 300, 1, rows);
  EXPECT_EQ(rows, std::vector<Row>(expected.begin(), expected.begin() + 300));
}

// A sequence goes back within its last step, and from nothing at any time; its pages serve others.
TEST_P(Windows, CutAndGoOn) {
  auto engine = open(40, 2);
  ASSERT_TRUE(engine);
  std::vector<Row> expected, rows;
  {
    auto sequence = engine->new_sequence().value();
    run(*engine, *sequence, 400, 40, expected);
  }
  auto a = engine->new_sequence().value(), b = engine->new_sequence().value();
  run(*engine, *a, 240, 40, rows);
  EXPECT_TRUE(a->truncate(207));
  rows.resize(207);
  run(*engine, *a, 300, 31, rows);
  std::vector<Row> of_b;
  run(*engine, *b, 400, 40, of_b);
  run(*engine, *a, 400, 40, rows);
  EXPECT_EQ(rows, expected);
  EXPECT_EQ(of_b, expected);
  EXPECT_TRUE(a->truncate(0));
  rows.clear();
  run(*engine, *a, 400, 17, rows);
  EXPECT_EQ(rows, expected);
}

INSTANTIATE_TEST_SUITE_P(Models, Windows,
                         testing::Values("llama-window", "gemma2-plain", "gemma3-plain"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace

}  // namespace venturi
