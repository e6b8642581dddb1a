#include "scheduler/scheduler.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "scheduler/simulator_test.h"

namespace venturi {
namespace {

double percentile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(p * static_cast<double>(values.size() - 1))];
}

TEST(Scheduler, OnePromptInChunksThenOneRowAStep) {
  World w = world();
  w.options.long_step = 100;
  w.start();
  const RequestId id = w.submit({.key = "a", .prompt_tokens = 1100}, 10);
  std::vector<int64_t> rows;
  for (int i = 0; i < 12; ++i) {
    const int64_t before = w.rows;
    w.step();
    rows.push_back(w.rows - before);
  }
  EXPECT_THAT(rows, testing::ElementsAre(512, 512, 76, 1, 1, 1, 1, 1, 1, 1, 1, 1));
  EXPECT_EQ(w.users[id].drawn, 10);
  w.drain();
}

TEST(Scheduler, ALongPromptDoesNotFreezeTheStreams) {
  World w = world();
  w.start();
  for (int i = 0; i < 8; ++i) w.submit({.key = "s", .prompt_tokens = 32}, 2000);
  for (int i = 0; i < 100; ++i) w.step();
  const double undisturbed = w.truth.seconds(8, 8 * 100);
  for (auto& [id, u] : w.users) u.longest_gap = 0;
  const RequestId late = w.submit({.key = "s", .prompt_tokens = 1500}, 4);
  while (w.users[late].first_token < 0) w.step();
  for (const auto& [id, u] : w.users)
    if (id != late) { EXPECT_LE(u.longest_gap, 2.5 * undisturbed); }
  // Alone it would take 3 s.
  EXPECT_LE(w.users[late].first_token - w.users[late].submitted, 4 * 1500 * w.truth.per_row_seconds);
  for (const auto& [id, u] : w.users) w.cancel(id);
  w.drain();
}

// Two keys with always enough to do, one ten times as eager: what they are served never differs by more than
// VTC's bound, 2 max(w_p L_in, w_q M).
TEST(Scheduler, BackloggedKeysAreServedAlike) {
  World w = world(600);
  w.options.max_running = 8;
  w.options.max_queued = w.options.max_queued_per_key = 10'000;
  w.start();
  for (int i = 0; i < 400; ++i)
    for (int k = 0; k < 10; ++k) w.submit({.key = k < 9 ? "eager" : "calm", .prompt_tokens = 100}, 50);
  double worst = 0;
  const auto calm_ended = [&] {
    return std::count_if(w.users.begin(), w.users.end(), [](const auto& u) { return u.second.spec.key == "calm" && u.second.ended >= 0; });
  };
  for (int i = 0; i < 20'000 && (i % 64 || calm_ended() < 350); ++i) {
    w.step();
    worst = std::max(worst, std::abs(w.scheduler->served("eager") - w.scheduler->served("calm")));
  }
  const double most_in_memory = 600 * FakeStore::kPage;
  EXPECT_LE(worst, 2 * std::max(100.0, 2 * most_in_memory));
  EXPECT_LE(worst, 2000);  // far nearer in fact
  for (const auto& [id, u] : w.users)
    if (u.ended < 0) w.cancel(id);
  w.drain();
}

TEST(Scheduler, WeightsShareOut) {
  World w = world(600);
  w.options.max_running = 8;
  w.options.max_queued = w.options.max_queued_per_key = 10'000;
  w.start();
  const double weights[] = {1, 2, 4};
  for (int i = 0; i < 600; ++i)
    for (int k = 0; k < 3; ++k) w.submit({.key = std::string(1, static_cast<char>('a' + k)), .weight = weights[k], .prompt_tokens = 60}, 30);
  for (int i = 0; i < 2000; ++i) w.step();
  double drawn[3] = {};
  for (const auto& [id, u] : w.users) drawn[u.spec.key[0] - 'a'] += static_cast<double>(u.drawn);
  EXPECT_NEAR(drawn[1] / drawn[0], 2, 0.2);
  EXPECT_NEAR(drawn[2] / drawn[0], 4, 0.4);
  for (const auto& [id, u] : w.users)
    if (u.ended < 0) w.cancel(id);
  w.drain();
}

