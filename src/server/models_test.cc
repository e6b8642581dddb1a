// Which models are loaded: on demand, while there is room, as long as they are used.
#include "server/models.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>

namespace venturi::server {
namespace {

const std::string kModel = VENTURI_SOURCE_DIR "/models/tiny-llama-q8_0.gguf";

Result<std::unique_ptr<ServedModel>> open_tiny(const std::string& name, std::shared_ptr<Ledger> ledger = {}) {
  EngineOptions options;
  options.context = options.batch = 64;
  options.threads = 1;
  options.ledger = std::move(ledger);
  return ServedModel::create(TRY(Engine::open(kModel, options)), name);
}

ModelSpec spec(const std::string& name, std::shared_ptr<Ledger> ledger = {}) {
  ModelSpec s{.name = name};
  s.open = [name, ledger](ServiceObserver&) { return open_tiny(name, ledger); };
  return s;
}

std::vector<ModelSpec> list(std::initializer_list<ModelSpec> specs) { return specs; }

// find(), waited for.
Found get(Models& models, const std::string& name, double seconds = 20) {
  auto promise = std::make_shared<std::promise<Found>>();
  auto future = promise->get_future();
  if (auto now = models.find(name, [promise](Found found) { promise->set_value(std::move(found)); })) return std::move(*now);
  if (future.wait_for(std::chrono::duration<double>(seconds)) != std::future_status::ready)
    return ApiError{.status = 0, .message = "nothing came"};
  return future.get();
}

bool is_loaded(const Models& models, const std::string& name) {
  bool loaded = false;
  models.each([&](const Models::Entry& e) { loaded |= e.spec.name == name && e.state == ModelState::kLoaded; });
  return loaded;
}

template <typename Condition>
bool comes_true(const Condition& condition, double seconds = 20) {
  for (int i = 0; i < seconds * 200; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

int status(const Found& found) {
  const ApiError* error = std::get_if<ApiError>(&found);
  return error ? error->status : 200;
}

// Room for so many of the tiny model, each refused where it has none.
class Room {
 public:
  explicit Room(double models) {
    auto alone = open_tiny("alone");
    need_ = (*alone)->engine->ledger().peak();
    ledger_ = Ledger::create(static_cast<uint64_t>(models * static_cast<double>(need_)));
  }
  ModelSpec spec(const std::string& name) const {
    ModelSpec s{.name = name};
    s.open = [name, need = need_, ledger = ledger_](ServiceObserver&) -> Result<std::unique_ptr<ServedModel>> {
      if (ledger->available() < need) return error(Code::kOutOfBudget, "{} needs {}", name, need);
      return open_tiny(name, ledger);
    };
    return s;
  }

 private:
  uint64_t need_ = 0;
  std::shared_ptr<Ledger> ledger_;
};

TEST(Models, NamesAndAdaptersAreFoundInOnePlace) {
  auto with_adapters = spec("base");
  with_adapters.adapters = {"poet"};
  auto models = std::move(Models::create(list({with_adapters, spec("with:colon")}))).value();
  EXPECT_EQ(std::get<Target>(get(*models, "")).name, "base");
  const Target adapted = std::get<Target>(get(*models, "base:poet"));
  EXPECT_EQ(adapted.name, "base:poet");
  EXPECT_EQ(adapted.adapter, "poet");
  EXPECT_EQ(adapted->name, "base");
  EXPECT_EQ(std::get<Target>(get(*models, "with:colon")).adapter, "");
  for (const char* name : {"nobody", "base:", "base:nobody", "nobody:poet", ":", "base:poet:poet"}) {
    const Found found = get(*models, name);
    EXPECT_EQ(status(found), 404) << name;
    EXPECT_EQ(std::get<ApiError>(found).code, "model_not_found");
  }
  auto alone = std::move(Models::create(list({spec("one")}))).value();
  EXPECT_EQ(status(get(*alone, "nobody")), 404);
}

TEST(Models, AreLoadedWhenAskedForAndNobodyIsBlockedMeanwhile) {
  std::promise<void> gate;
  ModelSpec slow{.name = "slow"};
  slow.open = [opened = gate.get_future().share()](ServiceObserver&) {
    opened.wait();
    return open_tiny("slow");
  };
  auto models = std::move(Models::create(list({spec("first"), slow}))).value();
  EXPECT_TRUE(is_loaded(*models, "first"));
  std::promise<int> told[2];
  for (auto& one : told)
    EXPECT_FALSE(models->find("slow", [&one](Found found) { one.set_value(status(found)); }));
  EXPECT_EQ(status(get(*models, "first")), 200);
  EXPECT_FALSE(is_loaded(*models, "slow"));
  gate.set_value();
  for (auto& one : told) EXPECT_EQ(one.get_future().get(), 200);
  EXPECT_EQ(status(get(*models, "slow")), 200);
  models->each([](const Models::Entry& e) { EXPECT_EQ(e.loads, 1u); });
}

TEST(Models, TheLeastRecentlyUsedMakesRoom) {
  const Room room(2.5);
  auto models = std::move(Models::create(list({room.spec("a"), room.spec("b"), room.spec("c")}))).value();
  EXPECT_EQ(status(get(*models, "b")), 200);
  EXPECT_EQ(status(get(*models, "a")), 200);
  EXPECT_EQ(status(get(*models, "c")), 200);
  EXPECT_TRUE(is_loaded(*models, "a"));
  EXPECT_FALSE(is_loaded(*models, "b"));
  EXPECT_TRUE(is_loaded(*models, "c"));
}

TEST(Models, WhatRunsIsWaitedForAndThenGivesWay) {
  const Room room(1.5);
  auto models = std::move(Models::create(list({room.spec("a"), room.spec("b")}))).value();
  auto running = std::make_unique<Found>(get(*models, "a"));
  std::promise<int> told;
  EXPECT_FALSE(models->find("b", [&](Found found) { told.set_value(status(found)); }));
  auto future = told.get_future();
  EXPECT_EQ(future.wait_for(std::chrono::milliseconds(200)), std::future_status::timeout);
  EXPECT_TRUE(is_loaded(*models, "a"));
  running.reset();
  EXPECT_EQ(future.get(), 200);
  EXPECT_FALSE(is_loaded(*models, "a"));
}

// One that always answers somebody does not keep the other out.
TEST(Models, NobodyIsKeptOutForever) {
  const Room room(1.5);
  auto models = std::move(Models::create(list({room.spec("a"), room.spec("b")}), {.patience_seconds = 0.1})).value();
  std::atomic<bool> stop = false;
  std::vector<std::thread> crowd;
  for (int i = 0; i < 4; ++i)
    crowd.emplace_back([&] {
      while (!stop) {
        const Found held = get(*models, "a");
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    });
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(status(get(*models, "b")), 200);
    EXPECT_EQ(status(get(*models, "a")), 200);
  }
  stop = true;
  for (std::thread& one : crowd) one.join();
}

TEST(Models, WaitingEnds) {
  const Room room(1.5);
  auto models = std::move(Models::create(list({room.spec("a"), room.spec("b")}), {.load_wait_seconds = 0.1, .max_waiting = 1})).value();
  const Found running = get(*models, "a");
  std::promise<Found> told;
  EXPECT_FALSE(models->find("b", [&](Found found) { told.set_value(std::move(found)); }));
  EXPECT_EQ(status(get(*models, "b")), 429);
  const ApiError late = std::get<ApiError>(told.get_future().get());
  EXPECT_EQ(late.status, 503);
  EXPECT_GT(late.retry_after_seconds, 0);
  EXPECT_NE(late.message.find("a (1)"), std::string::npos) << late.message;
  EXPECT_EQ(status(get(*models, "a")), 200);
}

TEST(Models, WhatNeverFitsIsRefusedWithTheReason) {
  ModelSpec large{.name = "large"};
  large.open = [](ServiceObserver&) -> Result<std::unique_ptr<ServedModel>> { return error(Code::kOutOfBudget, "give --memory 9G"); };
  auto models = std::move(Models::create(list({spec("a"), large}))).value();
  const ApiError why = std::get<ApiError>(get(*models, "large"));
  EXPECT_EQ(why.status, 503);
  EXPECT_EQ(why.code, "model_does_not_fit");
  EXPECT_NE(why.message.find("--memory 9G"), std::string::npos);
}

TEST(Models, IdleOnesGoAndComeBack) {
  auto models = std::move(Models::create(list({spec("a")}), {.idle_seconds = 0.05})).value();
  const auto gone = [&] { return !is_loaded(*models, "a"); };
  {
    const Found used = get(*models, "a");
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    EXPECT_TRUE(is_loaded(*models, "a"));
  }
  EXPECT_TRUE(comes_true(gone));
  EXPECT_EQ(status(get(*models, "a")), 200);
  EXPECT_TRUE(comes_true(gone));
  models->each([](const Models::Entry& e) { EXPECT_EQ(e.loads, 2u); });
}

TEST(Models, AFailedLoadIsToldAndTriedAgain) {
  auto broken = std::make_shared<std::atomic<bool>>(true);
  ModelSpec b{.name = "b"};
  b.open = [broken](ServiceObserver&) -> Result<std::unique_ptr<ServedModel>> {
    if (*broken) return error(Code::kIo, "the disk is on fire");
    return open_tiny("b");
  };
  auto models = std::move(Models::create(list({spec("a"), b}))).value();
  const ApiError why = std::get<ApiError>(get(*models, "b"));
  EXPECT_EQ(why.status, 500);
  EXPECT_NE(why.message.find("on fire"), std::string::npos);
  *broken = false;
  EXPECT_EQ(status(get(*models, "b")), 200);
}

TEST(Models, AreUnloadedWhenToldButNotWhileUsed) {
  auto models = std::move(Models::create(list({spec("a"), spec("b")}))).value();
  const auto unload = [&](const std::string& name) {
    std::promise<int> told;
    models->unload(name, [&](std::optional<ApiError> why) { told.set_value(why ? why->status : 200); });
    return told.get_future().get();
  };
  {
    const Found used = get(*models, "a");
    EXPECT_EQ(unload("a"), 409);
  }
  EXPECT_EQ(unload("a"), 200);
  EXPECT_FALSE(is_loaded(*models, "a"));
  EXPECT_EQ(unload("a"), 200);
  EXPECT_EQ(unload("nobody"), 404);
  EXPECT_EQ(status(get(*models, "a")), 200);
}

TEST(Models, TheEndIsToldToThoseWhoWait) {
  const Room room(1.5);
  auto models = std::move(Models::create(list({room.spec("a"), room.spec("b")}))).value();
  std::promise<int> told;
  {
    const Found running = get(*models, "a");
    EXPECT_FALSE(models->find("b", [&](Found found) { told.set_value(status(found)); }));
    EXPECT_TRUE(models->drain(1));
    EXPECT_EQ(told.get_future().get(), 503);
    EXPECT_EQ(status(get(*models, "b")), 503);
  }
  models->stop();
}

}  // namespace
}  // namespace venturi::server
