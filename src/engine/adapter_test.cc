// Adapters through the façade and the service: unmerged is merged (tools/golden/make_adapters.py), on
// float and quantised weights; rows of many adapters in one step get the bits that each gets alone.
#include "engine/adapters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>

#include "base/random.h"
#include "engine/generate.h"
#include "engine/service.h"
#include "formats/gguf_write.h"
#include "formats/safetensors.h"

namespace venturi {
namespace {

using Json = nlohmann::json;
using Row = std::vector<float>;

const std::string kData = std::string(VENTURI_SOURCE_DIR) + "/tests/data/", kModels = kData + "models/", kAdapters = kData + "adapters/";
const std::string kTiny = std::string(VENTURI_SOURCE_DIR) + "/models/tiny-llama-q8_0.gguf";

class Folder {
 public:
  Folder() : path_((std::filesystem::temp_directory_path() / "venturi_adapter_XXXXXX").string()) {
    if (!::mkdtemp(path_.data())) std::abort();
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::vector<AdapterSource> sources(const std::vector<std::string>& names) {
  std::vector<AdapterSource> list;
  for (const std::string& name : names) list.push_back({.name = name, .path = kAdapters + name});
  return list;
}

EngineOptions small(int sequences = 4) {
  EngineOptions o;
  o.context = o.batch = o.outputs = 64;
  o.sequences = sequences;
  o.threads = 2;
  return o;
}

std::unique_ptr<Engine> open(const std::string& path, const EngineOptions& options) {
  auto engine = Engine::open(path, options);
  EXPECT_TRUE(engine) << (engine ? "" : engine.error().message);
  return engine ? std::move(engine).value() : nullptr;
}

std::unique_ptr<Engine> open_with(const std::string& path, std::vector<AdapterSource> adapters, int threads = 2) {
  EngineOptions o = small();
  o.threads = threads;
  o.adapters = std::move(adapters);
  return open(path, o);
}

// A sequence with an adapter, fed `chunk` tokens at a time (0: at once): a row of logits per token.
std::vector<Row> run_rows(Engine& engine, const std::vector<TokenId>& tokens, const Adapter* adapter, int64_t chunk = 0) {
  auto sequence = engine.new_sequence();
  EXPECT_TRUE(sequence);
  std::vector<Row> rows;
  const auto total = static_cast<int64_t>(tokens.size());
  for (int64_t at = 0; at < total;) {
    const int64_t n = chunk > 0 ? std::min(chunk, total - at) : total;
    Step step;
    step.tokens.assign(tokens.begin() + at, tokens.begin() + at + n);
    step.spans = {{.row_begin = 0, .n_rows = n, .position = at, .state = sequence->get(), .adapter = adapter}};
    for (int64_t r = 0; r < n; ++r) step.output_rows.push_back(r);
    const auto out = engine.step(step);
    EXPECT_TRUE(out) << (out ? "" : out.error().message);
    for (int64_t r = 0; r < n; ++r) rows.emplace_back((*out)->row(r), (*out)->row(r) + (*out)->cols());
    at += n;
  }
  return rows;
}

double deviation(const Row& a, const Row& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i)
    if (const double d = std::abs(static_cast<double>(a[i]) - b[i]); !(d <= largest)) largest = d;
  return largest;
}

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kAdapters))
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

Json read_json(const std::string& path) {
  std::ifstream file(path);
  return Json::parse(file, nullptr, false);
}

class GoldenAdapter : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    golden_ = read_json(kAdapters + GetParam() + ".json");
    ASSERT_TRUE(golden_.is_object());
    engine_ = open_with(kModels + golden_["model"].get<std::string>(), sources({GetParam()}));
    ASSERT_TRUE(engine_);
  }
  Json golden_;
  std::unique_ptr<Engine> engine_;
};