TEST(Scheduler, NobodySavesUpCredit) {
  World w = world();
  w.start();
  w.submit({.key = "idle", .prompt_tokens = 10}, 2);
  w.drain();
  for (int i = 0; i < 50; ++i) w.submit({.key = "busy", .prompt_tokens = 200}, 100);
  for (int i = 0; i < 200; ++i) w.step();
  w.submit({.key = "idle", .prompt_tokens = 10}, 2);
  EXPECT_GE(w.scheduler->served("idle"), w.scheduler->served("busy") - 200 * 50 - w.options.credit);
  w.drain();
}

struct Flood {
  int64_t prompt, answer, alive;  // so many requests of it are there at any time
  int64_t pages;                  // of the machine
  int priority = 0;               // that it asks for
};

// The first tokens of one who asks now and then, beside a flood or alone: the 95th of a hundred waits.
double wait_beside(const Flood* flood, int64_t prompt, double every) {
  World w = world(flood ? flood->pages : 4096);
  w.truth = {.weights_seconds = 26e-3, .per_row_seconds = 5.5e-3, .per_context_seconds = 4e-7};  // TinyLlama on two slow cores
  w.options.max_running = 16;
  w.options.max_queued = w.options.max_queued_per_key = 10'000;
  w.noise = 0.05;
  w.start();
  std::vector<double> waits;
  std::vector<RequestId> calm;
  std::set<RequestId> flooding;
  std::exponential_distribution<> pause(1 / every);
  double next = 5;
  for (int64_t i = 0; calm.size() < 100 || w.users[calm.back()].ended < 0; ++i) {
    std::erase_if(flooding, [&](RequestId id) { return w.users[id].ended >= 0; });
    while (flood && std::ssize(flooding) < flood->alive)
      flooding.insert(w.submit({.key = "flood", .priority = flood->priority, .prompt_tokens = flood->prompt}, flood->answer / 2 + static_cast<int64_t>(w.random() % static_cast<uint64_t>(flood->answer))));
    w.step();
    while (w.now > next && calm.size() < 100) {  // in the middle of that step
      calm.push_back(w.submit({.key = "calm", .prompt_tokens = prompt}, 16));
      w.users[calm.back()].submitted = next;
      next += pause(w.random) + 0.5;
    }
  }
  for (const RequestId id : calm) waits.push_back(w.users[id].first_token - w.users[id].submitted);
  for (const auto& [id, u] : w.users)
    if (u.ended < 0) w.cancel(id);
  w.drain();
  return percentile(waits, 0.95);
}

// One key floods, another asks now and then: short prompts and long ones beside many short requests, as many as
// there are places, prompts alone, and contexts that take all pages.
TEST(Scheduler, AFloodDoesNotDrownOthers) {
  const Flood floods[] = {{128, 64, 200, 4096}, {32, 400, 16, 4096}, {400, 2, 100, 4096}, {1500, 300, 30, 400}};
  for (const auto& [prompt, every] : {std::pair{32, 1.5}, {64, 1.5}, {400, 8.0}, {1500, 60.0}}) {
    const double alone = wait_beside(nullptr, prompt, every);
    for (const Flood& flood : floods)
      EXPECT_LE(wait_beside(&flood, prompt, every), 2 * alone) << prompt << " beside " << flood.prompt << " + " << flood.answer << "; alone " << alone;
  }
}

TEST(Scheduler, AFloodGainsNothingByPriority) {
  for (const Flood& flood : {Flood{128, 64, 200, 4096}, {1500, 300, 30, 400}}) {
    Flood urgent = flood;
    urgent.priority = 100;
    EXPECT_EQ(wait_beside(&urgent, 64, 1.5), wait_beside(&flood, 64, 1.5)) << flood.prompt << " + " << flood.answer;
  }
}

