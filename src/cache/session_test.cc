// Sessions: what is read is what was written, in pools of every kind; what is damaged changes nothing.
#include "cache/session.h"

#include <gtest/gtest.h>

#include <cstring>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "cache/prefix_cache.h"

namespace venturi {
namespace {

constexpr uint64_t kModel = 42;
constexpr int64_t kVocab = 1000;

const std::vector<SlotSpec> kPaged = {SlotSpec::paged(2, 24, 20), SlotSpec::paged_latent(40, 32)};
const std::vector<SlotSpec> kMixed = {SlotSpec::paged(2, 24, 20), SlotSpec::recurrent(100), SlotSpec::paged(1, 8, 16, 150)};

struct Pool {
  std::shared_ptr<Ledger> ledger = Ledger::create();
  std::shared_ptr<StatePool> pool;
  Pool(const std::vector<SlotSpec>& slots, int64_t tokens, uint64_t limit = UINT64_MAX, int64_t blocks = 0) {
    auto made = StatePool::create(*ledger, slots, plan_state(slots, {.tokens = tokens, .sequences = 2, .rows = 64, .blocks = blocks}, limit));
    EXPECT_TRUE(made) << (made ? "" : made.error().message);
    pool = std::move(made).value();
  }
  StatePool* operator->() { return pool.get(); }
  StatePool& operator*() { return *pool; }
};

std::vector<int32_t> some_tokens(int64_t n) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < n; ++i) tokens.push_back(static_cast<int32_t>((i * 7 + 3) % kVocab));
  return tokens;
}

// As steps of up to 64 rows would fill it.
void fill(StatePool& pool, SequenceState& state, int64_t tokens) {
  for (int64_t position = 0; position < tokens;) {
    const int64_t rows = std::min<int64_t>(kPageTokens - position % kPageTokens, tokens - position);
    ASSERT_TRUE(state.prepare(position, rows));
    for (int slot = 0; slot < static_cast<int>(pool.slots().size()); ++slot) {
      const SlotSpec& spec = pool.slots()[slot];
      const int64_t block = position / kPageTokens;
      if (spec.kind == SlotSpec::Kind::kPaged) {
        auto* page = state.key_page(slot, block, 0);
        for (uint64_t i = 0; i < spec.page_bytes() / 2; ++i) page[i] = static_cast<uint16_t>(i * 31 + block * 977 + slot);
      } else {
        for (int64_t i = 0; i < spec.n_values; ++i) state.recurrent(slot)[i] = static_cast<float>(i + position);
      }
    }
    state.set_length(position += rows);
  }
}

void expect_filled(StatePool& pool, SequenceState& state, int64_t tokens) {
  ASSERT_EQ(state.length(), tokens);
  for (int slot = 0; slot < static_cast<int>(pool.slots().size()); ++slot) {
    const SlotSpec& spec = pool.slots()[slot];
    if (spec.kind != SlotSpec::Kind::kPaged) {
      const int64_t last = (tokens - 1) / kPageTokens * kPageTokens;
      for (int64_t i = 0; i < spec.n_values; ++i) ASSERT_EQ(state.recurrent(slot)[i], static_cast<float>(i + last));
      continue;
    }
    const int64_t first = spec.window > 0 ? std::max<int64_t>(0, tokens - spec.window + 1) / kPageTokens : 0;
    for (int64_t block = first; block * kPageTokens < tokens; ++block) {
      const bool spilled = block < state.spilled(slot);
      const uint16_t* page = nullptr;
      if (spilled) {
        auto split = state.fetch(slot, block / kBlocksPerSplit);
        ASSERT_TRUE(split);
        page = reinterpret_cast<const uint16_t*>(*split + block % kBlocksPerSplit * state.page_stride(slot));
      } else {
        page = state.key_page(slot, block, 0);
      }
      for (uint64_t i = 0; i < spec.page_bytes() / 2; ++i) ASSERT_EQ(page[i], static_cast<uint16_t>(i * 31 + block * 977 + slot)) << block;
      if (spilled) state.release();
    }
  }
}

class Session : public testing::Test {
 protected:
  Session() : folder_(std::filesystem::temp_directory_path() / ("session_test." + std::to_string(::getpid()))) {
    std::filesystem::create_directory(folder_);
  }
  ~Session() override { std::filesystem::remove_all(folder_); }

