// Embeddings of texts on one engine, many at a time.
//
// One thread owns the engine. Each step takes whole texts, one from every request in turn, as many
// as its rows and sequences hold; a text's embedding does not depend on what is beside it. Threads:
// every public member may be called from any thread; Done is called from the embedder's, and must
// not block.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "engine/turn.h"

namespace venturi {

class Embedder {
 public:
  using Embeddings =
      std::vector<std::vector<float>>;  // [n_texts][d_model], as the model pools them
  using Done = std::function<void(Result<Embeddings>)>;

  struct Counts {
    uint64_t steps = 0, texts = 0, tokens = 0, requests = 0, failed = 0, cancelled = 0;
    int64_t waiting = 0;  // requests
    double step_seconds = 0;
  };

  // The engine is the embedder's until it is destroyed. Code::kUnsupported for a model that gives
  // no embeddings. More than `max_waiting` requests are refused. `turn` as the service's.
  static Result<std::unique_ptr<Embedder>> start(Engine& engine, int64_t max_waiting = 1024, std::shared_ptr<Turn> turn = {});
  // What waits ends with an error.
  ~Embedder();
  Embedder(const Embedder&) = delete;
  Embedder& operator=(const Embedder&) = delete;

  // The request's number. Code::kInvalidArgument for a text without tokens, longer than the context
  // or with ids outside the vocabulary; Code::kOutOfBudget when too many wait.
  Result<uint64_t> submit(std::vector<std::vector<TokenId>> texts, Done done);
  void cancel(uint64_t request);  // Done is not called any more
  bool drain(double seconds);     // as Service's
  Counts counts() const;

 private:
  struct Job {
    uint64_t id = 0;
    std::vector<std::vector<TokenId>> texts;
    Done done;
    Embeddings out;
    size_t next = 0, ready = 0;
  };
  struct Item {
    Job* job;
    size_t text;
  };

  Embedder(Engine& engine, int64_t max_waiting, std::shared_ptr<Turn> turn)
      : engine_(engine), max_waiting_(max_waiting), turn_(std::move(turn)) {}
  void loop();
  std::vector<Item> gather();
  Status run(const std::vector<Item>& items);

  Engine& engine_;
  const int64_t max_waiting_;
  const std::shared_ptr<Turn> turn_;
  std::vector<std::unique_ptr<SequenceState>> states_;

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable wake_, idle_;
  std::deque<std::unique_ptr<Job>> jobs_;
  std::vector<std::unique_ptr<Job>> cancelled_;  // kept until no step can hold them
  uint64_t next_id_ = 1;
  bool stopping_ = false, draining_ = false, busy_ = false;
  Counts counts_;

  std::thread thread_;  // last: everything is there when it starts
};

}  // namespace venturi
