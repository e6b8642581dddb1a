// What a cache of experts did during a test of `venturi bench`, beside what other policies would have done with the
// same routes.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "memory/experts/simulate.h"
#include "ops/route_replay.h"

namespace venturi {

struct ExpertReport {
  std::string policy;
  bool guesses = false;
  int64_t slots = 0, units = 0, tokens = 0;
  ExpertCounters count;
  double stall_seconds = 0;
  // The policies over the same routes from an empty cache, without guesses; the last is the offline optimum.
  std::vector<std::pair<std::string, CacheCount>> simulated;

  // Experts read, of the bytes of an average one.
  uint64_t reads() const { return count.misses() + count.guesses; }
  double bytes_per_token(uint64_t reads_of_one) const;
};

// Empties the cache and follows it. While it lives, it is the context's observer.
class ExpertWatch {
 public:
  explicit ExpertWatch(Engine& engine);
  ~ExpertWatch();
  // All steps since had a row of each of `streams` sequences.
  ExpertReport report(int64_t streams) const;

 private:
  Engine& engine_;
  RouteRecorder recorder_;
  ExpertCounters before_;
  double stalled_before_;
};

nlohmann::ordered_json expert_json(const ExpertReport& report);
std::string expert_table(const std::string& test, const ExpertReport& report);

}  // namespace venturi
