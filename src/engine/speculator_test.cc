// Speculative decoding: what is drawn is what would have been drawn, whoever guesses.
#include "engine/speculator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "engine/generate.h"
#include "engine/service.h"
#include "grammar/grammar.h"

namespace venturi {

namespace {

const std::string kModel = std::string(VENTURI_SOURCE_DIR) + "/models/tiny-llama-q8_0.gguf";

// Rows cost nothing, so that every guess is checked.
const StepCost kFree{.weights_seconds = 1, .per_row_seconds = 1e-6, .per_context_seconds = 1e-12};

std::unique_ptr<Engine> open(int sequences, EngineOptions options = {}) {
  options.context = 384;
  options.batch = 64;
  options.sequences = sequences;
  options.outputs = 64;
  options.threads = 2;
  auto engine = Engine::open(kModel, options);
  EXPECT_TRUE(engine) << (engine ? "" : engine.error().message);
  return engine ? std::move(engine).value() : nullptr;
}

// Knows the right answer, and guesses it right `n` times out of `of`.
class Oracle : public Drafter {
 public:
  Oracle(std::vector<std::vector<TokenId>> texts, int n, int of) : texts_(std::move(texts)), n_(n), of_(of) {}
  void guess(std::span<Guessing> streams) override {
    for (Guessing& s : streams)
      for (const auto& text : texts_) {
        if (text.size() < s.tokens.size() || !std::equal(s.tokens.begin(), s.tokens.end(), text.begin())) continue;
        for (size_t i = s.tokens.size(); i < text.size() && static_cast<int64_t>(s.guesses.size()) < s.most; ++i)
          s.guesses.push_back(static_cast<int>(count_++ % of_) < n_ ? text[i] : (text[i] + 1) % 256);
        break;
      }
  }