  std::string save(const std::vector<SlotSpec>& slots, int64_t length, int64_t tokens, const std::string& note = "{}") {
    Pool pool(slots, 1000);
    auto state = pool->new_sequence().value();
    fill(*pool, *state, length);
    const Status status = save_session(path(), {.model = kModel, .tokens = some_tokens(tokens), .length = length, .note = note}, *pool, *state);
    EXPECT_TRUE(status) << (status ? "" : status.error().message);
    return path();
  }
  std::string path() const { return (folder_ / "a.session").string(); }
  std::vector<char> bytes() const {
    std::ifstream in(path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::vector<char>& bytes) const {
    std::ofstream(path(), std::ios::binary | std::ios::trunc).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

  std::filesystem::path folder_;
};

TEST_F(Session, ComesBackInPoolsOfEveryKind) {
  for (const int64_t length : {1, 63, 64, 65, 500, 640, 777}) {
    save(kPaged, length, length + 1, "a note");
    // Each its own pages; a part of them in a file; pages that are shared.
    const std::vector<std::pair<uint64_t, int64_t>> kinds = {{UINT64_MAX, 0}, {1, 0}, {UINT64_MAX, 20}};
    for (const auto& [limit, blocks] : kinds) {
      Pool pool(kPaged, 800, limit, blocks);
      ASSERT_EQ(pool->plan().spills(), limit == 1);
      auto state = pool->new_sequence().value();
      const auto head = load_session(path(), kModel, kVocab, *pool, *state);
      ASSERT_TRUE(head) << head.error().message;
      EXPECT_EQ(head->tokens, some_tokens(length + 1));
      EXPECT_EQ(head->length, length);
      EXPECT_EQ(head->note, "a note");
      expect_filled(*pool, *state, length);
      // And goes out from there the same.
      const auto before = bytes();
      ASSERT_TRUE(save_session(path(), *head, *pool, *state));
      EXPECT_EQ(bytes(), before);
    }
  }
}

TEST_F(Session, KnowsWindowsAndRecurrentState) {
  for (const int64_t length : {1, 64, 150, 300, 777}) {
    save(kMixed, length, length);
    Pool pool(kMixed, 800);
    auto state = pool->new_sequence().value();
    const auto head = load_session(path(), kModel, kVocab, *pool, *state);
    ASSERT_TRUE(head) << head.error().message;
    expect_filled(*pool, *state, length);
    // What the window does not see is not there, and nothing that was never read is taken for it.
    EXPECT_EQ(state->whole(), length <= 150);
  }
}

TEST_F(Session, IsWrittenAndReadInSlices) {
  Pool from(kPaged, 1000), to(kPaged, 1000);
  auto written = from->new_sequence().value(), read = to->new_sequence().value();
  fill(*from, *written, 700);
  auto writer = SessionWriter::create(path(), {.model = kModel, .tokens = some_tokens(700), .length = 700, .note = {}}, *from, *written).value();
  int slices = 0;
  while (!writer->some(1).value()) ++slices;
  EXPECT_EQ(slices, 10);
  EXPECT_FALSE(std::filesystem::exists(path()));
  ASSERT_TRUE(writer->commit());
  EXPECT_EQ(std::filesystem::file_size(path()), writer->bytes());
  auto reader = SessionReader::open(path(), kModel, kPaged, kVocab, 1000).value();
  ASSERT_TRUE(reader->verify());
  for (slices = 0; !reader->some(*read, 1).value();) ++slices;
  EXPECT_EQ(slices, 10);
  expect_filled(*to, *read, 700);
}

TEST_F(Session, DamageIsFoundWhereverItIs) {
  save(kMixed, 130, 131, "note");
  const auto whole = bytes();
  std::mt19937 random(1);
  const auto refused = [&](Code code) {
    Pool pool(kMixed, 200);
    auto state = pool->new_sequence().value();
    const auto head = load_session(path(), kModel, kVocab, *pool, *state);
    EXPECT_FALSE(head);
    EXPECT_EQ(state->length(), 0);
    return !head && head.error().code == code;
  };
  for (int i = 0; i < 400; ++i) {
    auto damaged = whole;
    const size_t at = i < 200 ? static_cast<size_t>(i) % whole.size() : random() % whole.size();
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << random() % 8));
    write(damaged);
    Pool pool(kMixed, 200);
    auto state = pool->new_sequence().value();
    EXPECT_FALSE(load_session(path(), kModel, kVocab, *pool, *state)) << at;
    EXPECT_EQ(state->length(), 0);
  }
  for (const size_t size : {size_t{0}, size_t{1}, size_t{47}, size_t{48}, size_t{100}, whole.size() - 1}) {
    write({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
    EXPECT_TRUE(refused(Code::kCorrupt)) << size;
  }
  auto longer = whole;
  longer.push_back(0);
  write(longer);
  EXPECT_TRUE(refused(Code::kCorrupt));
  auto later = whole;
  later[8] = 2;
  write(later);
  EXPECT_TRUE(refused(Code::kUnsupported));
  std::filesystem::remove(path());
  EXPECT_TRUE(refused(Code::kNotFound));
}

TEST_F(Session, AnothersIsRefused) {
  save(kPaged, 100, 100);
  const auto code = [&](uint64_t model, const std::vector<SlotSpec>& slots, int64_t vocab, int64_t context) {
    auto reader = SessionReader::open(path(), model, slots, vocab, context);
    return reader ? Code::kIo : reader.error().code;
  };
  EXPECT_EQ(code(kModel + 1, kPaged, kVocab, 200), Code::kInvalidArgument);
  EXPECT_EQ(code(kModel, {kPaged[0]}, kVocab, 200), Code::kInvalidArgument);
  auto other = kPaged;
  std::swap(other[0], other[1]);
  EXPECT_EQ(code(kModel, other, kVocab, 200), Code::kInvalidArgument);
  EXPECT_EQ(code(kModel, kPaged, 10, 200), Code::kCorrupt);
  EXPECT_EQ(code(kModel, kPaged, kVocab, 99), Code::kOutOfBudget);
}

}  // namespace
}  // namespace venturi
