// What /metrics tells, in Prometheus' text form: how long a model's requests took and why they ended, counted as
// it happens, and the present state of services, steps and ledger, asked when the text is made. Names that begin
// with vllm: are those that dashboards and routers of vLLM read, with its meanings.
//
// Threads: counted on the service's thread, asked on the HTTP server's.
#pragma once

#include <prometheus/histogram.h>

#include <atomic>
#include <deque>
#include <string>

#include "engine/service.h"

namespace venturi::server {

struct App;
class MetricFamilies;

class Metrics : public ServiceObserver {
 public:
  Metrics();

  void first_token(const RequestReport& request) override;
  void next_token(double seconds_since_the_last) override;
  void ended(const RequestReport& request) override;
  void step(const StepReport& step) override;


  // Of a model: `service` is null where it gives embeddings or is not loaded.
  void add(MetricFamilies& families, const Service* service) const;

 private:
  enum Distribution {
    kFirstToken, kInterToken, kTimePerToken, kLatency, kQueue, kInference, kPrefill, kDecode,
    kPromptTokens, kDrawnTokens, kStepRows, kStepSeconds, kStepRatio, kDistributions
  };
  void observe(Distribution which, double value) { histograms_[which].Observe(value); }

  std::deque<prometheus::Histogram> histograms_;  // [kDistributions]
  std::atomic<uint64_t> prompt_tokens_ = 0;        // of prompts that are computed, found ones too
  std::atomic<uint64_t> ended_[6] = {};            // by Finish
};

std::string metrics_text(const App& app);

}  // namespace venturi::server
