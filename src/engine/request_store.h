// The state of a service's requests: pages that they share, with the prefix cache behind them where
// there is one, and the file behind that; or, of a model that shares no pages, states of those that
// ended, each whole (kept_states.h).
//
// Threads: the service's.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "scheduler/scheduler.h"

namespace venturi {

// What the store has to know of a request.
struct KnownRequest {
  std::span<const TokenId> tokens = {};  // prompt and drawn
  const Adapter* adapter = nullptr;
  bool logs_prompt = false;  // all rows of its prompt are wanted, and none was drawn yet
};

class RequestStore : public StateStore {
 public:
  using Look =
      std::function<std::optional<KnownRequest>(RequestId)>;  // nothing of one that has ended
  RequestStore(Engine& engine, Look look);
  ~RequestStore() override;

  bool can_ever_hold(int64_t tokens) const override;
  int64_t attach(RequestId id) override;
  bool reserve(RequestId id, int64_t tokens) override;
  void release(RequestId id) override;
  bool move_out(RequestId id) override;
  MoveIn move_in(RequestId id) override;
  Arrival arrival(RequestId id) override;

  // What a request has computed is there for others; all of it when it is `ending`.
  void publish(RequestId id, bool ending);
  void truncate(RequestId id, int64_t tokens);
  SequenceState* state(RequestId id) { return held_.at(id).state.get(); }
  int64_t tokens() const;  // that there is room for in pages that are taken

 private:
  struct Held {
    std::unique_ptr<SequenceState> state;
    PrefixCache::Cursor cursor;
    std::optional<PrefixCache::Moved> moved = {};  // to the file
    std::shared_ptr<PrefixCache::Arriving> arriving = {};
    std::vector<TokenId> computed =
        {};  // where states are kept whole: what this one is after, when it ends
  };
  bool start(RequestId id, Held& held);

  Engine& engine_;
  PrefixCache* const cache_;
  KeptStates* const kept_;
  const Look look_;
  std::map<RequestId, Held> held_;
};

}  // namespace venturi
