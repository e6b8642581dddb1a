// Feed-forwards cut into tiles of rows: the same bits, in less memory.
#include <gtest/gtest.h>

#include <cstring>

#include "engine/engine.h"

namespace venturi {

namespace {

constexpr const char* kModel = VENTURI_SOURCE_DIR "/models/tiny-llama-q8_0.gguf";

std::vector<float> logits_after(int64_t batch, int64_t row_tile, uint64_t* peak) {
  auto engine = Engine::open(kModel, {.context = 448, .batch = batch, .threads = 2}).value();
  engine->context().set_row_tile(row_tile);
  auto sequence = engine->new_sequence().value();
  std::vector<TokenId> tokens;
  for (int i = 0; i < 401; ++i) tokens.push_back(3 + i * 37 % 1000);
  const auto logits = engine->feed(*sequence, tokens).value();
  *peak = engine->context().arena_peak();
  EXPECT_LE(row_tile > 0 ? *peak : 0, engine->footprint().activations);
  return {logits.begin(), logits.end()};
}

}  // namespace

TEST(RowTile, SameBitsInLessMemory) {
  uint64_t tiled_peak = 0, whole_peak = 0, short_peak = 0;
  const auto tiled = logits_after(448, Context::kRowTile, &tiled_peak);  // 192, 192, 17 rows
  const auto whole = logits_after(448, 0, &whole_peak);
  const auto chunks = logits_after(100, Context::kRowTile, &short_peak);
  ASSERT_EQ(tiled.size(), whole.size());
  EXPECT_EQ(std::memcmp(tiled.data(), whole.data(), tiled.size() * sizeof(float)), 0);
  EXPECT_EQ(std::memcmp(tiled.data(), chunks.data(), tiled.size() * sizeof(float)), 0);
  EXPECT_LT(tiled_peak, whole_peak);
}

}  // namespace venturi
