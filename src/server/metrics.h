// What /metrics tells, in Prometheus' text form: how long a model's requests took and why they ended, counted as
// it happens, and the present state of services, steps and ledger, asked when the text is made. Names that begin
// with vllm: are those that dashboards and routers of vLLM read, with its meanings.
//
// Threads: counted on the service's thread; asked on the HTTP server's, and told of a model that goes, one at a time.
#pragma once

#include <prometheus/histogram.h>

#include <atomic>
#include <deque>
#include <optional>
#include <string>

#include "engine/embedder.h"
#include "engine/service.h"

namespace venturi::server {

struct App;
class MetricFamilies;

// What serves a model; either may be null.
struct Serving {
  const Service* service = nullptr;
  const Embedder* embedder = nullptr;
};

class Metrics : public ServiceObserver {
 public:
  Metrics();

  void first_token(const RequestReport& request) override;
  void next_token(double seconds_since_the_last) override;
  void ended(const RequestReport& request) override;
  void step(const StepReport& step) override;

  // The model is unloaded with these: what they have counted stays, for a counter never goes back.
  void keep(const Serving& leaving);
  // Of the model, with what serves it at the moment.
  void add(MetricFamilies& families, const Serving& now) const;

 private:
  void add_service(MetricFamilies& families, const ServiceCounts& counts) const;
  enum Distribution {
    kFirstToken, kInterToken, kTimePerToken, kLatency, kQueue, kInference, kPrefill, kDecode,
    kPromptTokens, kDrawnTokens, kStepRows, kStepSeconds, kStepRatio, kDistributions
  };
  void observe(Distribution which, double value) { histograms_[which].Observe(value); }

  std::deque<prometheus::Histogram> histograms_;  // [kDistributions]
  std::atomic<uint64_t> prompt_tokens_ = 0;        // of prompts that are computed, found ones too
  std::atomic<uint64_t> ended_[6] = {};            // by Finish
  std::optional<ServiceCounts> kept_;  // of the times that it was loaded before
  std::optional<Embedder::Counts> kept_embedder_;
};

std::string metrics_text(const App& app);

}  // namespace venturi::server