 private:
  const std::vector<std::vector<TokenId>> texts_;
  const int n_, of_;
  size_t count_ = 0;
};

std::unique_ptr<Speculator> by(std::unique_ptr<Drafter> drafter, int64_t most = 8) {
  std::vector<std::unique_ptr<Drafter>> drafters;
  drafters.push_back(std::move(drafter));
  return std::make_unique<Speculator>(std::move(drafters), most);
}

struct Case {
  std::string text;
  SamplingParams sampling;
};

std::vector<Case> cases() {
  const std::string loop = "He went to the house and he went to the house and he went to the";
  std::vector<Case> all;
  for (const float temperature : {0.0f, 0.3f, 1.0f})
    for (const char* text : {"It was the best of times", loop.c_str()}) {
      SamplingParams p;
      p.temperature = temperature;
      p.seed = 17 + all.size();
      if (all.size() % 3 == 1) p.repetition_penalty = 1.2f;
      if (all.size() % 3 == 2) p.frequency_penalty = 0.3f, p.penalty_last_n = -1, p.prompt_counts = all.size() < 3;
      all.push_back({text, p});
    }
  all.push_back({loop, {}});
  all.back().sampling.mirostat = 2;
  return all;
}

struct Generated {
  std::vector<TokenId> tokens;
  GenerationReport report;
  int64_t length = 0;  // of the sequence afterwards
};

Generated draw(Engine& engine, const Case& c, int64_t n, Speculator* speculator, grammar::Constraint* constraint = nullptr) {
  Generated g;
  auto sequence = engine.new_sequence();
  EXPECT_TRUE(sequence);
  Sampler sampler = std::move(Sampler::create(c.sampling)).value();
  const auto prompt = (*engine.tokenizer())->encode(c.text);
  auto report = generate(engine, **sequence, sampler, prompt,
                         {.max_tokens = n, .ignore_end = true, .constraint = constraint, .speculator = speculator, .on_token = [&](TokenId id) {
                            g.tokens.push_back(id);
                            return true;
                          }});
  EXPECT_TRUE(report) << report.error().message;
  if (report) g.report = *report;
  g.length = (*sequence)->length();
  return g;
}

TEST(LookUp, FindsTheLongestLatestMatch) {
  const std::vector<TokenId> text{1, 2, 3, 9, 1, 2, 3, 7, 5, 2, 3, 8, 0, 1, 2, 3};
  EXPECT_EQ(look_up(text, 4).guesses, (std::vector<TokenId>{7, 5, 2, 3}));  // "1 2 3", not the later "2 3"
  EXPECT_EQ(look_up(text, 4).match, 3);
  EXPECT_TRUE(look_up(std::vector<TokenId>{1, 2, 3, 4, 3}, 4).guesses.empty());  // one token is no match
  EXPECT_TRUE(look_up({}, 4).guesses.empty());
  EXPECT_TRUE(look_up(text, 0).guesses.empty());
  // A loop goes on.
  const LookedUp loop = look_up(std::vector<TokenId>{4, 5, 6, 4, 5, 6, 4, 5}, 7);
  EXPECT_EQ(loop.guesses, (std::vector<TokenId>{6, 4, 5, 6, 4, 5, 6}));
  EXPECT_EQ(loop.match, 5);
  EXPECT_EQ(look_up(std::vector<TokenId>{7, 7, 7, 7}, 3).guesses, (std::vector<TokenId>{7, 7, 7}));
}

TEST(Speculator, GenerateDrawsTheSame) {
  const auto engine = open(2);
  int64_t held = 0, wrong = 0;
  for (const Case& c : cases()) {
    const Generated plain = draw(*engine, c, 120, nullptr);
    std::vector<TokenId> text = (*engine->tokenizer())->encode(c.text);
    text.insert(text.end(), plain.tokens.begin(), plain.tokens.end());
    for (int n = 0; n <= 4; ++n) {
      const auto speculator = n == 4 ? by(lookup_drafter(), 5) : by(std::make_unique<Oracle>(std::vector<std::vector<TokenId>>{text}, n, 3));
      const Generated guessed = draw(*engine, c, 120, speculator.get());
      EXPECT_EQ(guessed.tokens, plain.tokens) << c.text << " " << c.sampling.temperature << " " << n;
      EXPECT_EQ(guessed.length, plain.length);
      EXPECT_LE(guessed.report.held_tokens, guessed.report.guessed_tokens);
      held += guessed.report.held_tokens;
      wrong += guessed.report.guessed_tokens - guessed.report.held_tokens;
      if (n == 3) {
        EXPECT_EQ(guessed.report.held_tokens, guessed.report.guessed_tokens);
        EXPECT_GT(guessed.report.held_tokens, 60);
      }
    }
  }
  EXPECT_GT(held, 500);
  EXPECT_GT(wrong, 100);
}

// Logprobs, grammars, neighbours, few pages, prefixes found: every request draws what it would alone.
TEST(Speculator, TheServiceDrawsTheSame) {
  const auto plain_engine = open(1);
  std::vector<Case> all = cases();
  std::vector<std::vector<TokenId>> plain, texts;
  for (const Case& c : all) {
    plain.push_back(draw(*plain_engine, c, 100, nullptr).tokens);
    texts.push_back((*plain_engine->tokenizer())->encode(c.text));
    texts.back().insert(texts.back().end(), plain.back().begin(), plain.back().end());
  }
  EngineOptions options;
  options.shared_state = true;
  const auto shape = open(4, options);
  options.state_memory = shape->footprint().state / 2;
  const auto engine = open(4, options);
  for (int n = 0; n <= 3; ++n) {
    ServiceOptions service_options;
    service_options.cost = kFree;
    service_options.scheduler.max_queued_seconds = 1e9;  // with that cost every wait is long
    service_options.speculator = n == 3 ? by(lookup_drafter()) : by(std::make_unique<Oracle>(texts, n + 1, 3));
    auto service = Service::start(*engine, service_options);
    ASSERT_TRUE(service);
    std::vector<std::vector<TokenId>> drawn(2 * all.size());
    std::vector<std::promise<Finish>> ends(drawn.size());
    for (size_t i = 0; i < drawn.size(); ++i) {
      const Case& c = all[i % all.size()];
      Submission s;
      s.prompt = (*engine->tokenizer())->encode(c.text);
      s.max_new_tokens = 100;
      s.sampling = c.sampling;
      s.ignore_end = true;
      s.top_logprobs = i % 2 ? 2 : -1;
      ASSERT_TRUE((*service)->submit(std::move(s), [&, i](const Update& u) {
        if (u.token) drawn[i].push_back(u.token->id);
        if (u.token && i % 2 && all[i % all.size()].sampling.temperature == 0 && all[i % all.size()].sampling.repetition_penalty == 1 &&
            all[i % all.size()].sampling.frequency_penalty == 0) {
          EXPECT_EQ(u.token->top[0].first, u.token->id);
        }
        if (u.finish != Finish::kNone) ends[i].set_value(u.finish);
      }));
    }
    for (size_t i = 0; i < drawn.size(); ++i) {
      EXPECT_EQ(ends[i].get_future().get(), Finish::kLength);
      EXPECT_EQ(drawn[i], plain[i % all.size()]) << i << " " << n;
    }
    EXPECT_TRUE((*service)->drain(10));
    const ServiceCounts counts = (*service)->counts();
    EXPECT_GT(counts.speculation.held, 50u) << n;
    EXPECT_LE(counts.speculation.held, counts.speculation.guessed);
    EXPECT_EQ(counts.scheduler.output_tokens, 100 * drawn.size());
    uint64_t held = 0;
    for (const uint64_t at : counts.speculation.held_at) held += at;
    EXPECT_EQ(held, counts.speculation.held);
    service->reset();
    EXPECT_EQ(engine->state_pool().pages_to_have(), engine->state_pool().shared_pages());
  }
}

TEST(Speculator, AGrammarHoldsGuessesToo) {
  const auto engine = open(2);
  const auto tokenizer = *engine->tokenizer();
  const auto grammar = grammar::parse_gbnf("root ::= (\"the house and \" | \"a road or \")*");
  ASSERT_TRUE(grammar);
  const auto automaton = grammar::Automaton::compile(*grammar);
  ASSERT_TRUE(automaton);
  const auto trie = std::make_shared<grammar::TokenTrie>(*tokenizer);
  for (const float temperature : {0.0f, 1.0f}) {
    Case c{"He saw", {}};
    c.sampling.temperature = temperature;
    grammar::Constraint first(*automaton, trie), second(*automaton, trie);
    const Generated plain = draw(*engine, c, 60, nullptr, &first);
    std::vector<TokenId> text = tokenizer->encode(c.text);
    text.insert(text.end(), plain.tokens.begin(), plain.tokens.end());
    const auto speculator = by(std::make_unique<Oracle>(std::vector<std::vector<TokenId>>{text}, 3, 4));
    const Generated guessed = draw(*engine, c, 60, speculator.get(), &second);
    EXPECT_EQ(guessed.tokens, plain.tokens);
    EXPECT_GT(guessed.report.held_tokens, 0);
  }
}

// The model as its own draft model: with the same numbers it draws the same, so every guess holds.
TEST(Speculator, AModelGuessesItselfRight) {
  const auto engine = open(2);
  for (const Case& c : cases()) {
    const Generated plain = draw(*engine, c, 80, nullptr);
    auto drafter = model_drafter(open(2), *engine);
    ASSERT_TRUE(drafter);
    const auto speculator = by(std::move(*drafter), 4);
    const Generated guessed = draw(*engine, c, 80, speculator.get());
    EXPECT_EQ(guessed.tokens, plain.tokens);
    EXPECT_EQ(guessed.report.held_tokens, guessed.report.guessed_tokens) << c.sampling.temperature;
    EXPECT_GT(speculator->counts().guess_seconds, 0);
  }
  // Many at once, of which half find no place with the drafter.
  std::vector<std::unique_ptr<Drafter>> drafters;
  drafters.push_back(model_drafter(open(3), *engine).value());
  ServiceOptions options;
  options.cost = kFree;
  options.scheduler.max_queued_seconds = 1e9;
  options.speculator = std::make_shared<Speculator>(std::move(drafters), 4);
  const auto many = open(6);
  auto service = Service::start(*many, options);
  ASSERT_TRUE(service);
  const std::vector<Case> all = cases();
  std::vector<std::vector<TokenId>> drawn(2 * all.size());
  std::vector<std::promise<void>> ends(drawn.size());
  for (size_t i = 0; i < drawn.size(); ++i) {
    Submission s;
    s.prompt = (*many->tokenizer())->encode(all[i % all.size()].text);
    s.max_new_tokens = 80;
    s.sampling = all[i % all.size()].sampling;
    s.ignore_end = true;
    ASSERT_TRUE((*service)->submit(std::move(s), [&, i](const Update& u) {
      if (u.token) drawn[i].push_back(u.token->id);
      if (u.finish != Finish::kNone) ends[i].set_value();
    }));
  }
  for (size_t i = 0; i < drawn.size(); ++i) {
    ends[i].get_future().wait();
    EXPECT_EQ(drawn[i], draw(*engine, all[i % all.size()], 80, nullptr).tokens) << i;
  }
  EXPECT_TRUE((*service)->drain(10));
  const SpeculationCounts counts = (*service)->counts().speculation;
  EXPECT_GT(counts.guessed, 0u);
  EXPECT_EQ(counts.held, counts.guessed);
}

// Windows, latents, mixtures, spilled state: what was computed for a wrong guess is taken back. What cannot take
// it back says so.
class EveryModel : public testing::TestWithParam<const char*> {};

TEST_P(EveryModel, DrawsTheSame) {
  const std::string path = std::string(VENTURI_SOURCE_DIR) + "/tests/data/models/" + GetParam() + ".gguf";
  EngineOptions options{.context = 200, .batch = 32, .outputs = 9, .sequences = 1, .threads = 2};
  if (GetParam() == std::string("gpt2-plain")) options.context = 64;  // it has no more positions
  auto opened = Engine::open(path, options);
  ASSERT_TRUE(opened) << opened.error().message;
  Engine& engine = **opened;
  const int64_t n = std::min<int64_t>(150, engine.options().context - 8);
  for (const float temperature : {0.0f, 1.0f}) {
    std::vector<TokenId> prompt;
    for (int i = 0; i < 8; ++i) prompt.push_back(static_cast<TokenId>((i % 4 * 7 + 3) % engine.info().vocab_size));
    std::vector<TokenId> plain;
    for (int by_whom = 0; by_whom < 3; ++by_whom) {
      SamplingParams params;
      params.temperature = temperature;
      Sampler sampler = std::move(Sampler::create(params)).value();
      std::vector<TokenId> text = prompt, drawn;
      text.insert(text.end(), plain.begin(), plain.end());
      const auto speculator =
          by_whom == 2 ? by(lookup_drafter()) : by(std::make_unique<Oracle>(std::vector<std::vector<TokenId>>{text}, 2, 3));
      auto sequence = engine.new_sequence();
      auto report = generate(engine, **sequence, sampler, prompt,
                             {.max_tokens = n, .ignore_end = true, .speculator = by_whom ? speculator.get() : nullptr, .on_token = [&](TokenId id) {
                                drawn.push_back(id);
                                return true;
                              }});
      if (by_whom > 0 && !engine.repeats()) {
        ASSERT_FALSE(report);
        EXPECT_EQ(report.error().code, Code::kUnsupported);
        EXPECT_THAT(report.error().message, testing::HasSubstr("recurrent"));
        ServiceOptions service_options;
        service_options.speculator = by(lookup_drafter());
        EXPECT_FALSE(Service::start(engine, service_options));
        return;
      }
      ASSERT_TRUE(report) << report.error().message;
      if (by_whom == 0) plain = drawn;
      EXPECT_EQ(drawn, plain) << by_whom;
      if (by_whom == 1) {
        EXPECT_GT(report->held_tokens, 0);
        EXPECT_LT(report->held_tokens, report->guessed_tokens);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Speculator, EveryModel,
                         testing::Values("llama-plain", "llama-window", "llama-mixtral", "gemma2-plain", "gemma3-plain", "gpt2-plain",
                                         "deepseek2-v2-lite", "deepseek2-v3", "qwen2-plain", "qwen3moe-plain", "mamba2-plain"));

TEST(Speculator, StateOnDiskTakesGuessesBack) {
  EngineOptions options{.context = 1536, .batch = 64, .outputs = 9, .sequences = 1, .threads = 2};
  std::vector<TokenId> plain;
  for (int spilled = 0; spilled < 2; ++spilled) {
    if (spilled) {
      const auto resident = Engine::open(kModel, options);
      options.state_memory = plan_state((*resident)->info().slots, {.tokens = 1536, .sequences = 1, .rows = 64}, 0).bytes;
      options.spill = testing::TempDir();
    }
    const auto engine = Engine::open(kModel, options);
    ASSERT_TRUE(engine) << engine.error().message;
    std::vector<TokenId> prompt((*(*engine)->tokenizer())->encode("He went to the house and he went to the house and he"));
    prompt.resize(1000, prompt.back());
    auto sequence = (*engine)->new_sequence();
    Sampler sampler = std::move(Sampler::create({})).value();
    std::vector<TokenId> drawn;
    const auto speculator = by(lookup_drafter());
    const auto report = generate(**engine, **sequence, sampler, prompt,
                                 {.max_tokens = 200, .ignore_end = true, .speculator = spilled ? speculator.get() : nullptr, .on_token = [&](TokenId id) {
                                    drawn.push_back(id);
                                    return true;
                                  }});
    ASSERT_TRUE(report) << report.error().message;
    if (spilled) {
      EXPECT_EQ(drawn, plain);
      EXPECT_GT(report->guessed_tokens, report->held_tokens);
    }
    plain = drawn;
  }
}

TEST(Speculator, AnotherVocabularyCannotGuess) {
  const auto engine = open(1);
  auto other = Engine::open(std::string(VENTURI_SOURCE_DIR) + "/tests/data/models/llama-plain.gguf", EngineOptions());
  ASSERT_TRUE(other);
  const auto drafter = model_drafter(std::move(*other), *engine);
  ASSERT_FALSE(drafter);
  EXPECT_EQ(drafter.error().code, Code::kUnsupported);
}

}  // namespace

}  // namespace venturi
