// The models that are served: by which names, and which of them are loaded.
//
// This is the one place where the `model` of a request becomes what answers it: App::handle() asks find() for
// every route that is about a model (Route::needs) and hands the route a Target. A name is a model's, "base",
// or a model's with an adapter, "base:adapter"; a whole name comes before a divided one. To serve adapters, put
// their names in ModelSpec::adapters (listed, and refused by 404 where they are not there), load them where the
// spec's open() makes the model, and read Target::adapter where generate() makes a Submission. No route needs an
// edit: they answer with Target::name.
//
// A model is loaded when it is asked for, and unloaded when it has been idle for long or when another needs its
// room: the least recently used of those that answer nothing at the moment. Where all answer, one of them takes no new
// requests after a while, until it has ended those that it has and made room. Requests for a model that is being
// loaded wait, for a time.
//
// Threads: every public member may be called from any thread. One thread loads and unloads, one at a time;
// another tells those who waited too long. None of them is the HTTP server's, which never waits.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "server/fields.h"
#include "server/metrics.h"
#include "server/served_model.h"

namespace venturi::server {

// What a request's `model` stands for. While it lives the model stays loaded.
struct Target {
  std::shared_ptr<ServedModel> model;
  std::string name;     // as answers spell it: "base" or "base:adapter"
  std::string adapter;  // ""; none
  ServedModel* operator->() const { return model.get(); }
  ServedModel& operator*() const { return *model; }
};
using Found = std::variant<Target, ApiError>;

// Of a model that may not be loaded.
struct ModelAbout {
  int64_t context = 0;
  uint64_t tensor_bytes = 0;
  std::string architecture;
};
ModelAbout about(const Engine& engine);

struct ModelSpec {
  std::string name;
  std::vector<std::string> adapters = {};
  ModelAbout about = {};  // where the model is not loaded from the start
  // Opens the model in the memory that there is, and starts what serves it. Code::kOutOfBudget: not in this much;
  // once there is more it is tried again.
  std::function<Result<std::unique_ptr<ServedModel>>(ServiceObserver& observer)> open = {};
};

struct ModelsOptions {
  double idle_seconds = 0;        // a model that nobody asks for is unloaded after so long; 0: never
  double load_wait_seconds = 120;  // that a request waits for its model
  int64_t max_waiting = 1024;      // such requests
  double patience_seconds = 5;     // then new requests for a model in the way wait, so that it comes to an end
};

enum class ModelState { kUnloaded, kLoading, kLoaded, kUnloading };
const char* name_of(ModelState state);

class Models {
 public:
  // Loads the first model, whose failure is this one's; the others when they are asked for. Names are different.
  static Result<std::unique_ptr<Models>> create(std::vector<ModelSpec> specs, const ModelsOptions& options = {});
  // After stop(); no Target may be left.
  ~Models();
  Models(const Models&) = delete;
  Models& operator=(const Models&) = delete;

  // What `name` stands for; "" is the first model. Where it has to be loaded, nothing now, and `then` is called
  // once, from another thread, and must not block.
  std::optional<Found> find(const std::string& name, std::function<void(Found)> then);
  // What find() has for a name that stands for nothing: a 404.
  static ApiError unknown(const std::string& name);
  // Unloads a model (a whole name): nothing, or why not. Code 409 while it answers requests or is being loaded.
  void unload(const std::string& name, std::function<void(std::optional<ApiError>)> then);

  // Unloads a loaded model when it answers nothing, unless it is asked for again before.
  void let_go(const std::string& name);

  struct Entry {
    ModelSpec spec;
    Metrics metrics;  // of all the times that it was loaded
    ModelState state = ModelState::kUnloaded;
    std::unique_ptr<ServedModel> model;  // where loaded
    std::optional<Error> failure;        // of the last load, if it failed
    int64_t created = 0;                 // seconds since 1970
    int64_t uses = 0;                    // Targets
    uint64_t loads = 0, unloads = 0;
    double load_seconds = 0;  // of the last load
    Serving serving() const { return model ? Serving{model->service.get(), model->embedder.get()} : Serving{}; }

   private:
    friend class Models;
    struct Waiter {
      double deadline;
      std::string adapter;
      std::function<void(Found)> then;
    };
    std::deque<Waiter> waiters;
    std::vector<std::function<void(std::optional<ApiError>)>> to_unload;
    double last_used = 0;
    bool let_go = false;
  };
  size_t size() const { return entries_.size(); }
  // In order of the specs. Nothing is loaded or unloaded meanwhile; `look` must not block nor call this object.
  void each(const std::function<void(const Entry&)>& look) const;

  // Loads and unloads no more, takes no more requests, and returns when those there have ended, or false after `seconds`.
  bool drain(double seconds);
  // Cuts off what runs and unloads everything.
  void stop();

 private:
  using Lock = std::unique_lock<std::mutex>;
  Models(std::vector<ModelSpec> specs, const ModelsOptions& options);
  Entry* entry(const std::string& name) const;
  Target target(Entry& entry, const std::string& adapter);
  void release(Entry& entry);
  void work();
  void mind();
  void load(Entry& entry, Lock& lock);
  Result<std::unique_ptr<ServedModel>> open(Entry& entry, Lock& lock);
  void unload(Entry& entry, Lock& lock);
  void refuse_waiting();
  Entry* next_to_load() const;
  Entry* next_to_unload(double now, double& wake) const;
  Entry* least_recently_used() const;
  Entry* least_used() const;
  bool wait_for_room(const Entry& entry, Lock& lock);
  void hand_over(Lock& lock);
  std::string busy() const;
  ApiError failed_to_load(const Entry& entry, const Error& why) const;

  const ModelsOptions options_;
  std::vector<std::unique_ptr<Entry>> entries_;

  mutable std::mutex mutex_;  // of the entries and what follows
  std::condition_variable wake_, wake_minder_;
  bool stopping_ = false, draining_ = false;
  Entry* yielding_ = nullptr;  // takes no new requests

  std::thread loader_, minder_;  // last: everything is there when they start
};

}  // namespace venturi::server