// One place, five requests of a key beside as many of another: what ends, in its order.
std::string order_of_ends(const std::vector<int>& priorities, int max_priority) {
  World w = world();
  w.options.max_running = 1;
  w.options.credit = 0;
  w.start();
  for (size_t i = 0; i < 5; ++i) {
    w.submit({.key = "a", .priority = priorities[i], .max_priority = max_priority, .prompt_tokens = 40}, 20);
    w.submit({.key = "b", .prompt_tokens = 40}, 20);
  }
  w.drain();
  std::vector<std::pair<double, RequestId>> ends;
  for (const auto& [id, u] : w.users) ends.emplace_back(u.ended, id);
  std::sort(ends.begin(), ends.end());
  std::string order;
  for (const auto& [when, id] : ends) order += id % 2 ? static_cast<char>('1' + (id - 1) / 2) : 'b';
  return order;
}

TEST(Scheduler, PriorityOrdersTheRequestsOfAKeyAlone) {
  EXPECT_EQ(order_of_ends({0, 0, 0, 0, 0}, 0), "1b2b3b4b5b");
  EXPECT_EQ(order_of_ends({0, 3, 100, 0, 3}, 0), "3b2b5b1b4b");
  // What it may claim of others goes before them; what is more than that goes before its own.
  EXPECT_EQ(order_of_ends({0, 3, 100, 0, 3}, 2), "325bbb1b4b");
  // Nobody need be urgent.
  EXPECT_EQ(order_of_ends({0, -1, 0, -2, 0}, 0), "1bb3b5bb24");
  EXPECT_EQ(order_of_ends({0, 3, 100, 0, 3}, -1), "bbbbb32514");
}

TEST(Scheduler, PriorityGoesFirstAndWaitingEnds) {
  World w = world(300);
  w.options.max_running = 4;
  w.options.promote_after_seconds = 5;
  w.options.max_queued = w.options.max_queued_per_key = 10'000;
  w.start();
  const RequestId low = w.submit({.key = "low", .priority = -1, .prompt_tokens = 100}, 20);
  for (int i = 0; i < 300; ++i) w.submit({.key = "high", .prompt_tokens = 100}, 50);
  const RequestId top = w.submit({.key = "top", .priority = 1, .max_priority = 1, .prompt_tokens = 100}, 20);
  while (w.users[low].ended < 0 || w.users[top].ended < 0) w.step();
  EXPECT_LT(w.users[top].first_token, 2);
  EXPECT_GT(w.users[low].first_token, 0);
  EXPECT_LT(w.users[low].ended, 15);
  for (const auto& [id, u] : w.users)
    if (u.ended < 0) w.cancel(id);
  w.drain();
}

// So many requests of a key are there.
void keep_up(World& w, const RequestSpec& spec, int64_t answer, int64_t alive) {
  const auto there = std::count_if(w.alive.begin(), w.alive.end(), [&](RequestId id) { return w.users[id].spec.key == spec.key; });
  for (int64_t i = there; i < alive; ++i) w.submit(spec, answer);
}

// Prompts of a higher level take all that a step has for prompts: who has state in memory waits, too.
TEST(Scheduler, WaitingEndsInMemoryToo) {
  World w = world();
  w.options.promote_after_seconds = 5;
  w.start();
  const RequestId low = w.submit({.key = "low", .priority = -1, .prompt_tokens = 1000}, 5);
  w.step();
  while (w.users[low].first_token < 0 && w.now < 60) {
    keep_up(w, {.key = "high", .prompt_tokens = 300}, 2, 12);
    w.step();
  }
  EXPECT_GT(w.users[low].first_token, 5);
  EXPECT_LT(w.users[low].first_token, 5 + 2 * 2 * 1000 * w.truth.per_row_seconds);
  w.drain();
}

