// The scheduler in worlds that are random but for their seed: arrivals in bursts, cancels at any time, a model that is
// wrong about the machine, pages and disk that run out, state that is lost, steps that fail. What must hold of every
// step is in World::step(), what bounds every wait in World::check_bound().
//
// VENTURI_SIMULATION_SEEDS: how many worlds, of 12,000 steps and what is left to do after them; 30 where it says nothing.
#include <gtest/gtest.h>

#include <cstdlib>

#include "scheduler/scheduler.h"
#include "scheduler/simulator_test.h"

namespace venturi {
namespace {

struct Crowd {  // who asks in a world
  World& world;
  uint64_t seed;
  int64_t keys, longest_prompt, longest_answer;
  bool fixed_weights;
  std::vector<RequestId> asked = {};

  int64_t pick(int64_t low, int64_t high) { return low + static_cast<int64_t>(world.random() % static_cast<uint64_t>(high - low + 1)); }
  bool one_in(uint64_t n) { return world.random() % n == 0; }

  void ask() {
    const int64_t key = pick(0, keys - 1);
    RequestSpec spec{.key = std::string(1, static_cast<char>('a' + key)),
                     .weight = static_cast<double>(fixed_weights ? 1 + (key + static_cast<int64_t>(seed)) % 3 : pick(1, 3)),
                     .priority = static_cast<int>(one_in(10)) - static_cast<int>(one_in(10)),
                     .max_priority = static_cast<int>(pick(0, 1)),
                     .prompt_tokens = pick(1, longest_prompt)};
    spec.max_new_tokens = pick(1, longest_answer);
    spec.prompt_outputs = one_in(6);
    if (!asked.empty() && one_in(8)) spec.after = asked[world.random() % asked.size()];
    const RequestId next = world.scheduler->counts().submitted + 1;
    if (one_in(3) && !spec.prompt_outputs)
      world.store.cached[next] = pick(0, spec.prompt_tokens - 1) / FakeStore::kPage * FakeStore::kPage;
    const auto taken = world.submit_group(spec, pick(1, spec.max_new_tokens), one_in(5) ? pick(2, 6) : 1);
    asked.insert(asked.end(), taken.begin(), taken.end());
    if (taken.empty()) world.store.cached.erase(next);
  }

  // While a step runs.
  void act() {
    if (one_in(40))
      for (int64_t burst = pick(1, 12); burst > 0; --burst) ask();
    if (!asked.empty() && one_in(30)) {
      const auto at = asked.begin() + pick(0, std::ssize(asked) - 1);
      world.cancel(*at);
      asked.erase(at);
    }
    if (!asked.empty() && one_in(2)) world.scheduler->set_drafts(asked[world.random() % asked.size()], pick(0, 5));
  }
};

void shape(World& w, uint64_t seed) {
  w.random.seed(seed);
  const auto pick = [&](int64_t low, int64_t high) { return low + static_cast<int64_t>(w.random() % static_cast<uint64_t>(high - low + 1)); };
  w.truth = kMachine;
  w.truth.move_seconds_per_token = seed % 2 ? 1e-5 : 5e-3;
  w.store.total = pick(20, 400);
  w.store.disk_total = pick(0, 600);
  w.store.faults = &w.random;
  w.store.lost_share = seed % 3 == 0 ? 0.1 : 0;
  w.store.disk_refuses_share = seed % 4 == 0 ? 0.3 : 0;
  w.store.longest_way = seed % 7 < 4 ? static_cast<int>(seed % 7) * 8 : 0;
  w.options.max_running = pick(1, 24);
  w.options.max_step_rows = pick(w.options.max_running, 256);
  w.options.max_step_outputs = pick(w.options.max_running, 2 * w.options.max_running + 8);
  w.options.max_queued = pick(4, 200);
  w.options.max_queued_per_key = pick(2, 100);
  w.options.promote_after_seconds = static_cast<double>(pick(1, 20));
  w.options.newcomer_stretch = static_cast<double>(pick(1, 4));
  w.options.long_step = static_cast<double>(pick(1, 30));
  w.options.max_queued_seconds = static_cast<double>(pick(5, 200));
  w.noise = 0.3;
  w.failure_share = seed % 5 == 0 ? 0.002 : 0;
  w.accept_share = 0.6;
}

void run_world(World& w, uint64_t seed) {
  shape(w, seed);
  Crowd crowd{.world = w,
              .seed = seed,
              .keys = 2 + static_cast<int64_t>(seed / 2 % 4),
              .longest_prompt = seed % 3 ? 500 : 1500,
              .longest_answer = seed % 5 < 3 ? 200 : 20,
              .fixed_weights = seed % 2 == 1};
  w.start();
  for (int i = 0; i < 12'000; ++i) {
    w.step([&] { crowd.act(); });
    if (testing::Test::HasFailure()) FAIL() << "step " << i;
  }
  w.drain();
  const SchedulerCounts& c = w.scheduler->counts();
  EXPECT_EQ(c.submitted, c.finished + c.failed + c.cancelled);
  EXPECT_EQ(c.queued + c.running + c.moved_out, 0);
}

TEST(Simulation, EveryRequestEndsOnceAndNobodyStarves) {
  int64_t steps = 0, requests = 0, longest_wait = 0;
  double longest_wait_seconds = 0, nearest_bound = 0;
  SchedulerCounts all;
  const char* asked = std::getenv("VENTURI_SIMULATION_SEEDS");
  const uint64_t seeds = asked ? std::strtoull(asked, nullptr, 10) : 30;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    World w;
    run_world(w, seed);
    if (HasFailure()) break;
    const SchedulerCounts& c = w.scheduler->counts();
    steps += w.steps;
    requests += std::ssize(w.users);
    longest_wait = std::max(longest_wait, w.longest_wait);
    longest_wait_seconds = std::max(longest_wait_seconds, w.longest_wait_seconds);
    nearest_bound = std::max(nearest_bound, w.nearest_bound);
    all.preempted_to_disk += c.preempted_to_disk;
    all.preempted_to_recompute += c.preempted_to_recompute;
    all.refused += c.refused;
    all.cancelled += c.cancelled;
    all.failed += c.failed;
  }
  fmt::print("{} worlds, {} steps, {} requests; the longest wait {} plans and {:.0f} s, {:.2f} of its bound at most\n", seeds, steps, requests,
             longest_wait, longest_wait_seconds, nearest_bound);
  // The test met what it is for.
  EXPECT_GT(steps, 300'000);
  EXPECT_GT(all.preempted_to_disk, 1000u);
  EXPECT_GT(all.preempted_to_recompute, 1000u);
  EXPECT_GT(all.refused, 100u);
  EXPECT_GT(all.cancelled, 1000u);
  EXPECT_GT(all.failed, 100u);
}

}  // namespace
}  // namespace venturi