// Where keys and values are rounded to F16 a rounding may fall the other way (golden_test.cc), and these
// logits are larger than those of the models alone.
TEST_P(GoldenAdapter, IsTheMergedModel) {
  const bool has_cache = engine_->info().slots[0].kind == SlotSpec::Kind::kPaged;
  for (const Json& prompt : golden_["prompts"]) {
    const auto tokens = prompt["tokens"].get<std::vector<TokenId>>();
    const auto with = run_rows(*engine_, tokens, engine_->only_adapter()), without = run_rows(*engine_, tokens, nullptr);
    for (const Json& at : prompt["logits_f16_cache"]) {
      const Row expected = at["values"].get<Row>();
      const auto p = at["position"].get<size_t>();
      EXPECT_LE(deviation(with[p], expected), has_cache ? 6e-3 : 1e-4);
      EXPECT_GE(deviation(without[p], expected), 0.5);
    }
  }
}

TEST_P(GoldenAdapter, SameBitsHoweverItIsCut) {
  const auto tokens = golden_["prompts"][0]["tokens"].get<std::vector<TokenId>>();
  const auto whole = run_rows(*engine_, tokens, engine_->only_adapter());
  EXPECT_EQ(run_rows(*engine_, tokens, engine_->only_adapter(), 1), whole);
  EXPECT_EQ(run_rows(*engine_, tokens, engine_->only_adapter(), 7), whole);
  const auto alone = open_with(kModels + golden_["model"].get<std::string>(), sources({GetParam()}), 1);
  EXPECT_EQ(run_rows(*alone, tokens, alone->only_adapter(), 5), whole);
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenAdapter, testing::ValuesIn(golden_names()), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

const std::vector<std::string> kLlama = {"llama-all", "llama-attention", "llama-ffn"};

std::vector<TokenId> some_tokens(int64_t n, int seed) {
  std::vector<TokenId> tokens{1};
  for (int64_t i = 1; i < n; ++i) tokens.push_back(static_cast<TokenId>(3 + random_bits(seed, 0, i) % 270));
  return tokens;
}

TEST(Adapters, MixedInOneStep) {
  const auto engine = open_with(kModels + "llama-plain.gguf", sources(kLlama)), plain = open_with(kModels + "llama-plain.gguf", {});
  const auto& all = engine->adapters().all();
  const Adapter* of[] = {all[0].get(), nullptr, all[2].get(), all[1].get()};
  std::vector<std::vector<TokenId>> tokens;
  std::vector<std::vector<Row>> alone;
  std::vector<std::unique_ptr<SequenceState>> sequences;
  for (int s = 0; s < 4; ++s) {
    tokens.push_back(some_tokens(9 + 3 * s, s));
    alone.push_back(of[s] ? run_rows(*engine, tokens[s], of[s]) : run_rows(*plain, tokens[s], nullptr));
  }
  for (int s = 0; s < 4; ++s) sequences.push_back(std::move(engine->new_sequence()).value());
  // All prompts but their last three tokens in one ragged step, then three of decoding.
  for (int64_t round = 0; round < 4; ++round) {
    Step step;
    for (int s = 0; s < 4; ++s) {
      const int64_t known = static_cast<int64_t>(tokens[s].size()) - 3;
      const int64_t begin = round == 0 ? 0 : known + round - 1, end = known + round;
      step.spans.push_back({.row_begin = step.n_rows(), .n_rows = end - begin, .position = begin, .state = sequences[s].get(),
                            .adapter = of[s]});
      step.tokens.insert(step.tokens.end(), tokens[s].begin() + begin, tokens[s].begin() + end);
      step.output_rows.push_back(step.n_rows() - 1);
    }
    const auto out = engine->step(step);
    ASSERT_TRUE(out) << out.error().message;
    for (int s = 0; s < 4; ++s) {
      const int64_t at = static_cast<int64_t>(tokens[s].size()) - 4 + round;
      EXPECT_EQ(Row((*out)->row(s), (*out)->row(s) + (*out)->cols()), alone[s][at]) << "sequence " << s << ", round " << round;
    }
  }
}

TEST(Adapters, ScaleOverTheFiles) {
  auto half = sources({"llama-all"});
  half[0].scale = 0;
  const auto engine = open_with(kModels + "llama-plain.gguf", half), plain = open_with(kModels + "llama-plain.gguf", {});
  const auto tokens = some_tokens(12, 1);
  EXPECT_EQ(run_rows(*engine, tokens, engine->only_adapter()), run_rows(*plain, tokens, nullptr));
}

// ---- quantised weights --------------------------------------------------------------------------

// Random adapter of every block matrix of tiny-llama; the base's weights decoded and B A added to them is
// another file in F32. Inputs of the quantised products are rounded to 8 bits, which the F32 file's are
// not: what that costs the model alone, it may cost the adapted one.
class Quantised : public testing::Test {
 protected:
  static constexpr int64_t kRank = 8;
  static constexpr float kScale = 2;

  struct Made {
    std::string name;
    int64_t n_in, n_out;
    std::vector<float> a, b;
  };

  void write_adapter(const std::string& folder, uint64_t seed) {
    const std::unique_ptr<ModelFile> base = std::move(open_model(kTiny)).value();
    std::vector<SafeTensor> list;
    std::vector<std::vector<float>> data;
    made_.clear();
    for (const auto& [gguf, hf] : {std::pair("attn_v", "self_attn.v_proj"), {"attn_output", "self_attn.o_proj"},
                                   {"ffn_gate", "mlp.gate_proj"}, {"ffn_down", "mlp.down_proj"}})
      for (int64_t layer = 0;; ++layer) {
        const TensorInfo* info = base->find(fmt::format("blk.{}.{}.weight", layer, gguf));
        if (!info) break;
        Made m{info->name, info->n_in(), info->n_rows(), {}, {}};
        for (int64_t i = 0; i < kRank * m.n_in; ++i)
          m.a.push_back(static_cast<float>((2 * random_uniform(seed, made_.size(), i) - 1) / std::sqrt(static_cast<double>(m.n_in))));
        for (int64_t i = 0; i < kRank * m.n_out; ++i)
          m.b.push_back(static_cast<float>((2 * random_uniform(seed + 1, made_.size(), i) - 1) * 0.3));
        const std::string module = fmt::format("base_model.model.model.layers.{}.{}", layer, hf);
        list.push_back({.name = module + ".lora_A.weight", .dtype = "F32", .shape = {kRank, m.n_in}});
        data.push_back(m.a);
        list.push_back({.name = module + ".lora_B.weight", .dtype = "F32", .shape = {m.n_out, kRank}});
        data.push_back(m.b);
        made_.push_back(std::move(m));
      }
    std::filesystem::create_directories(folder);
    std::ofstream(folder + "/adapter_config.json")
        << Json{{"peft_type", "LORA"}, {"r", kRank}, {"lora_alpha", kScale * kRank}, {"target_modules", "all-linear"}};
    auto file = write_safetensors(folder + "/adapter_model.safetensors", list, {},
                                  [&](size_t i, const std::function<Status(std::span<const uint8_t>)>& sink) {
                                    return sink({reinterpret_cast<const uint8_t*>(data[i].data()), data[i].size() * 4});
                                  });
    ASSERT_TRUE(file);
    ASSERT_TRUE(file->commit());
  }

  // The base decoded, with the adapter last written added if `merged`.
  void write_decoded(const std::string& path, bool merged) {
    const std::unique_ptr<ModelFile> base = std::move(open_model(kTiny)).value();
    std::vector<GgufTensor> tensors;
    for (const TensorInfo& info : base->tensors) tensors.push_back({info.name, find_codec("F32"), info.dims});
    const auto source = [&](size_t index, const ByteSink& sink) -> Status {
      const TensorInfo& info = base->tensors[index];
      std::vector<float> values(static_cast<size_t>(info.n_values()));
      TRY(base->read_rows_f32(info, 0, values));
      for (const Made& m : made_)
        if (merged && m.name == info.name)
          for (int64_t r = 0; r < m.n_out; ++r)
            for (int64_t k = 0; k < m.n_in; ++k) {
              double sum = 0;
              for (int64_t j = 0; j < kRank; ++j) sum += static_cast<double>(m.b[r * kRank + j]) * m.a[j * m.n_in + k];
              values[r * m.n_in + k] += static_cast<float>(kScale * sum);
            }
      return sink({reinterpret_cast<const uint8_t*>(values.data()), values.size() * 4});
    };
    const auto written = write_gguf(path, base->metadata, tensors, source);
    ASSERT_TRUE(written) << written.error().message;
  }

  static double mean_deviation(const std::vector<Row>& a, const std::vector<Row>& b) {
    double sum = 0;
    int64_t n = 0;
    for (size_t r = 0; r < a.size(); ++r)
      for (size_t i = 0; i < a[r].size(); ++i, ++n) sum += std::abs(static_cast<double>(a[r][i]) - b[r][i]);
    return sum / static_cast<double>(n);
  }

  Folder folder_;
  std::vector<Made> made_;
};

TEST_F(Quantised, IsTheDecodedAndMergedModel) {
  const std::string adapter = folder_.path() + "/adapter", decoded = folder_.path() + "/decoded.gguf", merged = folder_.path() + "/merged.gguf";
  write_adapter(adapter, 5);
  write_decoded(decoded, false);
  write_decoded(merged, true);
  const auto engine = open_with(kTiny, {{.name = "a", .path = adapter}}), alone = open_with(decoded, {}), whole = open_with(merged, {}),
             floats = open_with(decoded, {{.name = "a", .path = adapter}});
  ASSERT_TRUE(engine && alone && whole && floats);
  const std::vector<TokenId> tokens = (*engine->tokenizer())->encode("It was the best of times, it was the worst of times");
  const auto expected = run_rows(*whole, tokens, nullptr), base = run_rows(*alone, tokens, nullptr);
  const auto unmerged = run_rows(*engine, tokens, engine->only_adapter()), plain = run_rows(*engine, tokens, nullptr);
  const double effect = mean_deviation(expected, base), rounding = mean_deviation(plain, base), error = mean_deviation(unmerged, expected);
  EXPECT_GT(effect, 20 * rounding) << "the adapter is too weak to show anything";
  EXPECT_LT(error, 3 * rounding);
  // Without the rounding of inputs nothing is left but that of the cache.
  EXPECT_LT(mean_deviation(run_rows(*floats, tokens, floats->only_adapter()), expected), rounding / 20);
}

// ---- budget and disk ----------------------------------------------------------------------------

TEST_F(Quantised, WeightsMayStreamBesideThem) {
  const std::string adapter = folder_.path() + "/adapter";
  write_adapter(adapter, 7);
  EngineOptions o = small(1);
  o.adapters = {{.name = "a", .path = adapter}};
  const auto resident = open(kTiny, o);
  ASSERT_TRUE(resident);
  EXPECT_GT(resident->footprint().adapters, 0u);
  EXPECT_LE(resident->ledger().peak(), resident->footprint().peak());
  o.memory = resident->footprint().peak() - resident->footprint().weights / 2;
  const auto streamed = open(kTiny, o);
  ASSERT_TRUE(streamed);
  EXPECT_TRUE(streamed->residency().streams());
  const std::vector<TokenId> tokens = (*resident->tokenizer())->encode("A long road in the year of our Lord");
  EXPECT_EQ(run_rows(*streamed, tokens, streamed->only_adapter()), run_rows(*resident, tokens, resident->only_adapter()));
  EXPECT_LE(streamed->ledger().peak(), o.memory);
  // What does not fit is refused before anything is read, and says what adapters take.
  o.memory = resident->footprint().adapters / 2;
  const auto none = Engine::open(kTiny, o);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, Code::kOutOfBudget);
  EXPECT_THAT(none.error().message, testing::HasSubstr("adapters"));
}