// A prompt of low priority that has begun does not stand in the way of the others of its key.
TEST(Scheduler, AKeyIsNotKeptOutByItsLeastPrompt) {
  World w = world();
  w.options.max_step_rows = 256;
  w.start();
  const RequestId low = w.submit({.key = "a", .priority = -1, .prompt_tokens = 1500}, 5);
  w.step();
  for (int i = 0; i < 20; ++i) {
    keep_up(w, {.key = "b", .prompt_tokens = 300}, 2, 12);
    w.step();
  }
  const RequestId next = w.submit({.key = "a", .prompt_tokens = 100}, 5);
  while (w.users[next].first_token < 0 && w.now < 60) {
    keep_up(w, {.key = "b", .prompt_tokens = 300}, 2, 12);
    w.step();
  }
  EXPECT_GT(w.users[next].first_token, 0);
  EXPECT_LT(w.users[next].first_token - w.users[next].submitted, 4 * 100 * w.truth.per_row_seconds);
  EXPECT_LT(w.users[low].first_token, 0);
  w.drain();
}

// Who sends one short prompt after the other is a newcomer only as long as it was given less.
TEST(Scheduler, ANewcomerIsServedAlikeInTheEnd) {
  World w = world();
  w.options.max_running = 8;
  w.options.max_queued = w.options.max_queued_per_key = 10'000;
  w.start();
  double worst = 0;
  for (int i = 0; i < 5000; ++i) {
    keep_up(w, {.key = "flood", .prompt_tokens = 1000}, 100, 30);
    keep_up(w, {.key = "short", .prompt_tokens = 100}, 1, 1);
    w.step();
    worst = std::max(worst, w.scheduler->served("short") - w.scheduler->served("flood"));
  }
  EXPECT_LE(worst, 2 * 1000);
  for (const RequestId id : std::set(w.alive)) w.cancel(id);
  w.drain();
}

// Nor does what was charged ahead stay on the account when the weight of a key changes before it is computed.
TEST(Scheduler, WhatIsChargedAheadComesOutEven) {
  World w = world();
  w.options.max_running = 8;
  w.options.credit = 0;
  w.start();
  for (int i = 0; i < 100; ++i) {
    w.submit({.key = "a", .weight = 4, .prompt_tokens = 500}, 1);
    w.submit({.key = "b", .prompt_tokens = 500}, 1);
    w.step();
    w.submit({.key = "a", .weight = 1, .prompt_tokens = 1}, 1);
    w.drain();
  }
  for (const char* key : {"a", "b"}) EXPECT_NEAR(w.scheduler->served(key), w.given["b"], 2 * 500) << key;
}

// State that is lost as soon as it is looked for costs no turn, whether the cache or the disk had it.
TEST(Scheduler, WhatIsLostAtOnceIsComputedAtOnce) {
  World w = world(64);
  std::mt19937_64 random(1);
  w.store.faults = &random;
  w.store.lost_share = 1;
  w.truth.move_seconds_per_token = 1e-6;
  w.options.max_running = 1;
  w.start();
  for (int i = 0; i < 20; ++i) {
    w.store.cached[w.scheduler->counts().submitted + 1] = 96;
    w.submit({.key = "a", .prompt_tokens = 100}, 60);
    for (int j = 0; j < 9; ++j) w.step();
    w.submit({.key = "b", .priority = 1, .max_priority = 1, .prompt_tokens = 100}, 5);
    w.drain();
  }
  EXPECT_EQ(w.scheduler->counts().preempted_to_disk, 20u);
  EXPECT_EQ(w.empty_plans, 0);
}

TEST(Scheduler, GuessesTakeNobodysRow) {
  World w = world();
  w.options.max_running = 4;
  w.options.max_step_rows = 8;
  w.start();
  for (int i = 0; i < 4; ++i) w.submit({.key = "a", .prompt_tokens = 4}, 100);
  while (w.scheduler->counts().output_tokens < 8) w.step();
  for (int i = 0; i < 20; ++i) {
    for (RequestId id = 1; id <= 4; ++id) w.scheduler->set_drafts(id, 7);
    const std::map<RequestId, World::User> before = w.users;
    w.step();
    for (const auto& [id, u] : w.users) EXPECT_GT(u.drawn, before.at(id).drawn) << id;
  }
  w.drain();
}

