// Routing from a trace and to a trace: a source that makes a model choose the experts of a recorded
// run, and an observer that records one.
// Threads: with the context they hang on.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "memory/routing_trace.h"
#include "ops/context.h"

namespace venturi {

// The gates of a model's mixtures in order of layers, which is the order in which they are declared.
std::vector<const Weight*> mixture_gates(const WeightCatalog& catalog);
// Experts that a token uses, as the file says; 0 if it does not.
int64_t experts_used(const ModelFile& file);

// Row r of a step belongs to sequence r % streams. The sequences begin at places of the trace that are
// equally far apart and follow it from there, steps one after another; after the end comes the beginning.
class RouteReplay : public RouteSource {
 public:
  // Code::kInvalidArgument when the trace's layers, experts or top_k are not the model's.
  static Result<RouteReplay> create(RoutingTrace trace, std::vector<const Weight*> gates, int64_t top_k);

  // Every sequence goes on from where it is; a new number of them begins anew.
  void set_streams(int64_t streams);
  void choose(const Weight& gate, int32_t* chosen, int64_t rows, int64_t top_k) override;
  const RoutingTrace& trace() const { return trace_; }

 private:
  RoutingTrace trace_;
  std::vector<const Weight*> gates_;
  std::vector<int64_t> rows_done_;  // [n_layers]
  int64_t streams_ = 1;
};

// Adds each row of each step as a token, in the order of rows.
class RouteRecorder : public Observer {
 public:
  explicit RouteRecorder(std::vector<const Weight*> gates);
  void linear_input(const Weight&, int64_t, const float*, int64_t, int64_t) override {}
  void routed(const Weight& gate, const int32_t* chosen, int64_t rows, int64_t top_k) override;
  RoutingTrace trace() const;

 private:
  std::vector<const Weight*> gates_;
  int64_t top_k_ = 1;
  std::vector<std::vector<int32_t>> by_layer_;  // [n_layers][n_tokens * top_k]
};

}  // namespace venturi