// No block of a step lies outside the arena that shape mode planned.
TEST_F(Quantised, ActivationsAreAsPlanned) {
  const std::string adapter = folder_.path() + "/adapter";
  write_adapter(adapter, 9);
  EngineOptions o;
  o.context = 512;
  o.batch = 300;
  o.outputs = 4;
  o.sequences = 2;
  o.threads = 2;
  o.adapters = {{.name = "a", .path = adapter}};
  const auto engine = open(kTiny, o);
  ASSERT_TRUE(engine);
  auto sequence = engine->new_sequence();
  std::vector<TokenId> tokens(512, 5);
  ASSERT_TRUE(engine->feed(**sequence, tokens, engine->only_adapter()));
  EXPECT_LE(engine->ledger().peak(), engine->footprint().peak());
  EXPECT_LE(engine->context().arena_peak(), engine->footprint().activations);
}

TEST(Adapters, ShapeModeCountsThem) {
  const auto engine = open_with(kModels + "llama-plain.gguf", sources({"llama-ffn"}));
  const Adapter* adapter = engine->only_adapter();
  uint64_t bytes = 0, macs = 0, without = 0;
  for (const OpCost& c : engine->costs(3, 10, 1, adapter))
    if (c.op == "adapters") bytes += c.weight_bytes, macs += c.f32_macs;
  for (const OpCost& c : engine->costs(3, 10, 1)) without += c.op == "adapters";
  // Rank 20 in groups of 16, of 2 bytes: gate and up 64 -> 32, down 32 -> 64.
  EXPECT_EQ(macs, 3u * 20 * 3 * (64 + 32));
  EXPECT_EQ(bytes, 2u * (2 * (32 * 64 + 32 * 20) + (32 * 32 + 64 * 20)));
  EXPECT_EQ(without, 0u);
}

