#include "server/models.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <ctime>

#include "base/clock.h"
#include "base/log.h"

namespace venturi::server {

const char* name_of(ModelState state) {
  constexpr const char* kNames[] = {"unloaded", "loading", "loaded", "unloading"};
  return kNames[static_cast<int>(state)];
}

ModelAbout about(const Engine& engine) {
  ModelAbout about{.context = engine.options().context, .tensor_bytes = 0, .architecture = engine.info().architecture};
  for (const TensorInfo& tensor : engine.file().tensors)
    for (const TensorSegment& segment : tensor.segments) about.tensor_bytes += segment.bytes;
  return about;
}

namespace {

constexpr double kNever = 1e9;  // seconds
constexpr double kLastStepSeconds = 10;

auto until(double seconds_from_now) {
  return std::chrono::duration<double>(std::clamp(seconds_from_now, 0.0, kNever));
}

}  // namespace

Models::Models(std::vector<ModelSpec> specs, const ModelsOptions& options) : options_(options) {
  for (ModelSpec& spec : specs) {
    entries_.push_back(std::make_unique<Entry>());
    entries_.back()->spec = std::move(spec);
    entries_.back()->created = static_cast<int64_t>(std::time(nullptr));
  }
}

Result<std::unique_ptr<Models>> Models::create(std::vector<ModelSpec> specs, const ModelsOptions& options) {
  assert(!specs.empty());
  std::unique_ptr<Models> models(new Models(std::move(specs), options));
  Entry& first = *models->entries_[0];
  const double begin = now_seconds();
  first.model = TRY(first.spec.open(first.metrics));
  first.state = ModelState::kLoaded;
  first.spec.about = about(*first.model->engine);
  first.last_used = now_seconds();
  first.load_seconds = first.last_used - begin;
  first.loads = 1;
  models->loader_ = std::thread([m = models.get()] { m->work(); });
  models->minder_ = std::thread([m = models.get()] { m->mind(); });
  return models;
}

Models::~Models() { stop(); }

Models::Entry* Models::entry(const std::string& name) const {
  for (const auto& entry : entries_)
    if (entry->spec.name == name) return entry.get();
  return nullptr;
}

ApiError Models::unknown(const std::string& name) {
  return {.status = 404,
          .message = fmt::format("The model `{}` does not exist; GET /v1/models lists those that do.", name),
          .param = "model",
          .code = "model_not_found"};
}

Target Models::target(Entry& entry, const std::string& adapter) {
  ++entry.uses;
  entry.let_go = false;
  return {.model = std::shared_ptr<ServedModel>(entry.model.get(), [this, &entry](ServedModel*) { release(entry); }),
          .name = adapter.empty() ? entry.spec.name : entry.spec.name + ":" + adapter,
          .adapter = adapter};
}

void Models::release(Entry& entry) {
  const std::lock_guard lock(mutex_);
  entry.last_used = now_seconds();
  if (--entry.uses == 0) wake_.notify_all();
}

std::optional<Found> Models::find(const std::string& name, std::function<void(Found)> then) {
  const std::lock_guard lock(mutex_);
  std::string adapter;
  Entry* found = name.empty() ? entries_[0].get() : entry(name);
  if (const size_t colon = name.rfind(':'); !found && colon != std::string::npos) {
    found = entry(name.substr(0, colon));
    adapter = name.substr(colon + 1);
    if (found && std::count(found->spec.adapters.begin(), found->spec.adapters.end(), adapter) == 0) found = nullptr;
  }
  if (!found) return unknown(name);
  if (found->state == ModelState::kLoaded && found != yielding_) return target(*found, adapter);
  if (stopping_ || draining_)
    return ApiError{.status = 503, .type = "server_error", .message = "the server is shutting down", .retry_after_seconds = 1};
  int64_t waiting = 0;
  for (const auto& entry : entries_) waiting += static_cast<int64_t>(entry->waiters.size());
  if (waiting >= options_.max_waiting)
    return ApiError{.status = 429,
                    .type = "rate_limit_error",
                    .message = fmt::format("{} requests wait for models to be loaded; one more is refused", waiting),
                    .code = "rate_limit_exceeded",
                    .retry_after_seconds = 5};
  found->waiters.push_back({now_seconds() + options_.load_wait_seconds, std::move(adapter), std::move(then)});
  wake_.notify_all();
  wake_minder_.notify_all();
  return std::nullopt;
}

void Models::unload(const std::string& name, std::function<void(std::optional<ApiError>)> then) {
  std::optional<ApiError> why;
  {
    const std::lock_guard lock(mutex_);
    Entry* found = entry(name);
    const auto conflict = [&](std::string message) {
      return ApiError{.status = 409, .message = std::move(message), .param = "model", .code = "model_busy", .retry_after_seconds = 1};
    };
    if (!found) {
      why = unknown(name);
    } else if (found->uses > 0) {
      why = conflict(fmt::format("{} answers {} requests", name, found->uses));
    } else if (found->state == ModelState::kLoading || !found->waiters.empty()) {
      why = conflict(fmt::format("{} is being loaded", name));
    } else if (found->state != ModelState::kUnloaded) {
      found->to_unload.push_back(std::move(then));
      wake_.notify_all();
      return;
    }
  }
  then(why);
}

void Models::let_go(const std::string& name) {
  const std::lock_guard lock(mutex_);
  Entry* found = entry(name);
  if (!found || found->state != ModelState::kLoaded) return;
  found->let_go = true;
  wake_.notify_all();
}

void Models::each(const std::function<void(const Entry&)>& look) const {
  const std::lock_guard lock(mutex_);
  for (const auto& entry : entries_) look(*entry);
}

// ---- the loader's thread ----

// Of those whom somebody waits for, the one that is waited for longest.
Models::Entry* Models::next_to_load() const {
  Entry* next = nullptr;
  for (const auto& entry : entries_)
    if (entry->state == ModelState::kUnloaded && !entry->waiters.empty() &&
        (!next || entry->waiters.front().deadline < next->waiters.front().deadline))
      next = entry.get();
  return next;
}

// One that is to go now; `wake`: when the next one may be.
Models::Entry* Models::next_to_unload(double now, double& wake) const {
  for (const auto& entry : entries_) {
    if (entry->state != ModelState::kLoaded || entry->uses > 0) continue;
    if (!entry->to_unload.empty() || entry->let_go) return entry.get();
    if (options_.idle_seconds <= 0) continue;
    if (now >= entry->last_used + options_.idle_seconds) return entry.get();
    wake = std::min(wake, entry->last_used + options_.idle_seconds);
  }
  return nullptr;
}

Models::Entry* Models::least_recently_used() const {
  Entry* least = nullptr;
  for (const auto& entry : entries_)
    if (entry->state == ModelState::kLoaded && entry->uses == 0 && (!least || entry->last_used < least->last_used)) least = entry.get();
  return least;
}

// That answers the fewest requests.
Models::Entry* Models::least_used() const {
  Entry* least = nullptr;
  for (const auto& entry : entries_)
    if (entry->state == ModelState::kLoaded && (!least || entry->uses < least->uses)) least = entry.get();
  return least;
}

// To those who wait for a model that is loaded: it was to yield, and did not have to.
void Models::hand_over(Lock& lock) {
  std::vector<std::pair<std::function<void(Found)>, Found>> told;
  for (const auto& entry : entries_) {
    if (entry->state != ModelState::kLoaded || entry.get() == yielding_) continue;
    for (auto& waiter : std::exchange(entry->waiters, {})) told.emplace_back(std::move(waiter.then), target(*entry, waiter.adapter));
  }
  if (told.empty()) return;
  lock.unlock();
  for (auto& [then, found] : told) then(std::move(found));
  told.clear();
  lock.lock();
}

void Models::work() {
  Lock lock(mutex_);
  while (!stopping_) {
    hand_over(lock);
    double wake = now_seconds() + kNever;
    if (draining_) {
      wake_.wait(lock);  // for stop()
    } else if (Entry* idle = next_to_unload(now_seconds(), wake)) {
      unload(*idle, lock);
    } else if (Entry* wanted = next_to_load()) {
      load(*wanted, lock);
    } else {
      wake_.wait_for(lock, until(wake - now_seconds()));
    }
  }
}

void Models::unload(Entry& entry, Lock& lock) {
  entry.state = ModelState::kUnloading;
  entry.let_go = false;
  auto told = std::exchange(entry.to_unload, {});
  lock.unlock();
  // Nobody uses it; what was cancelled last may still be in a step.
  if (entry.model->service) entry.model->service->drain(kLastStepSeconds);
  if (entry.model->embedder) entry.model->embedder->drain(kLastStepSeconds);
  lock.lock();
  entry.metrics.keep(entry.serving());
  std::unique_ptr<ServedModel> model = std::move(entry.model);
  lock.unlock();
  model.reset();
  spdlog::info("{} is unloaded", entry.spec.name);
  lock.lock();
  entry.state = ModelState::kUnloaded;
  ++entry.unloads;
  lock.unlock();
  for (const auto& then : told) then(std::nullopt);
  lock.lock();
}

void Models::load(Entry& entry, Lock& lock) {
  entry.state = ModelState::kLoading;
  const double begin = now_seconds();
  auto opened = open(entry, lock);
  entry.failure.reset();
  if (opened) {
    entry.model = std::move(opened).value();
    entry.spec.about = about(*entry.model->engine);
    entry.last_used = now_seconds();
    entry.load_seconds = entry.last_used - begin;
    ++entry.loads;
    entry.state = ModelState::kLoaded;
    spdlog::info("{} is loaded, in {:.2f} s", entry.spec.name, entry.load_seconds);
  } else {
    spdlog::warn("{} is not loaded: {}", entry.spec.name, opened.error().message);
    entry.state = ModelState::kUnloaded;
    entry.failure = opened.error();
  }
  std::vector<std::pair<std::function<void(Found)>, Found>> told;
  for (auto& waiter : std::exchange(entry.waiters, {})) {
    if (opened) {
      told.emplace_back(std::move(waiter.then), target(entry, waiter.adapter));
    } else {
      told.emplace_back(std::move(waiter.then), failed_to_load(entry, *entry.failure));
    }
  }
  lock.unlock();
  for (auto& [then, found] : told) then(std::move(found));
  told.clear();
  lock.lock();
}

// Makes room as it is needed: models that answer nothing go, those that do are waited for.
Result<std::unique_ptr<ServedModel>> Models::open(Entry& entry, Lock& lock) {
  for (;;) {
    lock.unlock();
    auto opened = entry.spec.open(entry.metrics);
    lock.lock();
    if (opened || opened.error().code != Code::kOutOfBudget) return opened;
    const bool room = wait_for_room(entry, lock);
    yielding_ = nullptr;
    if (!room) return opened;
    unload(*least_recently_used(), lock);
  }
}

// Until a model that may go is there; false where that is not to be.
bool Models::wait_for_room(const Entry& entry, Lock& lock) {
  const double patience_ends = now_seconds() + options_.patience_seconds;
  while (draining_ || !least_recently_used()) {
    // Those who waited for it have been told that it took too long, or nothing is loaded that could go.
    if (draining_ || entry.waiters.empty() || !least_used()) return false;
    const double now = now_seconds();
    if (now >= patience_ends && !yielding_) yielding_ = least_used();
    wake_.wait_for(lock, until(std::min(entry.waiters.back().deadline + 0.01, yielding_ ? now + kNever : patience_ends) - now));
  }
  return true;
}

std::string Models::busy() const {
  std::string names;
  for (const auto& entry : entries_)
    if (entry->uses > 0) names += fmt::format("{}{} ({})", names.empty() ? "" : ", ", entry->spec.name, entry->uses);
  return names;
}

ApiError Models::failed_to_load(const Entry& entry, const Error& why) const {
  const std::string names = busy();
  const bool room = why.code == Code::kOutOfBudget;
  return {.status = room ? 503 : 500,
          .type = "server_error",
          .message = fmt::format("{} cannot be loaded: {}{}", entry.spec.name, why.message,
                                 room && !names.empty() ? fmt::format("; requests run on {}", names) : ""),
          .param = "model",
          .code = room ? "model_does_not_fit" : "model_not_loaded",
          .retry_after_seconds = room && !names.empty() ? 5.0 : 0.0};
}

// ---- the minder's thread ----

void Models::mind() {
  Lock lock(mutex_);
  while (!stopping_) {
    const double now = now_seconds();
    double next = now + kNever;
    std::vector<std::pair<std::function<void(Found)>, Found>> told;
    for (const auto& entry : entries_) {
      // All wait equally long: the first came first.
      while (!entry->waiters.empty() && entry->waiters.front().deadline <= now) {
        const std::string names = busy();
        ApiError late{.status = 503,
                      .type = "server_error",
                      .message = fmt::format("{} was not loaded within {} s{}; ask again", entry->spec.name, options_.load_wait_seconds,
                                             names.empty() ? "" : fmt::format("; requests run on {}", names)),
                      .param = "model",
                      .code = "model_not_loaded",
                      .retry_after_seconds = 5};
        told.emplace_back(std::move(entry->waiters.front().then), std::move(late));
        entry->waiters.pop_front();
      }
      if (!entry->waiters.empty()) next = std::min(next, entry->waiters.front().deadline);
    }
    if (!told.empty()) {
      wake_.notify_all();
      lock.unlock();
      for (auto& [then, found] : told) then(std::move(found));
      lock.lock();
    } else {
      wake_minder_.wait_for(lock, until(next - now));
    }
  }
}

// ---- the end ----

void Models::refuse_waiting() {
  std::vector<std::function<void(Found)>> waiting;
  std::vector<std::function<void(std::optional<ApiError>)>> to_unload;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& entry : entries_) {
      for (auto& waiter : std::exchange(entry->waiters, {})) waiting.push_back(std::move(waiter.then));
      for (auto& then : std::exchange(entry->to_unload, {})) to_unload.push_back(std::move(then));
    }
  }
  const ApiError over{.status = 503, .type = "server_error", .message = "the server is shutting down"};
  for (const auto& then : waiting) then(over);
  for (const auto& then : to_unload) then(over);
}

bool Models::drain(double seconds) {
  const double end = now_seconds() + seconds;
  std::vector<ServedModel*> loaded;
  {
    const std::lock_guard lock(mutex_);
    draining_ = true;  // nothing that is loaded goes any more
    for (const auto& entry : entries_)
      if (entry->state == ModelState::kLoaded) loaded.push_back(entry->model.get());
  }
  wake_.notify_all();
  refuse_waiting();
  bool all = true;
  for (ServedModel* model : loaded) {
    if (model->service) all &= model->service->drain(std::max(0.0, end - now_seconds()));
    if (model->embedder) all &= model->embedder->drain(std::max(0.0, end - now_seconds()));
  }
  return all;
}

void Models::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = draining_ = true;
  }
  wake_.notify_all();
  wake_minder_.notify_all();
  refuse_waiting();
  if (loader_.joinable()) loader_.join();
  if (minder_.joinable()) minder_.join();
  for (const auto& entry : entries_)
    if (entry->model) {
      entry->model->service.reset();
      entry->model->embedder.reset();
    }
}

}  // namespace venturi::server
