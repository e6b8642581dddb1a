// A world for the scheduler: pages, a disk, a clock that a step moves on, and users.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <optional>
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
  int64_t attaches = 0;
  std::mt19937_64* faults = nullptr;
  double lost_share = 0, disk_refuses_share = 0;

  static int64_t pages(int64_t tokens) { return (tokens + kPage - 1) / kPage; }
  bool chance(double share) { return faults && std::uniform_real_distribution<>()(*faults) < share; }

  bool can_ever_hold(int64_t tokens) const override { return pages(tokens) <= total; }
  int64_t attach(RequestId id) override {
    EXPECT_FALSE(memory.contains(id) || disk.contains(id));
    const auto at = cached.find(id);
    ++attaches;
    memory[id] = 0;
    if (at == cached.end() || used + pages(at->second) > total) return 0;
    used += memory[id] = pages(at->second);
    sets_out(id);
    return at->second;
  }
  bool reserve(RequestId id, int64_t tokens) override {
    EXPECT_FALSE(disk.contains(id) || coming.contains(id));
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
    if (chance(0.7)) coming[id] = static_cast<int>((*faults)() % static_cast<uint64_t>(longest_way + 1));
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
  // What bounds the wait for a token from here on (scheduler.h, waiting): the request was left out for promote_after_seconds.
  struct Overdue {
    std::map<std::string, double> counters, given;  // of the keys, then
    double before = 0;                              // for requests of its key that go before it, and for its prompt
  };
  struct User {  // what the test knows of a request
    RequestSpec spec;
    int64_t answer = 0;  // tokens it will want
    double submitted = 0, first_token = -1, last_token = -1, longest_gap = 0, ended = -1;
    int64_t drawn = 0, computed = 0;
    int64_t reached = 0;        // of its prompt, ever computed
    int64_t last_plan = 0;      // that it was part of, or before which it came
    double waits_since = 0;     // when that was
    double waited = 0;          // while it could have been part of plans
    int64_t started_plan = -1;  // after which its first token, or its end, was there
    double started = 0;         // when that was
    std::optional<Overdue> overdue = std::nullopt;
  };

  SchedulerOptions options;
  StepCost truth;  // what steps really take
  FakeStore store;
  std::unique_ptr<Scheduler> scheduler;
  double now = 0;
  std::map<RequestId, User> users;
  std::set<RequestId> alive;  // of them
  int64_t steps = 0, rows = 0, empty_plans = 0;
  int64_t longest_wait = 0;  // of any request: plans one after the other without it, while it could have been part of them
  double longest_wait_seconds = 0, nearest_bound = 0;  // the latter: what was given during a wait, over its bound
  std::map<std::string, double> given;                 // charges for what was computed for a key
  std::map<std::string, std::pair<double, double>> weights;  // of a key, the least and the most
  int64_t longest_prompt = 0, longest_answer = 0;
  std::set<std::string> at_outputs;  // keys with a prompt in the last step whose logits are wanted, unless it ended there
  int64_t again = 0;  // rows in steps, one after the other, that computed nothing new
  std::mt19937_64 random{1};
  double noise = 0, failure_share = 0, accept_share = 0;

  void start() { scheduler = std::make_unique<Scheduler>(options, truth, store); }

  RequestId submit(RequestSpec spec, int64_t answer) {
    spec.max_new_tokens = std::max(spec.max_new_tokens, answer);
    const auto submitted = scheduler->submit(spec, now);
    if (submitted.refusal) return 0;
    enter(submitted.id, spec, answer);
    return submitted.id;
  }

  // Of `n` requests alike that are taken together.
  std::vector<RequestId> submit_group(RequestSpec spec, int64_t answer, int64_t n) {
    spec.max_new_tokens = std::max(spec.max_new_tokens, answer);
    const auto submitted = scheduler->submit(std::vector<RequestSpec>(static_cast<size_t>(n), spec), now);
    std::vector<RequestId> ids;
    for (int64_t i = 0; i < n && !submitted.refusal; ++i) {
      ids.push_back(submitted.id + static_cast<RequestId>(i));
      enter(ids.back(), spec, answer);
    }
    return ids;
  }

  void enter(RequestId id, const RequestSpec& spec, int64_t answer) {
    alive.insert(id);
    users[id] = {.spec = spec, .answer = answer, .submitted = now, .last_plan = plans(), .waits_since = now};
    auto& [least, most] = weights.try_emplace(spec.key, spec.weight, spec.weight).first->second;
    least = std::min(least, spec.weight);
    most = std::max(most, spec.weight);
    given.try_emplace(spec.key, 0);
    longest_prompt = std::max(longest_prompt, spec.prompt_tokens);
    longest_answer = std::max(longest_answer, answer);
  }

  int64_t plans() const { return steps + empty_plans; }

  // Whether it is to come after one that has not begun; else when that began, where it was later than its own last step.
  bool held(const User& u, int64_t& plan, double& time) const {
    plan = u.last_plan, time = u.waits_since;
    const auto first = users.find(u.spec.after);
    if (first == users.end()) return false;
    plan = std::max(plan, first->second.started_plan), time = std::max(time, first->second.started);
    return first->second.started_plan < 0;
  }

  // It is part of a plan, or ends.
  void end_wait(User& u) {
    int64_t plan;
    double time;
    if (held(u, plan, time)) return;
    longest_wait = std::max(longest_wait, plans() - plan);
    longest_wait_seconds = std::max(longest_wait_seconds, now - time);
  }

  double charges(int64_t prompt, int64_t answer) const {
    return options.prompt_charge * static_cast<double>(prompt) + options.output_charge * static_cast<double>(answer);
  }

  void check_bound(const User& u) {
    if (!u.overdue) return;
    const Overdue& then = *u.overdue;
    const auto since = [&](const std::string& key) {
      const auto at = then.given.find(key);
      return given.at(key) - (at == then.given.end() ? 0 : at->second);
    };
    const double places = static_cast<double>(options.max_running) * charges(longest_prompt, longest_answer);
    const double own = since(u.spec.key), counter = then.counters.at(u.spec.key);
    double all = own, bound = then.before + places;
    EXPECT_LE(own, bound) << "of its own key";
    for (const auto& [key, weight] : weights) {
      if (key == u.spec.key) continue;
      const auto at = then.counters.find(key);
      const double behind = at == then.counters.end() ? counter : counter - at->second;
      const double most = weight.second * std::max(0.0, behind + (own + places) / weights.at(u.spec.key).first) + 2 * places;
      EXPECT_LE(since(key), most) << "of key " << key;
      all += since(key);
      bound += most;
    }
    nearest_bound = std::max(nearest_bound, all / bound);
  }

  // After a plan that took so long, with it or without; `step`: what was given in that.
  void note_wait(RequestId id, User& u, bool left_out, double seconds, const std::map<std::string, double>& step) {
    int64_t plan;
    double time;
    if (held(u, plan, time)) return;
    if (left_out) u.waited += std::min(seconds, now - time);
    if (u.overdue) {
      // Not as long as its state is on the way, or its key has prompts that few rows of a step may be of.
      if (store.coming.contains(id) || at_outputs.contains(u.spec.key))
        for (const auto& [key, charge] : step) {
          const auto& [least, most] = weights.at(key);
          u.overdue->given[key] += charge;
          u.overdue->counters[key] += charge / (key == u.spec.key ? least : most);
        }
      if (plans() % 64 == 0) check_bound(u);
      return;
    }
    if (!left_out || u.waited <= options.promote_after_seconds) return;
    Overdue& then = u.overdue.emplace();
    then.given = given;
    for (const auto& [key, weight] : weights) then.counters[key] = scheduler->served(key);
    then.before = charges(u.spec.prompt_tokens - u.reached, 0);
    for (auto at = alive.begin(); *at < id; ++at)
      if (const User& v = users.at(*at); v.spec.key == u.spec.key)
        then.before += charges(v.spec.prompt_tokens - v.reached, v.answer - v.drawn);
  }

  bool cancel(RequestId id) {
    if (!scheduler->cancel(id)) return false;
    User& u = users[id];
    EXPECT_LT(u.ended, 0) << id << " ended twice";
    u.ended = now;
    alive.erase(id);
    end_wait(u);
    check_bound(u);
    has_started(u);
    return true;
  }

  void has_started(User& u) {
    if (u.started_plan >= 0) return;
    u.started_plan = plans();
    u.started = now;
  }

  // Whether a plan may be empty: nothing that is in memory has its pages there, or could have them.
  bool nothing_can_run() const {
    if (store.coming.empty() && store.abandoned.empty()) return scheduler->idle();
    return std::all_of(store.memory.begin(), store.memory.end(), [&](const auto& held) {
      const User& u = users.at(held.first);
      return store.coming.contains(held.first) || FakeStore::pages(u.spec.prompt_tokens + u.drawn) > held.second + store.total - store.used;
    });
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
      EXPECT_TRUE(nothing_can_run()) << "nothing runs, " << counts.queued << " wait, " << counts.moved_out << " are on disk";
      now += 1e-3;
      for (const RequestId id : alive) note_wait(id, users.at(id), true, 1e-3, {});
      meanwhile();
      return;
    }
    int64_t n = 0, context = 0, outputs = 0;
    std::set<RequestId> seen;
    for (const StepWork::Rows& r : work.rows) {
      EXPECT_TRUE(seen.insert(r.id).second);
      User& u = users.at(r.id);
      EXPECT_LT(u.ended, 0);
      end_wait(u);
      u.last_plan = plans() + 1;
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
    std::map<std::string, double> step;
    at_outputs.clear();
    for (const StepWork::Rows& r : work.rows) {
      User& u = users.at(r.id);
      u.waits_since = now;
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
      if (u.spec.prompt_outputs && u.drawn == 0) at_outputs.insert(u.spec.key);
      if (scheduler->view(r.id) && !o.failed) {
        const int64_t reached = std::min(r.first + r.count - r.drafts, u.spec.prompt_tokens);
        step[u.spec.key] += charges(std::max<int64_t>(0, reached - std::max(r.first, u.reached)), o.new_tokens);
        u.reached = std::max(u.reached, reached);
      }
      if ((o.failed || o.ended) && scheduler->view(r.id)) {
        EXPECT_LT(u.ended, 0) << r.id << " ended twice";
        u.ended = now;
        alive.erase(r.id);
      }
      if (o.failed || u.drawn > 0) has_started(u);
      if (o.failed || o.new_tokens > 0) {
        check_bound(u);
        u.overdue.reset();
      }
      outcomes.push_back(o);
    }
    scheduler->complete(outcomes, seconds);
    bool anything = false;
    for (const auto& [key, charge] : step) {
      given[key] += charge;
      anything |= charge > 0;
    }
    again = anything ? 0 : again + n;
    EXPECT_LE(again, store.total * FakeStore::kPage) << "computed again, and nothing new";
    for (const RequestId id : alive) note_wait(id, users.at(id), !seen.contains(id), seconds, step);
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

// A 1.1 B model on two cores: 12 ms to read the weights, 500 rows a second.
inline constexpr StepCost kMachine{.weights_seconds = 12e-3, .per_row_seconds = 2e-3, .per_context_seconds = 30e-9};

inline World world(int64_t pages = 4096, int64_t disk_pages = 4096) {
  World w;
  w.truth = kMachine;
  w.store.total = pages;
  w.store.disk_total = disk_pages;
  w.options.max_queued_seconds = 1e9;
  return w;
}

}  // namespace venturi