TEST(Adapters, AreRefusedByName) {
  const auto refusal = [](const std::string& model, std::vector<AdapterSource> adapters) {
    EngineOptions o = small();
    o.adapters = std::move(adapters);
    const auto engine = Engine::open(kModels + model, o);
    return engine ? "" : engine.error().message;
  };
  EXPECT_THAT(refusal("llama-plain.gguf", sources({"llama-all", "llama-all"})), testing::HasSubstr("two adapters are called"));
  EXPECT_THAT(refusal("llama-bias.gguf", sources({"llama-all"})), testing::HasSubstr("another model"));
  EXPECT_THAT(refusal("gpt2-plain.gguf", sources({"llama-all"})), testing::HasSubstr("another model"));
  EXPECT_THAT(refusal("llama-plain.gguf", {{.name = "a", .path = "/nowhere"}}), testing::HasSubstr("/nowhere"));
}

// ---- the service --------------------------------------------------------------------------------

struct Answer {
  std::vector<TokenId> tokens;
  int64_t cached = 0;
  Finish finish = Finish::kNone;
  std::promise<void> done;
  std::future<void> future = done.get_future();
  Listener listener() {
    return [this](const Update& u) {
      if (u.token) tokens.push_back(u.token->id);
      cached += u.cached_tokens;
      if (u.finish == Finish::kNone) return;
      finish = u.finish;
      done.set_value();
    };
  }
  bool wait() const { return future.wait_for(std::chrono::seconds(60)) == std::future_status::ready; }
};

