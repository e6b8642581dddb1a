// The service: what it draws is what each request would get alone; every request ends once.
#include "engine/service.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <random>

#include "engine/generate.h"
#include "grammar/grammar.h"

namespace venturi {

namespace {

const std::string kModel = std::string(VENTURI_SOURCE_DIR) + "/models/tiny-llama-q8_0.gguf";

std::unique_ptr<Engine> open(int sequences, int64_t context = 256, int64_t batch = 64) {
  EngineOptions options;
  options.context = context;
  options.batch = batch;
  options.sequences = sequences;
  options.outputs = sequences;
  options.threads = 2;
  auto engine = Engine::open(kModel, options);
  EXPECT_TRUE(engine) << (engine ? "" : engine.error().message);
  return engine ? std::move(engine).value() : nullptr;
}

struct Answer {
  std::vector<TokenId> tokens;
  std::vector<double> logprobs;
  Finish finish = Finish::kNone;
  std::optional<Refusal> refusal;
  std::optional<Error> error;
  RequestTimes times;
  std::atomic<int> ends = 0;
  std::promise<void> done;
  std::future<void> future = done.get_future();

  Listener listener() {
    return [this](const Update& u) {
      if (u.token) {
        tokens.push_back(u.token->id);
        logprobs.push_back(u.token->logprob);
      }
      if (u.finish == Finish::kNone) return;
      finish = u.finish;
      refusal = u.refusal;
      error = u.error;
      times = u.times;
      if (++ends == 1) done.set_value();
    };
  }
  bool wait() const {
    return future.wait_for(std::chrono::seconds(60)) == std::future_status::ready;
  }
};

Submission request(const Engine& engine, int i, int64_t tokens) {
  static const char* kPrompts[] = {"It was the best of times", "The old gentleman", "She said that",
                                   "In the year of our Lord", "A long road"};
  Submission s;
  std::string text = kPrompts[i % 5];
  for (int n = 0; n < i % 4; ++n) text += " and then he went on to speak of the house by the river";
  s.prompt = (*engine.tokenizer())->encode(text);
  s.max_new_tokens = tokens;
  s.ignore_end = true;
  s.sampling.seed = 100 + i;
  s.sampling.temperature = i % 3 == 0 ? 0.0f : 0.9f;
  s.sampling.repetition_penalty = i % 2 ? 1.1f : 1.0f;
  return s;
}

// By an engine and a loop of their own.
std::vector<TokenId> alone(const Submission& s, int64_t context) {
  const auto engine = open(1, context);
  const int64_t tokens = s.max_new_tokens;
  auto sequence = engine->new_sequence();
  Sampler sampler = std::move(Sampler::create(s.sampling)).value();
  std::vector<TokenId> drawn;
  GenerateOptions options{.max_tokens = tokens, .ignore_end = true, .on_token = [&](TokenId id) {
                            drawn.push_back(id);
                            return true;
                          }};
  EXPECT_TRUE(generate(*engine, **sequence, sampler, s.prompt, options));
  return drawn;
}

std::vector<TokenId> alone(int i, int64_t tokens) {
  return alone(request(*open(1), i, tokens), 256);
}

TEST(Service, NeighboursChangeNothing) {
  constexpr int kRequests = 32;
  const auto engine = open(kRequests);
  auto service = Service::start(*engine);
  ASSERT_TRUE(service);
  std::vector<Answer> answers(kRequests);
  for (int i = 0; i < kRequests; ++i)
    ASSERT_TRUE((*service)->submit(request(*engine, i, 16), answers[i].listener()));
  for (int i = 0; i < kRequests; ++i) {
    ASSERT_TRUE(answers[i].wait());
    EXPECT_EQ(answers[i].finish, Finish::kLength);
    EXPECT_EQ(answers[i].tokens, alone(i, 16)) << i;
    EXPECT_LE(answers[i].times.submitted, answers[i].times.started);
    EXPECT_LE(answers[i].times.first_token, answers[i].times.ended);
  }
}

// n answers and many prompts in one: they are taken together, with one listener, and draw what each would alone.
TEST(Service, AGroupIsTakenOrRefusedWhole) {
  const auto engine = open(4);
  ServiceOptions options;
  options.scheduler.max_queued_per_key = 12;
  options.scheduler.max_queued_seconds = 1e-3;  // what it has to do itself is no wait
  auto service = Service::start(*engine, options);
  ASSERT_TRUE(service);
  EXPECT_EQ((*service)->largest_group(), 12);
  const auto group = [&](int n) {
    std::vector<Submission> all;
    for (int i = 0; i < n; ++i) all.push_back(request(*engine, i, 16));
    return all;
  };
  std::vector<Answer> answers(12);
  std::vector<Listener> listeners;
  for (Answer& a : answers) listeners.push_back(a.listener());
  std::atomic<Ticket> base = 0;
  std::promise<void> known;
  const auto is_known = known.get_future().share();
  const auto first = (*service)->submit(group(12), [&](const Update& u) {
    is_known.wait();
    listeners[u.ticket - base](u);
  });
  ASSERT_TRUE(first);
  base = *first;
  Answer refused;
  ASSERT_TRUE((*service)->submit(group(5), refused.listener()));
  known.set_value();
  for (int i = 0; i < 12; ++i) {
    ASSERT_TRUE(answers[i].wait());
    EXPECT_EQ(answers[i].tokens, alone(i, 16)) << i;
    EXPECT_EQ(answers[i].ends, 1);
  }
  ASSERT_TRUE(refused.wait());
  EXPECT_EQ(refused.finish, Finish::kRefused);
  EXPECT_EQ(refused.ends, 1);
  // A part of it ends by itself.
  Answer last;
  std::promise<void> rest;
  std::atomic<int> ended = 0;
  const auto second = (*service)->submit(group(3), [&](const Update& u) {
    if (u.finish != Finish::kNone && ++ended == 3) rest.set_value();
  });
  ASSERT_TRUE(second);
  EXPECT_EQ(*second, *first + 17);
  (*service)->cancel(*second + 1);
  EXPECT_EQ(rest.get_future().wait_for(std::chrono::seconds(60)), std::future_status::ready);
}

// Two places and three keys of different weight: places are taken away, prompts and answers
// computed again.
TEST(Service, PreemptionChangesNothing) {
  const auto engine = open(2);
  ServiceOptions options;
  options.scheduler.promote_after_seconds = 0.02;
  auto service = Service::start(*engine, options);
  ASSERT_TRUE(service);
  std::vector<Answer> answers(12);
  for (int i = 0; i < 12; ++i) {
    Submission s = request(*engine, i, 40);
    s.key = std::string(1, static_cast<char>('a' + i / 5));
    s.priority = i % 4 == 3;
    ASSERT_TRUE((*service)->submit(std::move(s), answers[i].listener()));
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }
  for (int i = 0; i < 12; ++i) {
    ASSERT_TRUE(answers[i].wait());
    EXPECT_EQ(answers[i].tokens, alone(i, 40)) << i;
  }
  EXPECT_GT((*service)->counts().scheduler.preempted_to_recompute, 0u);
}

// Four conversations of two turns on pages for one and a half: what they compute is kept,
// evicted, found again, in memory and in a file, and draws what it would alone.
class Turns : public testing::TestWithParam<bool> {};

TEST_P(Turns, APrefixThatIsFoundChangesNothing) {
  EngineOptions options{.context = 512,
                        .batch = 64,
                        .outputs = 4,
                        .sequences = 4,
                        .threads = 2,
                        .shared_state = true};
  const auto shape = Engine::open(kModel, options);
  ASSERT_TRUE(shape);
  options.state_memory = (*shape)->footprint().state * 3 / 8;
  if (GetParam()) options.spill = testing::TempDir();
  const auto engine = Engine::open(kModel, options);
  ASSERT_TRUE(engine) << engine.error().message;
  ASSERT_NE((*engine)->prefix_cache(), nullptr);
  EXPECT_LT((*engine)->state_pool().shared_pages(), 4 * 8);
  ServiceOptions service_options;
  service_options.cost =
      StepCost{.per_row_seconds = 1, .move_seconds_per_token = 1e-6};  // moves where it can
  service_options.scheduler.max_queued_seconds = 1e9;
  auto service = Service::start(**engine, service_options);
  ASSERT_TRUE(service);
  std::vector<std::vector<TokenId>> talks(4);
  int64_t cached = 0;
  for (int turn = 0; turn < 2; ++turn) {
    std::vector<Answer> answers(4);
    for (int i = 0; i < 4; ++i) {
      Submission s = request(**engine, i, 120);
      for (int n = 0; n < 70; ++n)
        s.prompt.push_back(s.prompt[static_cast<size_t>(n) % 5] + 100 + turn);
      talks[i].insert(talks[i].end(), s.prompt.begin(), s.prompt.end());
      s.prompt = talks[i];
      auto listen = answers[i].listener();
      ASSERT_TRUE((*service)->submit(std::move(s), [&cached, listen](const Update& u) {
        cached += u.cached_tokens;
        listen(u);
      }));
    }
    for (int i = 0; i < 4; ++i) {
      ASSERT_TRUE(answers[i].wait());
      Submission s = request(**engine, i, 120);
      s.prompt = talks[i];
      EXPECT_EQ(answers[i].tokens, alone(std::move(s), 512)) << "turn " << turn << ", " << i;
      talks[i].insert(talks[i].end(), answers[i].tokens.begin(), answers[i].tokens.end());
    }
  }
  EXPECT_GT(cached, 0);
  const ServiceCounts counts = (*service)->counts();
  EXPECT_EQ(counts.prefix_hits, static_cast<uint64_t>(cached));
  if (GetParam()) {
    EXPECT_GT(counts.scheduler.preempted_to_disk, 0u);
    EXPECT_GT(counts.state_read_bytes, 0u);
  } else {
    EXPECT_GT(counts.scheduler.preempted_to_recompute, 0u);
  }
  service->reset();
  // What is kept is to be had, all of it.
  EXPECT_EQ((*engine)->state_pool().pages_to_have(), (*engine)->state_pool().shared_pages());
}

INSTANTIATE_TEST_SUITE_P(Service, Turns, testing::Bool());

// The file of spilled state loses what it held: only the request that reads it fails.
TEST(Service, ALostFileFailsTheRequestThatNeedsItAlone) {
  EngineOptions options{.context = 1536, .batch = 64, .outputs = 2, .sequences = 2, .threads = 2};
  const auto resident = Engine::open(kModel, options);
  ASSERT_TRUE(resident);
  options.state_memory =
      plan_state((*resident)->info().slots, {.tokens = 1536, .sequences = 2, .rows = 64}, 0).bytes;
  options.spill = testing::TempDir();
  const auto engine = Engine::open(kModel, options);
  ASSERT_TRUE(engine) << engine.error().message;
  const std::string file =
      "/proc/self/fd/" + std::to_string((*engine)->state_pool().file()->file().fd());

  Submission longest = request(**engine, 0, 100);
  longest.prompt.resize(1200, longest.prompt.back());
  auto service = Service::start(**engine);
  ASSERT_TRUE(service);
  Answer loser, other;
  auto listen = loser.listener();
  ASSERT_TRUE((*service)->submit(std::move(longest), [&](const Update& u) {
    if (u.token && loser.tokens.size() == 2) {
      EXPECT_EQ(truncate(file.c_str(), 4096), 0);
    }
    listen(u);
  }));
  ASSERT_TRUE((*service)->submit(request(**engine, 1, 40), other.listener()));
  ASSERT_TRUE(loser.wait() && other.wait());
  EXPECT_EQ(loser.finish, Finish::kFailed);
  EXPECT_EQ(loser.error->code, Code::kIo);
  EXPECT_EQ(other.finish, Finish::kLength);
  EXPECT_EQ(other.tokens, alone(1, 40));
}

TEST(Service, CancelledRequestsGiveTheirPlacesBackAndEndOnce) {
  const auto engine = open(4);
  auto service = Service::start(*engine);
  ASSERT_TRUE(service);
  std::mt19937 random(7);
  std::vector<Answer> answers(60);
  std::vector<Ticket> tickets;
  for (Answer& a : answers) {
    auto ticket =
        (*service)->submit(request(*engine, static_cast<int>(tickets.size()), 60), a.listener());
    ASSERT_TRUE(ticket);
    tickets.push_back(*ticket);
    if (random() % 2) (*service)->cancel(tickets[random() % tickets.size()]);
    if (random() % 4 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(random() % 5));
  }
  for (const Ticket t : tickets) (*service)->cancel(t);
  for (const Answer& a : answers) {
    ASSERT_TRUE(a.wait());
    EXPECT_EQ(a.ends, 1);
    EXPECT_TRUE(a.finish == Finish::kCancelled || a.finish == Finish::kLength);
  }
  EXPECT_TRUE((*service)->drain(10));
  const ServiceCounts counts = (*service)->counts();
  EXPECT_EQ(counts.state_tokens, 0);
  EXPECT_EQ(counts.scheduler.running + counts.scheduler.queued, 0);
  EXPECT_EQ(counts.scheduler.submitted, counts.scheduler.cancelled + counts.scheduler.finished);
  service->reset();
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(engine->new_sequence());
}

TEST(Service, RefusesWhatCannotFitAndWhatComesWhileDraining) {
  const auto engine = open(2, 64);
  auto service = Service::start(*engine);
  ASSERT_TRUE(service);
  Answer large;
  ASSERT_TRUE((*service)->submit(request(*engine, 0, 4096), large.listener()));
  ASSERT_TRUE(large.wait());
  ASSERT_EQ(large.finish, Finish::kRefused);
  EXPECT_EQ(large.refusal->why, Refusal::Why::kNever);

  Submission empty;
  EXPECT_EQ((*service)->submit(std::move(empty), large.listener()).error().code,
            Code::kInvalidArgument);
  Submission outside = request(*engine, 0, 4);
  outside.prompt.push_back(1 << 30);
  EXPECT_EQ((*service)->submit(std::move(outside), large.listener()).error().code,
            Code::kInvalidArgument);

  Answer running, late;
  ASSERT_TRUE((*service)->submit(request(*engine, 1, 30), running.listener()));
  EXPECT_TRUE((*service)->drain(30));
  EXPECT_EQ(running.finish, Finish::kLength);
  ASSERT_TRUE((*service)->submit(request(*engine, 2, 3), late.listener()));
  ASSERT_TRUE(late.wait());
  EXPECT_EQ(late.finish, Finish::kRefused);
}

TEST(Service, WhatRunsWhenItEndsIsCancelled) {
  const auto engine = open(2);
  std::vector<Answer> answers(5);
  {
    auto service = Service::start(*engine);
    ASSERT_TRUE(service);
    for (Answer& a : answers)
      ASSERT_TRUE((*service)->submit(request(*engine, 1, 200), a.listener()));
  }
  for (const Answer& a : answers) {
    EXPECT_EQ(a.finish, Finish::kCancelled);
    EXPECT_EQ(a.ends, 1);
  }
}

TEST(Service, GivesLogprobsOfTheModelsOwnDistribution) {
  const auto engine = open(1);
  auto service = Service::start(*engine);
  ASSERT_TRUE(service);
  Submission s = request(*engine, 0, 1);
  s.sampling.temperature = 0;
  s.top_logprobs = static_cast<int>(engine->info().vocab_size);
  double sum = 0, drawn = 1, best = 1;
  std::promise<void> done;
  ASSERT_TRUE((*service)->submit(std::move(s), [&](const Update& u) {
    if (!u.token) return;
    for (const auto& [id, logprob] : u.token->top) sum += std::exp(logprob);
    drawn = u.token->logprob;
    best = u.token->top[0].second;
    EXPECT_EQ(u.token->top[0].first, u.token->id);
    done.set_value();
  }));
  done.get_future().wait();
  EXPECT_NEAR(sum, 1, 1e-9);
  EXPECT_EQ(drawn, best);
}

// As the engine says of every row, whatever the chunks, the neighbours and the places there are.
TEST(Service, GivesLogprobsOfThePromptInAnyChunks) {
  for (const int sequences : {1, 3, 40}) {
    const auto engine = open(sequences);
    ServiceOptions options;
    options.scheduler.promote_after_seconds = 0.02;
    auto service = Service::start(*engine, options);
    ASSERT_TRUE(service);
    constexpr int kRequests = 6;
    std::vector<std::vector<DrawnToken>> logged(kRequests);
    std::vector<Answer> answers(kRequests);
    for (int i = 0; i < kRequests; ++i) {
      Submission s = request(*engine, i, 4 + i);
      s.key = std::string(1, static_cast<char>('a' + i));
      s.prompt_logprobs = i % 2 ? 3 : -1;
      ASSERT_TRUE((*service)->submit(std::move(s),
                                     [&, i, listener = answers[i].listener()](const Update& u) {
                                       if (!u.prompt.empty()) {
                                         EXPECT_TRUE(logged[i].empty());
                                         logged[i] = u.prompt;
                                       }
                                       listener(u);
                                     }));
    }
    for (Answer& a : answers) ASSERT_TRUE(a.wait());
    const auto whole = open(64);  // as many outputs as rows
    for (int i = 0; i < kRequests; ++i) {
      EXPECT_EQ(answers[i].tokens, alone(i, 4 + i));
      if (i % 2 == 0) {
        EXPECT_TRUE(logged[i].empty());
        continue;
      }
      const Submission s = request(*whole, i, 1);
      auto sequence = whole->new_sequence();
      Step step{
          .tokens = s.prompt,
          .spans = {{.n_rows = static_cast<int64_t>(s.prompt.size()), .state = sequence->get()}},
          .output_rows = {}};
      for (int64_t r = 0; r < step.n_rows(); ++r) step.output_rows.push_back(r);
      const auto logits = whole->step(step);
      ASSERT_TRUE(logits) << logits.error().message;
      ASSERT_EQ(logged[i].size() + 1, s.prompt.size());
      for (size_t p = 0; p < logged[i].size(); ++p) {
        const float* row = (*logits)->row(static_cast<int64_t>(p));
        double sum = 0;
        for (int64_t v = 0; v < (*logits)->cols(); ++v)
          sum += std::exp(static_cast<double>(row[v]));
        EXPECT_EQ(logged[i][p].id, s.prompt[p + 1]);
        EXPECT_NEAR(logged[i][p].logprob, row[s.prompt[p + 1]] - std::log(sum), 1e-9);
        ASSERT_EQ(logged[i][p].top.size(), 3u);
        EXPECT_EQ(logged[i][p].top[0].first, std::max_element(row, row + (*logits)->cols()) - row);
      }
    }
  }
}

TEST(Service, AConstraintHoldsItsOwnRequestOnly) {
  const auto engine = open(2);
  auto service = Service::start(*engine);
  ASSERT_TRUE(service);
  Submission held = request(*engine, 1, 120);
  auto automaton = grammar::Automaton::compile(*grammar::parse_gbnf("root ::= \"yes\" | \"no\""));
  ASSERT_TRUE(automaton);
  held.constraint = std::make_unique<grammar::Constraint>(
      *automaton, std::make_shared<grammar::TokenTrie>(**engine->tokenizer()));
  Answer a, b;
  ASSERT_TRUE((*service)->submit(std::move(held), a.listener()));
  ASSERT_TRUE((*service)->submit(request(*engine, 2, 20), b.listener()));
  ASSERT_TRUE(a.wait());
  ASSERT_TRUE(b.wait());
  EXPECT_EQ(a.finish, Finish::kEnd);
  const std::string text = (*engine->tokenizer())->decode(a.tokens);
  EXPECT_TRUE(text == "yes" || text == "no") << text;
  EXPECT_EQ(b.tokens, alone(2, 20));
}

}  // namespace

}  // namespace venturi
