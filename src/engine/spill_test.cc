// Models whose state is partly in a file: the bits of a run in memory, however little of it there
// is, and disks that fail.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "engine/engine.h"
#include "formats/test_files.h"

namespace venturi {

namespace {

using testing::AllOf;
using testing::HasSubstr;
using Row = std::vector<float>;

constexpr int64_t kContext = 1300, kBatch = 150;

std::string path_of(const std::string& name) {
  return std::string(VENTURI_SOURCE_DIR) + "/tests/data/models/" + name + ".gguf";
}

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(VENTURI_SOURCE_DIR) + "/tests/data/models"))
    if (entry.path().extension() == ".gguf") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

EngineOptions options_of(EngineOptions o) {
  o.context = kContext;
  o.batch = o.outputs = kBatch;
  o.sequences = 2;
  if (o.threads == 0) o.threads = 2;
  return o;
}

std::unique_ptr<Engine> open_engine(const std::string& name, EngineOptions options = {}) {
  auto engine = Engine::open(path_of(name), options_of(std::move(options)));
  EXPECT_TRUE(engine) << (engine ? "" : engine.error().message);
  return engine ? std::move(engine).value() : nullptr;
}

uint64_t least_state(const Engine& engine) {
  return plan_state(engine.info().slots, {.tokens = kContext, .sequences = 2, .rows = kBatch}, 0)
      .bytes;
}

TokenId token(const Engine& engine, int64_t seed, int64_t i) {
  return static_cast<TokenId>((i * 7919 + seed * 31 + i * i % 101 + 3) % engine.info().vocab_size);
}

struct Track {
  SequenceState* state;
  int64_t seed;
  std::vector<Row> rows;
};

// One step of the next rows of each; every output row is kept.
Status advance(Engine& engine, std::vector<std::pair<Track*, int64_t>> parts) {
  Step step;
  for (auto& [run, n] : parts) {
    step.spans.push_back({.row_begin = step.n_rows(),
                          .n_rows = n,
                          .position = run->state->length(),
                          .state = run->state});
    for (int64_t i = 0; i < n; ++i) {
      step.output_rows.push_back(step.n_rows());
      step.tokens.push_back(token(engine, run->seed, run->state->length() + i));
    }
  }
  const Act* out = TRY(engine.step(step));
  int64_t row = 0;
  for (auto& [run, n] : parts)
    for (int64_t i = 0; i < n; ++i, ++row)
      run->rows.emplace_back(out->row(row), out->row(row) + out->cols());
  return {};
}

// Two sequences to 1205 and 763 tokens, `chunk` rows a step, at last decoded together.
std::vector<Row> run_two(Engine& engine, int64_t chunk) {
  auto a = engine.new_sequence().value(), b = engine.new_sequence().value();
  Track of_a{a.get(), 1, {}}, of_b{b.get(), 2, {}};
  const auto go = [&](std::vector<std::pair<Track*, int64_t>> parts) {
    const Status status = advance(engine, std::move(parts));
    EXPECT_TRUE(status) << status.error().message;
    return status.ok();
  };
  bool well = true;
  while (well && b->length() < 757) {
    const int64_t n = std::min(chunk, 757 - b->length());
    well = go({{&of_a, std::min(n, 150 - n)}, {&of_b, n}});
  }
  while (well && a->length() < 1199) well = go({{&of_a, std::min(chunk, 1199 - a->length())}});
  for (int i = 0; well && i < 6; ++i) well = go({{&of_b, 1}, {&of_a, 1}});
  of_a.rows.insert(of_a.rows.end(), of_b.rows.begin(), of_b.rows.end());
  return std::move(of_a.rows);
}

class Spilled : public testing::TestWithParam<std::string> {};