TEST(Scheduler, MemoryThatRunsOutPreemptsTheLast) {
  for (const double move : {1e-6, 1.0}) {  // a quick disk, and one slower than computing again
    World w = world(64);
    w.truth.move_seconds_per_token = move;
    w.options.long_step = 100;
    w.start();
    for (int i = 0; i < 8; ++i) w.submit({.key = "a", .prompt_tokens = 100}, 200);
    w.drain();
    const SchedulerCounts& c = w.scheduler->counts();
    EXPECT_EQ(c.finished, 8u);
    EXPECT_GT(move < 1e-3 ? c.preempted_to_disk : c.preempted_to_recompute, 0u);
    EXPECT_EQ(move < 1e-3 ? c.preempted_to_recompute : c.preempted_to_disk, 0u);
    // Earlier ones are never behind later ones of the same key.
    double before = 0;
    for (const auto& [id, u] : w.users) {
      EXPECT_GE(u.ended, before);
      before = u.ended;
    }
  }
}

TEST(Scheduler, WhatCannotFitOrWouldQueueTooLongIsRefused) {
  World w = world(10);
  w.options.max_queued_per_key = 3;
  w.options.max_queued = 5;
  w.start();
  const auto why = [&](const RequestSpec& spec) { return w.scheduler->submit(spec, 0).refusal; };
  EXPECT_EQ(why({.key = "a", .prompt_tokens = 150, .max_new_tokens = 20})->why, Refusal::Why::kNever);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(w.submit({.key = "a", .prompt_tokens = 150}, 10));
  const auto full = why({.key = "a", .prompt_tokens = 1, .max_new_tokens = 1});
  EXPECT_EQ(full->why, Refusal::Why::kKeyQueueFull);
  EXPECT_GE(full->retry_after_seconds, 1);
  EXPECT_TRUE(w.submit({.key = "b", .prompt_tokens = 1}, 1));
  EXPECT_TRUE(w.submit({.key = "c", .prompt_tokens = 1}, 1));
  EXPECT_EQ(why({.key = "d", .prompt_tokens = 1, .max_new_tokens = 1})->why, Refusal::Why::kQueueFull);
  w.drain();
  EXPECT_EQ(w.scheduler->counts().refused, 3u);
}

// One request of many prompts is no queue to itself: what waited before it decides, once.
TEST(Scheduler, AGroupIsTakenOrRefusedWhole) {
  World w = world();
  w.options.max_running = 1;
  w.options.max_queued = 100;
  w.options.max_queued_per_key = 40;
  w.options.max_queued_seconds = 1;
  w.start();
  const auto why = [&](const RequestSpec& spec, size_t n) { return w.scheduler->submit(std::vector<RequestSpec>(n, spec), w.now).refusal; };
  // More than ever may wait, never; so long as nobody waits, as many as may and as long as it takes.
  const RequestSpec spec{.key = "a", .prompt_tokens = 100, .max_new_tokens = 100};
  EXPECT_EQ(why(spec, 41)->why, Refusal::Why::kNever);
  EXPECT_EQ(w.scheduler->counts().refused, 41u);
  EXPECT_EQ(w.submit_group(spec, 100, 40).size(), 40u);
  EXPECT_EQ(w.scheduler->counts().queued, 40);
  // Another key's few, which find forty seconds of work and more before them that they need not wait for.
  EXPECT_EQ(w.submit_group({.key = "b", .prompt_tokens = 10, .max_new_tokens = 4}, 4, 3).size(), 3u);
  // Whoever comes next of that key waits behind it, and is told so once for all.
  EXPECT_EQ(why({.key = "b", .prompt_tokens = 1, .max_new_tokens = 1}, 38)->why, Refusal::Why::kKeyQueueFull);
  EXPECT_EQ(why(spec, 1)->why, Refusal::Why::kKeyQueueFull);
  EXPECT_EQ(w.scheduler->counts().queued, 43);
  w.step();
  EXPECT_EQ(w.scheduler->counts().running, 1);
  EXPECT_EQ(why(spec, 1)->why, Refusal::Why::kTooLong);
  w.drain();
  EXPECT_EQ(w.scheduler->counts().finished, 43u);
  // One that does not fit, and none is taken.
  EXPECT_EQ(w.scheduler->submit(std::vector<RequestSpec>{spec, {.key = "a", .prompt_tokens = 1 << 30, .max_new_tokens = 1}}, w.now).refusal->why,
            Refusal::Why::kNever);
  EXPECT_TRUE(w.scheduler->idle());
}

