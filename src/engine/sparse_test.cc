// Feed-forwards read by neuron: the bits of the resident run whatever stays in memory, the bytes that were
// counted and no more, sidecars that are not what they should be, and a disk that fails.
#include "engine/sparse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "formats/convert.h"
#include "formats/test_files.h"

namespace venturi {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Row = std::vector<float>;

const std::string kModels = std::string(VENTURI_SOURCE_DIR) + "/tests/data/models/";

struct Case {
  const char* model;
  const char* type;  // null: as it is
};

// A model of the case in a folder of its own, with its sidecar.
class Sparse : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    path_ = folder_.path + "/model.gguf";
    const std::string source = kModels + GetParam().model;
    if (!GetParam().type) {
      std::filesystem::copy_file(source, path_);
    } else {
      auto model = open_model(source);
      ASSERT_TRUE(model);
      ConvertOptions options;
      options.type = GetParam().type;
      options.pure = true;
      ThreadPool pool(1);
      const auto report = convert_to_gguf(**model, path_, options, pool);
      ASSERT_TRUE(report) << report.error().message;
    }
    const auto written = prepare(path_, sidecar_path(path_));
    ASSERT_TRUE(written) << written.error().message;
  }

  static Result<uint64_t> prepare(const std::string& path, const std::string& out) {
    const auto file = TRY(open_model(path));
    WeightCatalog catalog(*file);
    const auto model = TRY(create_model(*file, catalog));
    ThreadPool pool(2);
    return write_sidecar(out, *file, neuron_layers(*model), pool);
  }

  std::unique_ptr<Engine> open(EngineOptions options) const {
    options.context = 64;
    options.batch = options.outputs = 48;
    options.sequences = 2;
    if (options.threads == 0) options.threads = 2;
    auto engine = Engine::open(path_, options);
    EXPECT_TRUE(engine) << (engine ? "" : engine.error().message);
    return engine ? std::move(engine).value() : nullptr;
  }

  // A plan with room for a share of the neurons.
  NeuronPlan plan(double share) const {
    const auto engine = open({.neurons = NeuronPlan{.ring_bytes = 4 << 20}});
    uint64_t all = 0;
    const auto file = open_model(path_);
    WeightCatalog catalog(**file);
    const auto model = create_model(**file, catalog);
    for (const NeuronLayer& layer : neuron_layers(**model)) {
      const auto bundle = bundle_layout(**file, layer);
      all += bundle->n_neurons * bundle->bytes;
    }
    NeuronPlan p{.window_bytes = static_cast<uint64_t>(share * static_cast<double>(all)) + 64, .ring_bytes = 4 << 20};
    return p;
  }

  TemporaryFolder folder_;
  std::string path_;
};

std::vector<TokenId> tokens_of(const Engine& engine, int64_t n, int64_t seed) {
  std::vector<TokenId> tokens(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) tokens[i] = static_cast<TokenId>((i * 7919 + seed * 31 + 3) % engine.info().vocab_size);
  return tokens;
}

// All output rows of two sequences of 20 tokens, one after the other: a chunk of both in one step, then in
// steps of `chunk`.
std::vector<Row> run_rows(Engine& engine, int64_t chunk) {
  const auto a = tokens_of(engine, 20, 1), b = tokens_of(engine, 20, 2);
  auto sa = engine.new_sequence(), sb = engine.new_sequence();
  EXPECT_TRUE(sa && sb);
  std::vector<Row> rows(40);
  for (int64_t at = 0; at < 20;) {
    const int64_t n = at == 0 ? 9 : std::min(chunk, 20 - at);
    Step s;
    for (const auto* tokens : {&a, &b}) s.tokens.insert(s.tokens.end(), tokens->begin() + at, tokens->begin() + at + n);
    s.spans = {{.row_begin = 0, .n_rows = n, .position = at, .state = sa->get()},
               {.row_begin = n, .n_rows = n, .position = at, .state = sb->get()}};
    for (int64_t r = 0; r < 2 * n; ++r) s.output_rows.push_back(r);
    const auto out = engine.step(s);
    if (!out) {
      ADD_FAILURE() << out.error().message;
      return rows;
    }
    for (int64_t r = 0; r < 2 * n; ++r)
      rows[static_cast<size_t>(r / n * 20 + at + r % n)].assign((*out)->row(r), (*out)->row(r) + (*out)->cols());
    at += n;
  }
  return rows;
}