TEST_P(Spilled, SameBitsHoweverLittleIsInMemory) {
  const auto shape = Engine::open(path_of(GetParam()), {.context = 48});
  ASSERT_TRUE(shape);
  if ((*shape)->info().max_context > 0)
    GTEST_SKIP() << "has positions for " << (*shape)->info().max_context;
  auto resident = open_engine(GetParam());
  ASSERT_TRUE(resident);
  EXPECT_EQ(resident->state_pool().file(), nullptr);
  const uint64_t least = least_state(*resident), all = resident->footprint().state;
  const bool can =
      plan_state(resident->info().slots, {.tokens = kContext, .sequences = 2, .rows = kBatch}, 0)
          .spills();
  if (!can) GTEST_SKIP() << "its state does not grow";
  const auto rows = run_two(*resident, 75);

  TemporaryFolder folder;
  struct Way {
    uint64_t limit;
    int threads;
    int64_t chunk;
    DiskOptions disk;
  };
  using Backend = DiskOptions::Backend;
  for (const Way& way :
       {Way{least, 2, 75, {}}, Way{least, 1, 31, {.backend = Backend::kThreads, .direct = false}},
        Way{(least + all) / 2, 3, 64, {.backend = Backend::kThreads}}}) {
    auto engine = open_engine(GetParam(), {.threads = way.threads,
                                           .state_memory = way.limit,
                                           .spill = folder.path,
                                           .disk = way.disk});
    ASSERT_TRUE(engine);
    EXPECT_LE(engine->footprint().state, way.limit);
    EXPECT_GT(engine->footprint().state_file, 0u);
    ASSERT_NE(engine->state_pool().file(), nullptr);
    EXPECT_THAT(engine->state_pool().file()->path(), HasSubstr(folder.path));
    EXPECT_TRUE(std::filesystem::is_empty(folder.path));
    ASSERT_TRUE(run_two(*engine, way.chunk) == rows)
        << "limit " << way.limit << " of " << all << ", chunk " << way.chunk;
    EXPECT_GT(engine->state_counters().written_bytes, 0u);
    EXPECT_GT(engine->state_counters().read_bytes, 0u);
    EXPECT_LE(engine->ledger().peak(), engine->footprint().peak());
    EXPECT_LE(engine->context().arena_peak(), engine->footprint().activations);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Spilled, testing::ValuesIn(golden_names()), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

std::vector<Row> expected_rows(const std::string& name, int64_t seed, int64_t n) {
  auto engine = open_engine(name);
  auto sequence = engine->new_sequence().value();
  Track run{sequence.get(), seed, {}};
  while (sequence->length() < n && !testing::Test::HasFailure())
    EXPECT_TRUE(advance(*engine, {{&run, std::min<int64_t>(kBatch, n - sequence->length())}}));
  return run.rows;
}

TEST(Spill, ASequenceIsCutInTheFileAndGoesOn) {
  const auto expected = expected_rows("llama-plain", 3, 1000);
  auto resident = open_engine("llama-plain");
  TemporaryFolder folder;
  auto engine =
      open_engine("llama-plain", {.state_memory = least_state(*resident), .spill = folder.path});
  auto sequence = engine->new_sequence().value();
  Track run{sequence.get(), 3, {}};
  const auto to = [&](int64_t n) {
    while (sequence->length() < n) {
      const Status status =
          advance(*engine, {{&run, std::min<int64_t>(111, n - sequence->length())}});
      ASSERT_TRUE(status) << status.error().message;
    }
  };
  to(900);
  for (const int64_t cut : {850, 640, 321, 64, 1, 0}) {
    ASSERT_TRUE(sequence->truncate(cut));
    run.rows.resize(cut);
    // Between: other tokens in the same places.
    run.seed = 4;
    to(cut + 200);
    ASSERT_TRUE(sequence->truncate(cut));
    run.rows.resize(cut);
    run.seed = 3;
    to(1000);
    ASSERT_TRUE(run.rows == expected) << cut;
  }
}

// What a step at `position` before the end overwrites is forgotten.
TEST(Spill, AStepMayGoBack) {
  const auto expected = expected_rows("qwen2-plain", 3, 700);
  auto resident = open_engine("qwen2-plain");
  TemporaryFolder folder;
  auto engine =
      open_engine("qwen2-plain", {.state_memory = least_state(*resident), .spill = folder.path});
  auto sequence = engine->new_sequence().value();
  Track run{sequence.get(), 3, {}};
  while (sequence->length() < 700) ASSERT_TRUE(advance(*engine, {{&run, 100}}));
  Step step;
  for (int64_t i = 0; i < 50; ++i) {
    step.tokens.push_back(token(*engine, 3, 230 + i));
    step.output_rows.push_back(i);
  }
  step.spans = {{.row_begin = 0, .n_rows = 50, .position = 230, .state = sequence.get()}};
  const auto out = engine->step(step);
  ASSERT_TRUE(out);
  EXPECT_EQ(sequence->length(), 280);
  for (int64_t i = 0; i < 50; ++i)
    EXPECT_EQ(Row((*out)->row(i), (*out)->row(i) + (*out)->cols()), expected[230 + i]);
}

// ---- budgets
// ----------------------------------------------------------------------------------------

TEST(Spill, WhatABudgetRefusesItTakesWithAFile) {
  auto resident = open_engine("llama-plain");
  const Footprint& all = resident->footprint();
  const auto rows = run_two(*resident, 75);
  TemporaryFolder folder;
  int accepted = 0;
  for (uint64_t memory = all.peak() - 1;; memory = memory * 9 / 10) {
    auto refused =
        Engine::open(path_of("llama-plain"),
                     options_of({.memory = memory, .wishes = {.pinned_bytes = UINT64_MAX}}));
    auto engine =
        Engine::open(path_of("llama-plain"), options_of({.memory = memory, .spill = folder.path}));
    if (!engine) {
      EXPECT_EQ(engine.error().code, Code::kOutOfBudget) << engine.error().message;
      EXPECT_FALSE(refused);
      break;
    }
    if (!refused) {
      ++accepted;
      EXPECT_THAT(refused.error().message, HasSubstr("--spill"));
    }
    EXPECT_LE((*engine)->footprint().peak(), memory);
    ASSERT_TRUE(run_two(**engine, 75) == rows) << memory;
    EXPECT_LE((*engine)->ledger().peak(), memory);
  }
  EXPECT_GT(accepted, 0);
}

TEST(Spill, LessThanAStepNeedsIsRefused) {
  auto resident = open_engine("llama-plain");
  const auto refused = Engine::open(path_of("llama-plain"),
                                    options_of({.state_memory = least_state(*resident) - 1}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kOutOfBudget);
}

TEST(Spill, ADiskWithoutTheRoomIsRefused) {
  TemporaryFolder folder;
  if (mount("none", folder.path.c_str(), "tmpfs", 0, "size=64k") != 0)
    GTEST_SKIP() << "a file system cannot be mounted here";
  auto resident = open_engine("llama-plain");
  const auto refused =
      Engine::open(path_of("llama-plain"),
                   options_of({.state_memory = least_state(*resident), .spill = folder.path}));
  umount(folder.path.c_str());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kOutOfBudget);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr(folder.path), HasSubstr("65.5 kB")));
}