// What is taken in starts in about the time that was said; who is told to come back later and does finds a place.
TEST(Scheduler, NobodyQueuesLongerThanSaid) {
  World w = world(2000);
  w.options.max_running = 16;
  w.options.max_queued_seconds = 20;
  w.start();
  std::vector<double> back;
  int64_t refused_again = 0, came_back = 0;
  while (w.now < 300) {
    if (w.random() % 4 == 0) {
      const auto at = std::find_if(back.begin(), back.end(), [&](double t) { return t < w.now; });
      const auto submitted = w.scheduler->submit({.key = "a", .prompt_tokens = 128, .max_new_tokens = 64}, w.now);
      came_back += at != back.end();
      refused_again += at != back.end() && submitted.refusal;
      if (at != back.end()) back.erase(at);
      if (submitted.refusal) {
        EXPECT_EQ(submitted.refusal->why, Refusal::Why::kTooLong);
        EXPECT_LT(submitted.refusal->retry_after_seconds, 20);
        if (back.size() < 5) back.push_back(w.now + submitted.refusal->retry_after_seconds);
      } else {
        w.enter(submitted.id, {.key = "a", .prompt_tokens = 128, .max_new_tokens = 64}, 64);
      }
    }
    w.step();
  }
  int64_t started = 0;
  for (const auto& [id, u] : w.users)
    if (u.first_token >= 0) {
      ++started;
      EXPECT_LT(u.first_token - u.submitted, 1.5 * 20);
    }
  EXPECT_GT(started, 100);
  EXPECT_GT(w.scheduler->counts().refused, 100u);
  for (const auto& [id, u] : w.users)
    if (u.ended < 0) w.cancel(id);
  w.drain();
}

TEST(Scheduler, CachedTokensAreNeitherComputedNorCharged) {
  World w = world();
  w.start();
  w.store.cached[1] = 960;
  const RequestId id = w.submit({.key = "a", .prompt_tokens = 1000}, 5);
  w.drain();
  EXPECT_EQ(w.rows, 40 + 4);
  EXPECT_EQ(w.scheduler->counts().cached_tokens, 960u);
  EXPECT_EQ(w.scheduler->counts().prompt_tokens, 40u);
  EXPECT_DOUBLE_EQ(w.scheduler->served("a"), 40 + 2 * 5);
  EXPECT_EQ(w.users[id].drawn, 5);
}

// What comes from the disk is in nobody's way.
TEST(Scheduler, StreamsGoOnWhileStateIsComing) {
  World w = world();
  std::mt19937_64 always(3);
  w.store.faults = &always;
  w.store.longest_way = 1;
  w.start();
  const RequestId stream = w.submit({.key = "a", .prompt_tokens = 32}, 100);
  for (int i = 0; i < 5; ++i) w.step();
  w.store.cached[2] = 960;
  const RequestId second = w.submit({.key = "a", .prompt_tokens = 1000}, 5);
  w.step();
  w.store.coming[second] = 20;
  const int64_t before = w.users[stream].drawn;
  for (int i = 0; i < 20; ++i) w.step();
  EXPECT_EQ(w.users[stream].drawn, before + 20);
  EXPECT_LT(w.users[second].first_token, 0);
  for (int i = 0; i < 40 && w.users[second].first_token < 0; ++i) w.step();
  EXPECT_GT(w.users[second].first_token, 0);
  EXPECT_EQ(w.scheduler->counts().cached_tokens, 960u);
  w.drain();
}

