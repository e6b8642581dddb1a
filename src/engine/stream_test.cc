// Models that stream their weights from disk: the bits of a resident run, whatever is pinned, however
// the disk is read; and a disk that fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "engine/engine.h"
#include "formats/test_files.h"

namespace venturi {

namespace {

using testing::AllOf;
using testing::HasSubstr;
using Row = std::vector<float>;

const std::string kSource = VENTURI_SOURCE_DIR;

std::vector<std::string> model_paths() {
  std::vector<std::string> paths{kSource + "/models/tiny-llama-q8_0.gguf"};
  for (const auto& entry : std::filesystem::directory_iterator(kSource + "/tests/data/models"))
    if (entry.path().extension() == ".gguf") paths.push_back(entry.path().string());
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::unique_ptr<Engine> open_engine(const std::string& path, EngineOptions options) {
  options.context = 64;
  options.batch = options.outputs = 48;
  options.sequences = 2;
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

// Two sequences of 20 and 13 tokens: a chunk of both in one step, then the rest of each in steps of
// `chunk`. All output rows.
std::vector<Row> run_rows(Engine& engine, int64_t chunk) {
  const auto a = tokens_of(engine, 20, 1), b = tokens_of(engine, 13, 2);
  auto sa = engine.new_sequence(), sb = engine.new_sequence();
  EXPECT_TRUE(sa && sb);
  std::vector<Row> rows;
  const auto step = [&](std::vector<TokenId> tokens, std::vector<Span> spans) {
    Step s{.tokens = std::move(tokens), .spans = std::move(spans), .output_rows = {}};
    for (int64_t r = 0; r < s.n_rows(); ++r) s.output_rows.push_back(r);
    const auto out = engine.step(s);
    ASSERT_TRUE(out) << out.error().message;
    for (int64_t r = 0; r < (*out)->rows(); ++r) rows.emplace_back((*out)->row(r), (*out)->row(r) + (*out)->cols());
  };
  const bool whole = engine.info().whole_spans;
  const int64_t first_a = whole ? 20 : 9, first_b = whole ? 13 : 5;
  std::vector<TokenId> both(a.begin(), a.begin() + first_a);
  both.insert(both.end(), b.begin(), b.begin() + first_b);
  step(both, {{.row_begin = 0, .n_rows = first_a, .position = 0, .state = sa->get()},
              {.row_begin = first_a, .n_rows = first_b, .position = 0, .state = sb->get()}});
  for (const auto& [tokens, state, first] : {std::tuple{&a, sa->get(), first_a}, std::tuple{&b, sb->get(), first_b}})
    for (int64_t at = first; at < static_cast<int64_t>(tokens->size());) {
      const int64_t n = std::min<int64_t>(chunk, static_cast<int64_t>(tokens->size()) - at);
      step({tokens->begin() + at, tokens->begin() + at + n},
           {{.row_begin = 0, .n_rows = n, .position = at, .state = state}});
      at += n;
    }
  return rows;
}

class Streamed : public testing::TestWithParam<std::string> {};

TEST_P(Streamed, SameBitsWhateverIsPinnedAndHoweverItIsRead) {
  auto resident = open_engine(GetParam(), {});
  ASSERT_TRUE(resident);
  EXPECT_FALSE(resident->residency().streams());
  const auto rows = run_rows(*resident, 4);
  const uint64_t least = least_residency_bytes(resident->catalog(), resident->uses());
  const uint64_t all = resident->catalog().bytes();
  ASSERT_LT(least, all);

  using Backend = DiskOptions::Backend;
  struct Way {
    uint64_t budget;
    int threads;
    bool repack;
    DiskOptions disk;
    int64_t chunk;
  };
  std::vector<Way> ways{{least, 2, true, {}, 1}, {least, 1, false, {.backend = Backend::kThreads}, 7},
                        {(least + all) / 2, 2, true, {.direct = false}, 4}};
  for (const uint64_t quarter : {1, 3})
    ways.push_back({least + (all - least) * quarter / 4, 2, true, {.backend = Backend::kThreads, .direct = false}, 3});
  for (const Way& way : ways) {
    auto plan = plan_residency(resident->catalog(), resident->uses(), way.budget);
    ASSERT_TRUE(plan) << plan.error().message;
    auto engine = open_engine(GetParam(), {.threads = way.threads, .repack = way.repack, .residency = *plan, .disk = way.disk});
    ASSERT_TRUE(engine);
    EXPECT_TRUE(engine->residency().streams() || way.budget != least);
    for (int round = 0; round < 2; ++round)  // the window goes on across steps and sequences
      ASSERT_EQ(run_rows(*engine, way.chunk), rows) << "budget " << way.budget << " of " << all << ", round " << round;
    EXPECT_EQ(engine->disk_counters().disk_bytes > 0, engine->residency().streams());
    EXPECT_LE(engine->ledger().peak(), engine->footprint().peak());
  }
}

// Nothing but the budget given: what does not fit is streamed, down to the smallest that is named.
TEST_P(Streamed, BudgetsDecide) {
  EngineOptions options{.memory = 1000};
  options.context = 64;
  const auto refused = Engine::open(GetParam(), options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kOutOfBudget);
  auto resident = open_engine(GetParam(), {});
  ASSERT_TRUE(resident);
  const auto rows = run_rows(*resident, 4);
  for (uint64_t memory = resident->footprint().peak() - 1; ; memory = memory * 4 / 5) {
    EngineOptions o{.memory = memory, .context = 64, .batch = 48, .outputs = 48, .sequences = 2, .threads = 2};
    auto engine = Engine::open(GetParam(), o);
    if (!engine) {
      EXPECT_EQ(engine.error().code, Code::kOutOfBudget) << engine.error().message;
      break;
    }
    EXPECT_TRUE((*engine)->residency().streams());
    EXPECT_LE((*engine)->footprint().peak(), memory);
    EXPECT_EQ(run_rows(**engine, 4), rows) << memory;
    EXPECT_LE((*engine)->ledger().peak(), memory);
  }
}

// Every decoding step reads what is not pinned once, and no more.
TEST_P(Streamed, AStepReadsWhatIsNotPinned) {
  auto resident = open_engine(GetParam(), {});
  ASSERT_TRUE(resident);
  if (resident->info().whole_spans) GTEST_SKIP() << "does not decode";
  const uint64_t least = least_residency_bytes(resident->catalog(), resident->uses());
  auto plan = plan_residency(resident->catalog(), resident->uses(), (2 * least + resident->catalog().bytes()) / 3);
  ASSERT_TRUE(plan);
  const auto forecast = forecast_residency(resident->catalog(), resident->uses(), *plan);
  if (forecast.routed_bytes > 0) GTEST_SKIP() << "reads what the routing chooses";
  auto engine = open_engine(GetParam(), {.residency = *plan});
  ASSERT_TRUE(engine);
  auto sequence = engine->new_sequence();
  ASSERT_TRUE(sequence);
  const auto tokens = tokens_of(*engine, 24, 1);
  const auto decode = [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) ASSERT_TRUE(engine->feed(**sequence, {&tokens[i], 1}));
  };
  decode(0, 4);
  const uint64_t before = engine->disk_counters().disk_bytes;
  decode(4, 24);
  const double read = static_cast<double>(engine->disk_counters().disk_bytes - before) / 20;
  // Pieces of a few rows come with the rest of their blocks: one on either side at most. So do the rows
  // of the tables (three at most) and what the window holds at either end.
  double pieces = 0;
  for (const WeightPlan& w : plan->weights)
    for (const auto& weight : engine->catalog().matrices())
      if (weight->name == w.name)
        pieces += static_cast<double>(weight->n_planes * ((weight->n_out - w.pinned_rows) /
                                                          segment_rows(*weight, w.pinned_rows, plan->segment_bytes) + 1));
  const double window = static_cast<double>(plan->window_bytes) / 20;
  EXPECT_GE(read, static_cast<double>(forecast.cycle_bytes) - window);
  EXPECT_LE(read, static_cast<double>(forecast.cycle_bytes) + window + 8192 * (pieces + 3));
}

// The file shrinks under the engine: the step that needs what is gone fails, naming file and offset;
// once it is back, the next one gives the right bits.
TEST_P(Streamed, AStepFailsWithTheDiskAndTheNextOneWorks) {
  TemporaryFolder folder;
  const std::string path = folder.path + "/model.gguf";
  std::filesystem::copy_file(GetParam(), path);
  auto resident = open_engine(GetParam(), {});
  ASSERT_TRUE(resident);
  auto plan = plan_residency(resident->catalog(), resident->uses(),
                             least_residency_bytes(resident->catalog(), resident->uses()));
  ASSERT_TRUE(plan);
  auto engine = open_engine(path, {.residency = *plan});
  ASSERT_TRUE(engine);
  const auto tokens = tokens_of(*engine, 13, 2);
  const auto feed = [&](Engine& e, SequenceState& sequence) -> Result<Row> {
    const auto out = TRY(e.feed(sequence, tokens));
    return Row(out.begin(), out.end());
  };
  auto expected_sequence = resident->new_sequence();
  const auto expected = feed(*resident, **expected_sequence);
  ASSERT_TRUE(expected);

  auto sequence = engine->new_sequence();
  ASSERT_TRUE(sequence);
  const uint64_t size = std::filesystem::file_size(path);
  std::filesystem::resize_file(path, size / 3);
  for (int i = 0; i < 3; ++i) {
    const auto failed = feed(*engine, **sequence);
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, Code::kIo);
    EXPECT_THAT(failed.error().message, AllOf(HasSubstr(path), HasSubstr("truncated")));
    EXPECT_EQ((*sequence)->length(), 0);
  }
  // Back in place: the same inode, the same bytes.
  auto original = File::open(GetParam());
  ASSERT_TRUE(original);
  std::vector<uint8_t> bytes(size);
  ASSERT_TRUE(original->read_exact(0, bytes));
  std::FILE* out = std::fopen(path.c_str(), "r+b");
  ASSERT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), out), bytes.size());
  std::fclose(out);
  // What was read ahead of use while the file was short may still fail, once for each such piece.
  Result<Row> again = error(Code::kIo, "not tried");
  for (int i = 0; i < 1000 && !again; ++i) again = feed(*engine, **sequence);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(*again, *expected);
}

std::string model_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = std::filesystem::path(info.param).stem().string();
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Models, Streamed, testing::ValuesIn(model_paths()), model_name);

}  // namespace

}  // namespace venturi
