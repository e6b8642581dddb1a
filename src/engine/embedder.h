// Embeddings of texts on one engine, many at a time.
//
// Each step takes texts, one from every request in turn, as many as its rows and sequences hold: whole ones of an
// encoder, whose own pooling makes one vector of a text; of a decoder also parts of long ones, whose last hidden
// states are pooled here. A text's embedding does not depend on what is beside it or how it is cut.
//
// Threads: every public member may be called from any thread; Done is called from the embedder's, and must
// not block. The engine may be a service's too, which takes turns with this then.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "engine/turn.h"
#include "ops/pool.h"

namespace venturi {

// That a decoder's file asks for; nothing where it asks for none. Code::kUnsupported for one that is not known.
Result<std::optional<Pooling>> pooling_of(const Engine& engine);

class Embedder {
 public:
  using Embeddings = std::vector<std::vector<float>>;  // [n_texts][d_model], not scaled to length 1
  struct Times {
    double submitted = 0, started = 0, ended = 0;  // started: the first step with it
  };
  using Done = std::function<void(Result<Embeddings>, const Times&)>;

  struct Counts {
    uint64_t steps = 0, texts = 0, tokens = 0, requests = 0, failed = 0, cancelled = 0;
    int64_t waiting = 0;  // requests
    double step_seconds = 0;
  };

  struct Options {
    int64_t max_waiting = 1024;            // requests; more are refused
    std::shared_ptr<Turn> turn = {};       // with whoever else uses the engine or the cores
    std::optional<Pooling> pooling = {};   // of a decoder's hidden states; an encoder has its own
    int sequences = 0;                     // that it may have of the engine; 0: all
  };
  // Code::kUnsupported for a decoder without a pooling.
  static Result<std::unique_ptr<Embedder>> start(Engine& engine, const Options& options);
  static Result<std::unique_ptr<Embedder>> start(Engine& engine) { return start(engine, Options()); }
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
    Times times;
    size_t next = 0, ready = 0;
  };
  // A text that is being computed, in a sequence of its own.
  struct Item {
    Job* job = nullptr;  // null: the sequence is free
    size_t text = 0;
    int64_t done = 0;  // tokens
    int64_t rows = 0;  // in the step at hand
    std::vector<double> sum = {};  // of hidden states, where their mean is wanted
    std::unique_ptr<SequenceState> state;
    const std::vector<TokenId>& tokens() const { return job->texts[text]; }
    bool whole() const { return done == static_cast<int64_t>(tokens().size()); }
  };

  Embedder(Engine& engine, const Options& options) : engine_(engine), o_(options) {}
  void loop();
  bool gather();
  Status run();
  void pool(Item& item, const Act& out, int64_t row);
  std::vector<std::unique_ptr<Job>> settle(const Status& status);

  Engine& engine_;
  const Options o_;
  std::vector<Item> items_;  // [sequences]

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