// As long as what came from the disk lacks pages for the rest of its prompt, nobody after it is brought in, only to give way.
TEST(Scheduler, NobodyTakesTheRoomOfWhatCame) {
  World w = world(40);
  std::mt19937_64 always(3);
  w.store.faults = &always;
  w.store.longest_way = 1;
  w.start();
  const RequestSpec small{.key = "a", .prompt_tokens = 60};
  for (int i = 0; i < 60; ++i) {
    keep_up(w, small, 50, 12);
    w.step();
  }
  int64_t lacked = 0;
  const RequestId large = w.scheduler->counts().submitted + 1;
  w.store.cached[large] = 96;
  ASSERT_EQ(w.submit({.key = "a", .prompt_tokens = 500}, 5), large);
  while (w.users[large].first_token < 0 && w.steps < 5000) {
    keep_up(w, small, 50, 12);
    const bool lacks = w.store.memory.contains(large) && !w.store.coming.contains(large) && w.store.memory[large] < FakeStore::pages(500);
    const int64_t before = w.store.attaches;
    w.step();
    lacked += lacks;
    if (lacks && w.store.memory[large] < FakeStore::pages(500)) { EXPECT_EQ(w.store.attaches, before); }
  }
  EXPECT_GT(lacked, 10);
  EXPECT_GT(w.users[large].first_token, 0);
  EXPECT_LT(w.users[large].first_token - w.users[large].submitted, 12 * (60 + 50) * w.truth.weights_seconds);
  for (const RequestId id : std::set(w.alive)) w.cancel(id);
  w.drain();
}

TEST(Scheduler, SeveralAnswersWaitForTheFirstPrompt) {
  World w = world();
  w.start();
  const RequestId first = w.submit({.key = "a", .prompt_tokens = 600}, 5);
  w.store.cached[2] = 592;
  const RequestId second = w.submit({.key = "a", .prompt_tokens = 600, .after = first}, 5);
  w.step();
  EXPECT_EQ(w.scheduler->view(second)->phase, RequestPhase::kQueued);
  w.drain();
  EXPECT_EQ(w.scheduler->counts().prompt_tokens, 608u);
}

TEST(Scheduler, GuessesAreCheckedTogether) {
  World w = world();
  w.accept_share = 1;
  w.start();
  const RequestId id = w.submit({.key = "a", .prompt_tokens = 40}, 41);
  w.step();
  int64_t steps = 0;
  while (w.users[id].ended < 0) {
    w.scheduler->set_drafts(id, 3);
    w.step();
    ++steps;
  }
  EXPECT_EQ(steps, 10);
  EXPECT_EQ(w.users[id].drawn, 41);
  w.drain();
}

TEST(StepCost, LearnsTheMachine) {
  std::mt19937_64 random(9);
  StepCost model{.weights_seconds = 50e-3, .per_row_seconds = 0.5e-3, .per_context_seconds = 1e-9};
  const StepCost truth{.weights_seconds = 10e-3, .per_row_seconds = 2e-3, .per_context_seconds = 40e-9};
  for (int i = 0; i < 3000; ++i) {
    const int64_t rows = 1 + static_cast<int64_t>(random() % 64), context = rows * static_cast<int64_t>(random() % 30'000);
    model.observe(rows, context, truth.seconds(rows, context) * std::exp(std::normal_distribution<>(0, 0.1)(random)));
  }
  EXPECT_NEAR(model.seconds(1, 100) / truth.seconds(1, 100), 1, 0.3);
  EXPECT_NEAR(model.seconds(64, 64 * 100) / truth.seconds(64, 64 * 100), 1, 0.3);
  EXPECT_NEAR(model.seconds(16, 16 * 30'000) / truth.seconds(16, 16 * 30'000), 1, 0.3);
  EXPECT_EQ(truth.rows_within(truth.seconds(20, 20 * 10), 8, 80, 10, 100), 12);
  EXPECT_EQ(truth.rows_within(1e-3, 0, 0, 10, 100), 0);
}

}  // namespace
}  // namespace venturi