Submission request(std::vector<TokenId> prompt, const Adapter* adapter, int seed, int64_t tokens = 12) {
  Submission s;
  s.prompt = std::move(prompt);
  s.max_new_tokens = tokens;
  s.ignore_end = true;
  s.sampling.seed = seed;
  s.sampling.temperature = seed % 2 ? 0.8f : 0.0f;
  s.adapter = adapter;
  return s;
}

std::vector<TokenId> alone(Engine& engine, const std::vector<TokenId>& prompt, const Adapter* adapter, int seed, int64_t n = 12) {
  auto sequence = engine.new_sequence();
  Sampler sampler = std::move(Sampler::create(request(prompt, adapter, seed).sampling)).value();
  std::vector<TokenId> drawn;
  GenerateOptions options{.max_tokens = n, .ignore_end = true, .adapter = adapter, .on_token = [&](TokenId id) {
                            drawn.push_back(id);
                            return true;
                          }};
  EXPECT_TRUE(generate(engine, **sequence, sampler, prompt, options));
  return drawn;
}

class AdapterService : public testing::TestWithParam<bool> {};

// With guesses and without: the same tokens as each gets by itself.
TEST_P(AdapterService, EachGetsWhatItGetsAlone) {
  EngineOptions o = small(6);
  o.context = 128;
  o.outputs = 64;
  o.shared_state = true;
  o.adapters = sources(kLlama);
  const auto engine = open(kModels + "llama-plain.gguf", o);
  const auto single = open_with(kModels + "llama-plain.gguf", sources(kLlama));
  ASSERT_TRUE(engine && single);
  ServiceOptions options;
  if (GetParam()) {
    std::vector<std::unique_ptr<Drafter>> drafters;
    drafters.push_back(lookup_drafter());
    options.speculator = std::make_shared<Speculator>(std::move(drafters), 4);
  }
  auto service = Service::start(*engine, options);
  ASSERT_TRUE(service);
  constexpr int kRequests = 12;
  std::vector<Answer> answers(kRequests);
  const auto which = [](const Engine& e, int i) { return i % 4 == 3 ? nullptr : e.adapters().all()[i % 4].get(); };
  for (int i = 0; i < kRequests; ++i)
    ASSERT_TRUE((*service)->submit(request(some_tokens(20 + i, i), which(*engine, i), i), answers[i].listener()));
  for (int i = 0; i < kRequests; ++i) {
    ASSERT_TRUE(answers[i].wait());
    EXPECT_EQ(answers[i].finish, Finish::kLength);
    EXPECT_EQ(answers[i].tokens, alone(*single, some_tokens(20 + i, i), which(*single, i), i)) << i;
  }
}
INSTANTIATE_TEST_SUITE_P(Speculation, AdapterService, testing::Bool(), [](const auto& info) { return info.param ? "on" : "off"; });

