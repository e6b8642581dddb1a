// What a plan predicted beside what a service measured.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "engine/plan.h"
#include "engine/service.h"

namespace venturi {

// Sees a service's steps, keeps a sample of them, and hands everything on to another observer.
// Threads: the service's; report() when it has ended what it does.
class PlanMeter : public ServiceObserver {
 public:
  explicit PlanMeter(ServiceObserver& next) : next_(next) {}
  void first_token(const RequestReport& request) override { next_.first_token(request); }
  void next_token(double seconds_since_the_last) override { next_.next_token(seconds_since_the_last); }
  void ended(const RequestReport& request) override { next_.ended(request); }
  void step(const StepReport& step) override;

  // A line: rates of steps that decode and of steps with prompts, bytes read from disk for a step, memory held.
  std::string report(Engine& engine, const PlanFile& plan) const;

 private:
  struct Sample {
    std::vector<StepWork::Rows> work;
    double seconds = 0;  // of the engine
  };
  ServiceObserver& next_;
  mutable std::mutex mutex_;
  uint64_t steps_ = 0;
  std::vector<Sample> samples_;  // of all steps, each as likely
};

}  // namespace venturi