TEST_P(Sparse, TheBitsOfTheResidentRun) {
  const auto resident = open({});
  ASSERT_TRUE(resident);
  EXPECT_FALSE(resident->neurons());
  const auto rows = run_rows(*resident, 4);
  using Backend = DiskOptions::Backend;
  for (const auto& [share, chunk, threads, disk, repack] :
       {std::tuple<double, int64_t, int, DiskOptions, bool>{0, 1, 2, {}, true},
        {0.1, 7, 1, {.backend = Backend::kThreads}, false},
        {0.5, 3, 2, {.direct = false}, true},
        {1, 4, 2, {}, true}})
    for (const uint64_t gap : {0, 8192}) {
      NeuronPlan p = plan(share);
      p.gap_bytes = gap;
      const auto engine = open({.threads = threads, .repack = repack, .neurons = p, .disk = disk});
      ASSERT_TRUE(engine);
      ASSERT_TRUE(engine->neurons());
      for (int round = 0; round < 2; ++round) ASSERT_TRUE(run_rows(*engine, chunk) == rows) << share << ", round " << round;
      const NeuronCounters c = engine->neurons()->counters();
      EXPECT_LT(c.active, c.asked * 3 / 4);
      EXPECT_LE(engine->ledger().peak(), engine->footprint().peak());
    }
}

// The smallest ring that is named, through which a layer goes in many runs.
TEST_P(Sparse, TheSmallestRingWorks) {
  const auto resident = open({});
  ASSERT_TRUE(resident);
  NeuronPlan p{.request_bytes = 1};
  const auto file = open_model(path_);
  WeightCatalog catalog(**file);
  const auto model = create_model(**file, catalog);
  const auto sidecar = Sidecar::open(sidecar_path(path_), **file, neuron_layers(**model));
  ASSERT_TRUE(sidecar) << sidecar.error().message;
  p.ring_bytes = least_neuron_ring(**sidecar, p);
  const auto engine = open({.neurons = p});
  ASSERT_TRUE(engine);
  EXPECT_TRUE(run_rows(*engine, 5) == run_rows(*resident, 5));
}

// Token by token: what is read is the newcomers' bundles, byte for byte where a disk has small blocks.
TEST_P(Sparse, ReadsTheNewcomersAndNoMore) {
  for (const double share : {0.0, 0.3}) {
    const auto engine = open({.neurons = plan(share)});
    ASSERT_TRUE(engine);
    auto sequence = engine->new_sequence();
    ASSERT_TRUE(sequence);
    const auto tokens = tokens_of(*engine, 24, 1);
    for (const TokenId& token : tokens) ASSERT_TRUE(engine->feed(**sequence, {&token, 1}));
    const NeuronCounters c = engine->neurons()->counters();
    EXPECT_EQ(c.rows, tokens.size() * engine->neurons()->n_layers());
    EXPECT_EQ(c.active, c.used);  // one row a step
    EXPECT_GT(c.newcomers, 0u);
    if (share == 0) {
      EXPECT_EQ(c.newcomers, c.used);
    } else {
      EXPECT_LT(c.newcomers, c.used);
    }
    if (small_block_size(*File::open(sidecar_path(path_))) == kBundleAlign) {
      EXPECT_EQ(c.disk_bytes, c.newcomer_bytes);
    } else {
      EXPECT_GE(c.disk_bytes, c.newcomer_bytes);
    }
  }
}

// With everything in memory each neuron is read once.
TEST_P(Sparse, WhatStaysIsReadOnce) {
  const auto engine = open({.neurons = plan(1)});
  ASSERT_TRUE(engine);
  run_rows(*engine, 1);
  const NeuronCounters first = engine->neurons()->counters();
  run_rows(*engine, 1);
  const NeuronCounters second = engine->neurons()->counters() - first;
  EXPECT_GT(second.used, 0u);
  EXPECT_EQ(second.newcomers, 0u);
  EXPECT_EQ(second.disk_bytes, 0u);
}

TEST_P(Sparse, ADiskThatFailsFailsTheStepAndTheNextOneWorks) {
  const auto resident = open({});
  const auto engine = open({.neurons = plan(0.2)});
  ASSERT_TRUE(resident && engine);
  const auto rows = run_rows(*resident, 4);
  const std::string sidecar = sidecar_path(path_);
  std::string bytes;
  {
    std::ifstream in(sidecar, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  std::filesystem::resize_file(sidecar, bytes.size() / 8 / 4096 * 4096);
  auto sequence = engine->new_sequence();
  ASSERT_TRUE(sequence);
  const auto tokens = tokens_of(*engine, 13, 2);
  for (int i = 0; i < 3; ++i) {
    const auto failed = engine->feed(**sequence, tokens);
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, Code::kIo);
    EXPECT_THAT(failed.error().message, AllOf(HasSubstr(sidecar), HasSubstr("truncated")));
    EXPECT_EQ((*sequence)->length(), 0);
  }
  std::FILE* out = std::fopen(sidecar.c_str(), "r+b");  // the same inode
  ASSERT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), out), bytes.size());
  std::fclose(out);
  sequence->reset();
  EXPECT_TRUE(run_rows(*engine, 4) == rows);
}