// The same prompt again is found in the cache by the same adapter, and by no other.
TEST(AdapterService, PrefixesAreOfTheirAdapter) {
  EngineOptions o = small(2);
  o.context = 128;
  o.shared_state = true;
  o.adapters = sources({"llama-all", "llama-attention"});
  const auto engine = open(kModels + "llama-plain.gguf", o);
  const auto single = open_with(kModels + "llama-plain.gguf", sources({"llama-all", "llama-attention"}));
  ASSERT_TRUE(engine && engine->prefix_cache());
  auto service = Service::start(*engine);
  ASSERT_TRUE(service);
  const auto prompt = some_tokens(50, 3);
  const Adapter* of[] = {engine->adapters().all()[0].get(), engine->adapters().all()[1].get(), nullptr};
  const Adapter* there[] = {single->adapters().all()[0].get(), single->adapters().all()[1].get(), nullptr};
  for (int round = 0; round < 2; ++round)
    for (int i = 0; i < 3; ++i) {
      Answer answer;
      ASSERT_TRUE((*service)->submit(request(prompt, of[i], 2), answer.listener()));
      ASSERT_TRUE(answer.wait());
      EXPECT_EQ(answer.cached, round == 0 ? 0 : 49) << i;
      EXPECT_EQ(answer.tokens, alone(*single, prompt, there[i], 2)) << i;
    }
}

// Two places for eight requests of several keys: state is taken away, moved to a file and computed again.
TEST(AdapterService, PreemptionChangesNothing) {
  for (const bool file : {false, true}) {
    EngineOptions o = small(2);
    o.context = 128;
    o.shared_state = true;
    if (file) o.spill = "";
    o.adapters = sources(kLlama);
    const auto engine = open(kModels + "llama-plain.gguf", o);
    EngineOptions one = o;
    one.spill.reset();
    one.shared_state = false;
    const auto single = open(kModels + "llama-plain.gguf", one);
    ASSERT_TRUE(engine && single);
    ServiceOptions options;
    options.scheduler.promote_after_seconds = 0.005;
    auto service = Service::start(*engine, options);
    ASSERT_TRUE(service);
    std::vector<Answer> answers(8);
    const auto which = [](const Engine& e, int i) { return i % 4 == 3 ? nullptr : e.adapters().all()[i % 4].get(); };
    for (int i = 0; i < 8; ++i) {
      Submission s = request(some_tokens(30, i), which(*engine, i), i, 40);
      s.key = std::to_string(i % 3);
      s.priority = i % 2;
      ASSERT_TRUE((*service)->submit(std::move(s), answers[i].listener()));
    }
    for (int i = 0; i < 8; ++i) {
      ASSERT_TRUE(answers[i].wait());
      EXPECT_EQ(answers[i].tokens, alone(*single, some_tokens(30, i), which(*single, i), i, 40)) << i;
    }
  }
}

}  // namespace
}  // namespace venturi
