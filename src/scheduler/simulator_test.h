// A world for the scheduler: pages, a disk, a clock that a step moves on, and users.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <vector>

#include "scheduler/scheduler.h"

namespace venturi {

struct FakeStore : StateStore {
  static constexpr int64_t kPage = 16;
  int64_t total = 0, disk_total = 0;
  int64_t used = 0, disk_used = 0;
  std::map<RequestId, int64_t> memory, disk;  // pages
  std::map<RequestId, int64_t> cached;        // what attach finds
  std::map<RequestId, int> coming;            // on their way, for so many looks
  std::vector<std::pair<int64_t, int>> abandoned;  // pages of what was released on its way, and for how many steps yet
  int longest_way = 0;
  std::mt19937_64* faults = nullptr;
  double lost_share = 0, disk_refuses_share = 0;

  static int64_t pages(int64_t tokens) { return (tokens + kPage - 1) / kPage; }
  bool chance(double share) { return faults && std::uniform_real_distribution<>()(*faults) < share; }

  bool can_ever_hold(int64_t tokens) const override { return pages(tokens) <= total; }
  int64_t attach(RequestId id) override {
    EXPECT_FALSE(memory.contains(id) || disk.contains(id));
    const auto at = cached.find(id);
    memory[id] = 0;
    if (at == cached.end() || used + pages(at->second) > total) return 0;
    used += memory[id] = pages(at->second);
    sets_out(id);
    return at->second;
  }
  bool reserve(RequestId id, int64_t tokens) override {
    EXPECT_TRUE(memory.contains(id) && !coming.contains(id));
    const int64_t more = std::max<int64_t>(0, pages(tokens) - memory[id]);
    if (used + more > total) return false;
    memory[id] += more;
    used += more;
    return true;
  }
  void release(RequestId id) override {
    EXPECT_TRUE(memory.contains(id) || disk.contains(id));
    if (coming.contains(id)) {
      abandoned.emplace_back(memory[id], coming[id]);
    } else if (memory.contains(id)) {
      used -= memory[id];
    }
    if (disk.contains(id)) disk_used -= disk[id];
    memory.erase(id);
    disk.erase(id);
    coming.erase(id);
  }
  bool move_out(RequestId id) override {
    EXPECT_TRUE(memory.contains(id) && !coming.contains(id));
    if (disk_used + memory[id] > disk_total || chance(disk_refuses_share)) return false;
    disk_used += disk[id] = memory[id];
    used -= memory[id];
    memory.erase(id);
    return true;
  }
  MoveIn move_in(RequestId id) override {
    EXPECT_TRUE(disk.contains(id));
    if (chance(lost_share)) {
      release(id);
      return MoveIn::kLost;
    }
    if (used + disk[id] > total) return MoveIn::kNoRoom;
    used += memory[id] = disk[id];
    disk_used -= disk[id];
    disk.erase(id);
    sets_out(id);
    return MoveIn::kDone;
  }
  void sets_out(RequestId id) {
    if (longest_way > 0 && chance(0.7)) coming[id] = 1 + static_cast<int>((*faults)() % static_cast<uint64_t>(longest_way));
  }
  // The disk is done with some of what was abandoned.
  void tick() {
    std::erase_if(abandoned, [&](auto& one) {
      if (one.second-- > 0) return false;
      used -= one.first;
      return true;
    });
  }
  Arrival arrival(RequestId id) override {
    const auto at = coming.find(id);
    if (at == coming.end()) return Arrival::kHere;
    if (at->second-- > 0) return Arrival::kComing;
    coming.erase(at);
    if (!chance(lost_share)) return Arrival::kHere;
    release(id);
    return Arrival::kLost;
  }
};

struct World {
  struct User {  // what the test knows of a request
    RequestSpec spec;
    int64_t answer = 0;  // tokens it will want
    double submitted = 0, first_token = -1, last_token = -1, longest_gap = 0, ended = -1;
    int64_t drawn = 0, computed = 0;
  };

  SchedulerOptions options;
  StepCost truth;  // what steps really take
  FakeStore store;
  std::unique_ptr<Scheduler> scheduler;
  double now = 0;
  std::map<RequestId, User> users;
  int64_t steps = 0, rows = 0, empty_plans = 0;
  std::mt19937_64 random{1};
  double noise = 0, failure_share = 0, accept_share = 0;

  void start() { scheduler = std::make_unique<Scheduler>(options, truth, store); }

  RequestId submit(RequestSpec spec, int64_t answer) {
    spec.max_new_tokens = std::max(spec.max_new_tokens, answer);
    const auto submitted = scheduler->submit(spec, now);
    if (submitted.refusal) return 0;
    users[submitted.id] = {.spec = spec, .answer = answer, .submitted = now};
    return submitted.id;
  }