// ---- faults
// -----------------------------------------------------------------------------------------

// Room when it was opened, full when it is written to.
TEST(Spill, ADiskThatFillsFailsTheStepAndSmallerStatesGoOn) {
  TemporaryFolder folder;
  if (mount("none", folder.path.c_str(), "tmpfs", 0, "size=64m") != 0)
    GTEST_SKIP() << "a file system cannot be mounted here";
  const auto expected = expected_rows("llama-plain", 3, 300);
  auto resident = open_engine("llama-plain");
  auto engine =
      open_engine("llama-plain", {.state_memory = least_state(*resident), .spill = folder.path});
  {
    std::vector<uint8_t> bytes(1 << 20);
    std::optional<AtomicFile> hog(AtomicFile::create(folder.path + "/hog").value());
    while (hog->append(bytes)) {
    }
    auto sequence = engine->new_sequence().value();
    Track run{sequence.get(), 3, {}};
    Status status;
    while (status && sequence->length() < 1000) status = advance(*engine, {{&run, 50}});
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, Code::kIo);
    EXPECT_THAT(status.error().message, AllOf(HasSubstr(engine->state_pool().file()->path()),
                                              HasSubstr("No space left"), HasSubstr("offset")));
    const int64_t length = sequence->length();
    EXPECT_EQ(static_cast<int64_t>(run.rows.size()), length);
    EXPECT_FALSE(advance(*engine, {{&run, 50}}));
    EXPECT_EQ(sequence->length(), length);
    // Another sequence that fits goes on beside it, once this one makes room.
    EXPECT_TRUE(sequence->truncate(10));
    auto other = engine->new_sequence().value();
    Track of_other{other.get(), 3, {}};
    EXPECT_TRUE(advance(*engine, {{&of_other, 100}}));
    // The disk has room again.
    hog.reset();
  }
  auto sequence = engine->new_sequence().value();
  Track run{sequence.get(), 3, {}};
  while (sequence->length() < 300) ASSERT_TRUE(advance(*engine, {{&run, 50}}));
  EXPECT_TRUE(run.rows == expected);
  engine.reset();
  umount(folder.path.c_str());
}