TEST_P(Sparse, ASidecarOfSomethingElseIsRefused) {
  const auto fails = [&](const std::string& what) {
    const auto engine = Engine::open(path_, {.neurons = NeuronPlan{.ring_bytes = 4 << 20}});
    ASSERT_FALSE(engine);
    EXPECT_EQ(engine.error().code, Code::kNotFound) << engine.error().message;  // warned, and not used
    const auto named = Engine::open(path_, {.sidecar = sidecar_path(path_), .neurons = NeuronPlan{.ring_bytes = 4 << 20}});
    ASSERT_FALSE(named);
    EXPECT_THAT(named.error().message, AllOf(HasSubstr(sidecar_path(path_)), HasSubstr(what), HasSubstr("venturi prepare")));
  };
  // Another weight: one byte in the middle of an up, where a sample is taken.
  const auto file = open_model(path_);
  ASSERT_TRUE(file);
  const TensorInfo* up = (*file)->find("blk.1.ffn_down.weight");
  ASSERT_TRUE(up);
  std::fstream edit(path_, std::ios::in | std::ios::out | std::ios::binary);
  edit.seekp(static_cast<std::streamoff>(up->segments[0].offset));
  const char old = static_cast<char>(edit.peek());
  edit.seekp(static_cast<std::streamoff>(up->segments[0].offset));
  edit.put(static_cast<char>(old ^ 1));
  edit.close();
  fails("another model");
  // Damaged bytes of the header, each field; cut off.
  ASSERT_TRUE(prepare(path_, sidecar_path(path_)));
  std::string bytes;
  {
    std::ifstream in(sidecar_path(path_), std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  const auto rewrite = [&](const std::string& contents) {
    std::ofstream(sidecar_path(path_), std::ios::binary) << contents;
  };
  for (const size_t at : {20, 24, 32, 40, 48, 56, 64, 200, 4000}) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x20);
    rewrite(damaged);
    fails("");
  }
  std::string newer = bytes;
  newer[16] = 2;
  rewrite(newer);
  fails("version 2");
  rewrite(bytes.substr(0, bytes.size() - 4096));
  fails("the file's length");
}

std::string case_name(const testing::TestParamInfo<Case>& info) {
  std::string name = std::filesystem::path(info.param.model).stem().string();
  if (info.param.type) name += std::string("_") + info.param.type;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Models, Sparse,
                         testing::Values(Case{"llama-relu.gguf", nullptr}, Case{"llama-relu.gguf", "Q8_0"},
                                         Case{"llama-relu.gguf", "Q4_0"}, Case{"llama-relu.gguf", "BF16"},
                                         Case{"llama-relu2-f16.gguf", nullptr}, Case{"gpt2-relu.gguf", nullptr}),
                         case_name);

// The key decides: the same file without it has no neurons to leave out.
TEST(SparseModels, OnlyAReluLeavesNeuronsOut) {
  for (const auto& [name, n] : {std::pair{"llama-relu.gguf", 2u}, {"gpt2-relu.gguf", 2u}, {"llama-plain.gguf", 0u}, {"gpt2-plain.gguf", 0u}}) {
    const auto file = open_model(kModels + name);
    ASSERT_TRUE(file);
    WeightCatalog catalog(**file);
    const auto model = create_model(**file, catalog);
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_EQ(neuron_layers(**model).size(), n) << name;
  }
}

TEST(SparseModels, ATypeWithoutColumnsIsNamed) {
  TemporaryFolder folder;
  const auto source = open_model(kModels + "llama-relu.gguf");
  ASSERT_TRUE(source);
  ConvertOptions options;
  options.type = "Q5_0";
  options.pure = true;
  ThreadPool pool(1);
  ASSERT_TRUE(convert_to_gguf(**source, folder.path + "/m.gguf", options, pool));
  const auto file = open_model(folder.path + "/m.gguf");
  WeightCatalog catalog(**file);
  const auto model = create_model(**file, catalog);
  const auto written = write_sidecar(folder.path + "/m.gguf.venturi", **file, neuron_layers(**model), pool);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, Code::kUnsupported);
  EXPECT_THAT(written.error().message, AllOf(HasSubstr("blk.0.ffn_down.weight"), HasSubstr("Q5_0"), HasSubstr("Q4_0")));
  EXPECT_FALSE(std::filesystem::exists(folder.path + "/m.gguf.venturi"));
}

}  // namespace
}  // namespace venturi