  // Of `n` requests alike that are taken together.
  std::vector<RequestId> submit_group(RequestSpec spec, int64_t answer, int64_t n) {
    spec.max_new_tokens = std::max(spec.max_new_tokens, answer);
    const auto submitted = scheduler->submit(std::vector<RequestSpec>(static_cast<size_t>(n), spec), now);
    std::vector<RequestId> ids;
    for (int64_t i = 0; i < n && !submitted.refusal; ++i) {
      ids.push_back(submitted.id + static_cast<RequestId>(i));
      users[ids.back()] = {.spec = spec, .answer = answer, .submitted = now};
    }
    return ids;
  }

  bool cancel(RequestId id) {
    if (!scheduler->cancel(id)) return false;
    EXPECT_LT(users[id].ended, 0) << id << " ended twice";
    users[id].ended = now;
    return true;
  }

  // One step, and what must hold of every step. `meanwhile` runs while it does (cancels, arrivals).
  template <typename Meanwhile>
  void step(Meanwhile&& meanwhile) {
    store.tick();
    const StepWork work = scheduler->plan(now);
    const SchedulerCounts& counts = scheduler->counts();
    EXPECT_LE(store.used, store.total);
    EXPECT_LE(counts.running, options.max_running);
    EXPECT_LE(work.n_rows, options.max_step_rows);
    if (work.rows.empty()) {
      ++empty_plans;
      // Something always gets on.
      EXPECT_TRUE(scheduler->idle() || !store.coming.empty() || !store.abandoned.empty()) << "nothing runs, " << counts.queued << " wait, " << counts.moved_out << " are on disk";
      now += 1e-3;
      meanwhile();
      return;
    }
    int64_t n = 0, context = 0, outputs = 0;
    std::set<RequestId> seen;
    for (const StepWork::Rows& r : work.rows) {
      EXPECT_TRUE(seen.insert(r.id).second);
      User& u = users.at(r.id);
      EXPECT_LT(u.ended, 0);
      EXPECT_GT(r.count, r.drafts);
      EXPECT_TRUE(store.memory.contains(r.id) && !store.coming.contains(r.id));
      EXPECT_GE(store.memory[r.id] * FakeStore::kPage, r.first + r.count);
      const int64_t known = u.spec.prompt_tokens + u.drawn;
      EXPECT_EQ(r.outputs, r.first + r.count - r.drafts == known);
      EXPECT_LE(r.first + r.count, u.spec.prompt_tokens + u.spec.max_new_tokens - 1);
      n += r.count;
      // The prompt's rows, all of them, where they are asked for; else the last and its guesses.
      if (u.spec.prompt_outputs && u.drawn == 0) {
        EXPECT_LE(r.first, u.computed);  // nothing of it came from the cache
        u.computed = std::max(u.computed, r.first + r.count);
        outputs += r.count;
      } else if (r.outputs) {
        outputs += 1 + r.drafts;
      }
      for (int64_t i = 0; i < r.count; ++i) context += r.first + i + 1;
    }
    EXPECT_EQ(n, work.n_rows);
    EXPECT_EQ(outputs, work.n_outputs);
    EXPECT_LE(outputs, options.max_step_outputs);
    EXPECT_EQ(context, work.context);
    double seconds = truth.seconds(n, context);
    if (noise > 0) seconds *= std::exp(std::normal_distribution<>(0, noise)(random));
    meanwhile();
    now += seconds;
    ++steps;
    rows += n;
    std::vector<StepOutcome> outcomes;
    for (const StepWork::Rows& r : work.rows) {
      User& u = users.at(r.id);
      StepOutcome o{.id = r.id};
      if (std::uniform_real_distribution<>()(random) < failure_share) {
        o.failed = true;
      } else if (r.outputs) {
        o.new_tokens = 1;
        while (o.new_tokens <= r.drafts && u.drawn + o.new_tokens < u.answer && std::uniform_real_distribution<>()(random) < accept_share)
          ++o.new_tokens;
        if (u.drawn == 0) u.first_token = now;
        else u.longest_gap = std::max(u.longest_gap, now - u.last_token);
        u.last_token = now;
        u.drawn += o.new_tokens;
        o.ended = u.drawn >= u.answer;
      }
      if ((o.failed || o.ended) && scheduler->view(r.id)) {
        EXPECT_LT(u.ended, 0) << r.id << " ended twice";
        u.ended = now;
      }
      outcomes.push_back(o);
    }
    scheduler->complete(outcomes, seconds);
  }
  void step() {
    step([] {});
  }
  void drain(int64_t most_steps = 1'000'000) {
    while (!scheduler->idle() && most_steps-- > 0) step();
    EXPECT_TRUE(scheduler->idle());
    while (!store.abandoned.empty()) store.tick();
    EXPECT_EQ(store.used, 0);
    EXPECT_EQ(store.disk_used, 0);
    EXPECT_TRUE(store.memory.empty() && store.disk.empty());
    for (const auto& [id, u] : users) EXPECT_GE(u.ended, 0) << id << " never ended";
  }
};

}  // namespace venturi