// Every descriptor through which the file is read.
std::vector<int> reading_descriptors(const std::string& path) {
  std::vector<int> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
    const int fd = std::stoi(entry.path().filename().string());
    if (target.rfind(path, 0) == 0 && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY)
      found.push_back(fd);
  }
  return found;
}

// The file's descriptors are made to stand for memory at address 0, which the kernel refuses to
// read with EIO; when they are put back, the same sequence goes on with the right bits.
TEST(Spill, AReadErrorFailsTheStepAndTheNextOneWorks) {
  const auto expected = expected_rows("llama-plain", 3, 1000);
  auto resident = open_engine("llama-plain");
  TemporaryFolder folder;
  auto engine = open_engine("llama-plain", {.state_memory = least_state(*resident),
                                            .spill = folder.path,
                                            .disk = {.backend = DiskOptions::Backend::kThreads}});
  const std::string path = engine->state_pool().file()->path();
  auto sequence = engine->new_sequence().value();
  Track run{sequence.get(), 3, {}};
  while (sequence->length() < 900) ASSERT_TRUE(advance(*engine, {{&run, 100}}));
  for (int round = 0; round < 2; ++round) {
    const std::vector<int> fds = reading_descriptors(path);
    ASSERT_FALSE(fds.empty());
    const int bad = ::open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    ASSERT_GE(bad, 0);
    std::vector<int> kept;
    for (const int fd : fds) {
      kept.push_back(dup(fd));
      ASSERT_EQ(dup2(bad, fd), fd);
    }
    // What is in the ring already is not read again, so the first step may go well.
    Status status;
    for (int i = 0; i < 3 && status; ++i) status = advance(*engine, {{&run, 1}});
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, Code::kIo);
    EXPECT_THAT(status.error().message,
                AllOf(HasSubstr(path), HasSubstr("offset"), HasSubstr("Input/output error")));
    EXPECT_FALSE(advance(*engine, {{&run, 1}}));
    EXPECT_EQ(static_cast<int64_t>(run.rows.size()), sequence->length());
    for (size_t i = 0; i < fds.size(); ++i) {
      ASSERT_EQ(dup2(kept[i], fds[i]), fds[i]);
      ::close(kept[i]);
    }
    ::close(bad);
    const Status again = advance(*engine, {{&run, 30}});
    ASSERT_TRUE(again) << again.error().message;
  }
  EXPECT_TRUE(std::equal(run.rows.begin(), run.rows.end(), expected.begin()));
}

// The file is cut behind the engine's back: what was in it is lost, and only who needs it fails.
TEST(Spill, AShortFileFailsWhoNeedsIt) {
  const auto expected = expected_rows("llama-plain", 3, 400);
  auto resident = open_engine("llama-plain");
  TemporaryFolder folder;
  auto engine =
      open_engine("llama-plain", {.state_memory = least_state(*resident), .spill = folder.path});
  auto long_one = engine->new_sequence().value(), other = engine->new_sequence().value();
  Track run{long_one.get(), 3, {}}, of_other{other.get(), 3, {}};
  while (long_one->length() < 900) ASSERT_TRUE(advance(*engine, {{&run, 100}}));
  const std::string self =
      "/proc/self/fd/" + std::to_string(engine->state_pool().file()->file().fd());
  ASSERT_EQ(truncate(self.c_str(), 4096), 0);
  Status status;
  for (int i = 0; i < 3 && status; ++i) status = advance(*engine, {{&run, 1}});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kIo);
  EXPECT_THAT(status.error().message,
              AllOf(HasSubstr(engine->state_pool().file()->path()), HasSubstr("truncated")));
  while (other->length() < 400) {
    const Status fine = advance(*engine, {{&of_other, 40}});
    ASSERT_TRUE(fine) << fine.error().message;
  }
  EXPECT_TRUE(of_other.rows == expected);
}

}  // namespace

}  // namespace venturi
