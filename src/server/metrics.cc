#include "server/metrics.h"

#include <prometheus/text_serializer.h>

#include <map>
#include <vector>

#include "server/app.h"

namespace venturi::server {

namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Buckets = std::vector<double>;

// Three a decade: a quantile drawn from them is right within a factor of 1.6.
Buckets decades(double low, double high) {
  Buckets bounds;
  for (double decade = low; decade < high * 0.99; decade *= 10)
    for (const double step : {1.0, 2.5, 5.0}) bounds.push_back(decade * step);
  bounds.push_back(high);
  return bounds;
}

Buckets powers_of_two(int64_t most) {
  Buckets bounds;
  for (int64_t x = 1; x <= most; x *= 2) bounds.push_back(static_cast<double>(x));
  return bounds;
}

struct Spec {
  std::vector<const char*> names;  // the first is today's; the others what older readers ask for
  const char* help;
  Buckets bounds;
};

// In the order of Metrics::Distribution.
const std::vector<Spec>& specs() {
  static const std::vector<Spec> all = {
      {{"vllm:time_to_first_token_seconds"}, "From a request's arrival to its first token.", decades(1e-3, 1000)},
      {{"vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"}, "Between two tokens of a request.",
       decades(1e-4, 100)},
      {{"vllm:request_time_per_output_token_seconds"}, "Of a request: time from its first token to its last, over its tokens but the first.",
       decades(1e-4, 100)},
      {{"vllm:e2e_request_latency_seconds"}, "From a request's arrival to its end.", decades(1e-3, 10000)},
      {{"vllm:request_queue_time_seconds"}, "From a request's arrival to the first step with it.", decades(1e-4, 1000)},
      {{"vllm:request_inference_time_seconds"}, "From the first step with a request to its last token.", decades(1e-3, 10000)},
      {{"vllm:request_prefill_time_seconds"}, "From the first step with a request to its first token.", decades(1e-3, 1000)},
      {{"vllm:request_decode_time_seconds"}, "From a request's first token to its last.", decades(1e-3, 10000)},
      {{"vllm:request_prompt_tokens"}, "Tokens of a request's prompt.", powers_of_two(1 << 17)},
      {{"vllm:request_generation_tokens"}, "Tokens drawn for a request.", powers_of_two(1 << 17)},
      {{"vllm:iteration_tokens_total", "venturi_step_rows"}, "Rows of a step.", powers_of_two(1 << 13)},
      {{"venturi_step_seconds"}, "Of a step, with planning, drawing and answering.", decades(1e-4, 100)},
      {{"venturi_step_measured_over_predicted_ratio"}, "Time of a step's model compute over what the scheduler had predicted.",
       {0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 4}},
  };
  return all;
}

}  // namespace

// Families of metrics, as samples are added.
class MetricFamilies {
 public:
  // Whose metrics come next; "": the server's.
  void of(std::string model) { model_ = std::move(model); }
  void gauge(const char* name, const char* help, double value) { add(name, help, MetricType::Gauge, {}, value); }
  void counter(const char* name, const char* help, double value) { add(name, help, MetricType::Counter, {}, value); }
  // One more of a family, told apart by a label.
  void gauge(const char* name, const char* help, ClientMetric::Label label, double value) {
    add(name, help, MetricType::Gauge, {std::move(label)}, value);
  }
  void counter(const char* name, const char* help, ClientMetric::Label label, double value) {
    add(name, help, MetricType::Counter, {std::move(label)}, value);
  }
  void info(const char* name, const char* help, std::vector<ClientMetric::Label> labels) {
    add(name, help, MetricType::Gauge, std::move(labels), 1);
  }
  void histogram(const char* name, const char* help, ClientMetric metric) {
    put(name, help, MetricType::Histogram, {}, std::move(metric));
  }
  std::string text() const { return prometheus::TextSerializer().Serialize(families_); }

 private:
  void add(const char* name, const char* help, MetricType type, std::vector<ClientMetric::Label> labels, double value) {
    ClientMetric metric;
    (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
    put(name, help, type, std::move(labels), std::move(metric));
  }
  void put(const char* name, const char* help, MetricType type, std::vector<ClientMetric::Label> labels, ClientMetric metric) {
    metric.label = std::move(labels);
    if (!model_.empty()) metric.label.push_back({"model_name", model_});
    const auto [at, is_new] = places_.try_emplace(name, families_.size());
    if (is_new) families_.push_back({name, help, type, {}});
    families_[at->second].metric.push_back(std::move(metric));
  }

  std::string model_;
  std::vector<MetricFamily> families_;
  std::map<std::string, size_t> places_;  // of those
};

namespace {

// Counters of a model that was loaded several times; what is of the moment is that of `now`.
ServiceCounts together(const ServiceCounts& before, ServiceCounts now) {
  SchedulerCounts& s = now.scheduler;
  const SchedulerCounts& b = before.scheduler;
  for (uint64_t SchedulerCounts::*count :
       {&SchedulerCounts::submitted, &SchedulerCounts::refused, &SchedulerCounts::finished, &SchedulerCounts::failed,
        &SchedulerCounts::cancelled, &SchedulerCounts::preempted_to_disk, &SchedulerCounts::preempted_to_recompute,
        &SchedulerCounts::resumed, &SchedulerCounts::prompt_tokens, &SchedulerCounts::output_tokens, &SchedulerCounts::cached_tokens,
        &SchedulerCounts::recomputed_tokens})
    s.*count += b.*count;
  for (uint64_t ServiceCounts::*count : {&ServiceCounts::steps, &ServiceCounts::prefix_queries, &ServiceCounts::prefix_hits,
                                         &ServiceCounts::state_written_bytes, &ServiceCounts::state_read_bytes})
    now.*count += before.*count;
  for (double ServiceCounts::*seconds : {&ServiceCounts::step_seconds, &ServiceCounts::engine_seconds, &ServiceCounts::draw_seconds,
                                         &ServiceCounts::tell_seconds})
    now.*seconds += before.*seconds;
  SpeculationCounts& guesses = now.speculation;
  guesses.checks += before.speculation.checks;
  guesses.guessed += before.speculation.guessed;
  guesses.held += before.speculation.held;
  guesses.guess_seconds += before.speculation.guess_seconds;
  guesses.held_at.resize(std::max(guesses.held_at.size(), before.speculation.held_at.size()));
  for (size_t i = 0; i < before.speculation.held_at.size(); ++i) guesses.held_at[i] += before.speculation.held_at[i];
  return now;
}

Embedder::Counts together(const Embedder::Counts& before, Embedder::Counts now) {
  now.requests += before.requests;
  now.texts += before.texts;
  now.tokens += before.tokens;
  return now;
}

// Of the load at the moment.
void add_load(MetricFamilies& f, const ServiceCounts& c) {
  const SchedulerCounts& s = c.scheduler;
  f.gauge("vllm:num_requests_running", "Requests with state in memory.", static_cast<double>(s.running));
  f.gauge("vllm:num_requests_waiting", "Requests that wait for a place in memory.", static_cast<double>(s.queued + s.moved_out));
  f.gauge("venturi_requests_moved_out", "Of those that wait, requests whose state is on the disk.", static_cast<double>(s.moved_out));
  const double used = c.state_capacity ? static_cast<double>(c.state_tokens) / static_cast<double>(c.state_capacity) : 0;
  for (const char* name : {"vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"})
    f.gauge(name, "Share of the sequence state in use, from 0 to 1.", used);
  f.info("vllm:cache_config_info", "How the sequence state is cut.",
         {{"block_size", std::to_string(kPageTokens)}, {"num_gpu_blocks", std::to_string(c.state_capacity / kPageTokens)}});
}

void add_requests(MetricFamilies& f, const ServiceCounts& c) {
  const SchedulerCounts& s = c.scheduler;
  f.counter("vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.", static_cast<double>(c.prefix_queries));
  f.counter("vllm:prefix_cache_hits_total", "Of those, tokens found.", static_cast<double>(c.prefix_hits));
  f.counter("vllm:generation_tokens_total", "Tokens drawn.", static_cast<double>(s.output_tokens));
  f.counter("vllm:num_preemptions_total", "Requests that gave way.", static_cast<double>(s.preempted_to_disk + s.preempted_to_recompute));
  f.counter("venturi_preemptions_to_disk_total", "Of those, requests whose state went to the disk.", static_cast<double>(s.preempted_to_disk));
  f.counter("venturi_prompt_tokens_computed_total", "Prompt tokens computed for the first time.", static_cast<double>(s.prompt_tokens));
  f.counter("venturi_tokens_recomputed_total", "Tokens computed again after a request gave way.", static_cast<double>(s.recomputed_tokens));
  f.counter("venturi_requests_finished_total", "Requests that ended by themselves.", static_cast<double>(s.finished));
  f.counter("venturi_requests_cancelled_total", "Requests whose client went or that were stopped.", static_cast<double>(s.cancelled));
  f.counter("venturi_requests_failed_total", "Requests that ended by an error.", static_cast<double>(s.failed));
  f.counter("venturi_requests_refused_total", "Requests that found no room.", static_cast<double>(s.refused));
  f.counter("venturi_state_written_bytes_total", "State written to the spill file.", static_cast<double>(c.state_written_bytes));
  f.counter("venturi_state_read_bytes_total", "State read back from it.", static_cast<double>(c.state_read_bytes));
}

void add_steps(MetricFamilies& f, const ServiceCounts& c) {
  f.counter("venturi_steps_total", "Steps of the engine.", static_cast<double>(c.steps));
  const double guess = c.speculation.guess_seconds;
  const double rest = c.step_seconds - c.engine_seconds - guess - c.draw_seconds - c.tell_seconds;
  const auto part = [&](const char* name, double seconds) {
    f.counter("venturi_step_part_seconds_total", "Time in steps: the model, making guesses (a draft model's work too), drawing of tokens, listeners, and the rest: planning and pages.",
              {"part", name}, seconds);
  };
  part("model", c.engine_seconds);
  part("guess", guess);
  part("draw", c.draw_seconds);
  part("tell", c.tell_seconds);
  part("plan", rest);
  f.gauge("venturi_step_overhead_ratio", "Share of the steps' time that was neither the model's nor guesses'.",
          c.step_seconds > 0 ? 1 - (c.engine_seconds + guess) / c.step_seconds : 0);
}

void add_speculation(MetricFamilies& f, const SpeculationCounts& c) {
  f.counter("vllm:spec_decode_num_drafts_total", "Streams' guesses that were checked, in a step each.", static_cast<double>(c.checks));
  f.counter("vllm:spec_decode_num_draft_tokens_total", "Guessed tokens that were checked.", static_cast<double>(c.guessed));
  f.counter("vllm:spec_decode_num_accepted_tokens_total", "Of those, tokens that were drawn.", static_cast<double>(c.held));
  for (size_t i = 0; i < c.held_at.size(); ++i)
    f.counter("vllm:spec_decode_num_accepted_tokens_per_pos_total", "The same, by place among the guesses of a step.",
              {"position", std::to_string(i)}, static_cast<double>(c.held_at[i]));
}

void add_memory(MetricFamilies& f, const Ledger& ledger) {
  for (const Holding& holding : ledger.holdings())
    f.gauge("venturi_memory_held_bytes", "Held in the ledger, by holder.", {"holder", holding.holder}, static_cast<double>(holding.bytes));
  f.gauge("venturi_memory_peak_bytes", "The most that was held at once.", static_cast<double>(ledger.peak()));
  if (ledger.limit() != Ledger::kUnlimited)
    f.gauge("venturi_memory_limit_bytes", "That the ledger may give out.", static_cast<double>(ledger.limit()));
}

void add_embedder(MetricFamilies& f, const Embedder::Counts& e) {
  f.counter("venturi_embedding_requests_total", "Requests for embeddings.", static_cast<double>(e.requests));
  f.counter("venturi_embedded_texts_total", "Texts embedded.", static_cast<double>(e.texts));
  f.counter("venturi_embedded_tokens_total", "Their tokens.", static_cast<double>(e.tokens));
}

}  // namespace

Metrics::Metrics() {
  for (const Spec& spec : specs()) histograms_.emplace_back(spec.bounds);
}

void Metrics::first_token(const RequestReport& r) {
  observe(kFirstToken, r.times.first_token - r.times.submitted);
  prompt_tokens_ += static_cast<uint64_t>(r.prompt_tokens);
}

void Metrics::next_token(double seconds) { observe(kInterToken, seconds); }

void Metrics::ended(const RequestReport& r) {
  ++ended_[static_cast<int>(r.finish)];
  // As in vLLM, only what was answered to its end tells of times.
  if (r.finish != Finish::kEnd && r.finish != Finish::kLength) return;
  const RequestTimes& t = r.times;
  observe(kLatency, t.ended - t.submitted);
  observe(kQueue, t.started - t.submitted);
  observe(kInference, t.last_token - t.started);
  observe(kPrefill, t.first_token - t.started);
  observe(kDecode, t.last_token - t.first_token);
  observe(kPromptTokens, static_cast<double>(r.prompt_tokens));
  observe(kDrawnTokens, static_cast<double>(r.drawn_tokens));
  if (r.drawn_tokens > 1) observe(kTimePerToken, (t.last_token - t.first_token) / static_cast<double>(r.drawn_tokens - 1));
}

void Metrics::step(const StepReport& s) {
  observe(kStepRows, static_cast<double>(s.rows));
  observe(kStepSeconds, s.seconds);
  if (s.predicted_seconds > 0) observe(kStepRatio, s.engine_seconds / s.predicted_seconds);
}

void Metrics::keep(const Serving& leaving) {
  if (leaving.service) kept_ = together(kept_.value_or(ServiceCounts{}), leaving.service->counts());
  if (leaving.embedder) kept_embedder_ = together(kept_embedder_.value_or(Embedder::Counts{}), leaving.embedder->counts());
}

void Metrics::add(MetricFamilies& f, const Serving& now) const {
  if (now.service || now.embedder) add_load(f, now.service ? now.service->counts() : ServiceCounts{});
  if (now.service || kept_) add_service(f, together(kept_.value_or(ServiceCounts{}), now.service ? now.service->counts() : ServiceCounts{}));
  else if (now.embedder || kept_embedder_) add_requests(f, {});
  if (now.embedder)
    f.gauge("venturi_embedding_requests_waiting", "Requests for embeddings that are not answered yet.",
            static_cast<double>(now.embedder->counts().waiting));
  if (now.embedder || kept_embedder_)
    add_embedder(f, together(kept_embedder_.value_or(Embedder::Counts{}), now.embedder ? now.embedder->counts() : Embedder::Counts{}));
}

void Metrics::add_service(MetricFamilies& f, const ServiceCounts& counts) const {
  add_requests(f, counts);
  f.counter("vllm:prompt_tokens_total", "Tokens of prompts, those found in the prefix cache too.", static_cast<double>(prompt_tokens_.load()));
  constexpr std::pair<Finish, const char*> kReasons[] = {
      {Finish::kEnd, "stop"}, {Finish::kLength, "length"}, {Finish::kCancelled, "abort"}, {Finish::kFailed, "error"}};
  for (const auto& [finish, reason] : kReasons)
    f.counter("vllm:request_success_total", "Requests that ended, by reason.", {"finished_reason", reason},
              static_cast<double>(ended_[static_cast<int>(finish)].load()));
  for (size_t i = 0; i < specs().size(); ++i)
    for (const char* name : specs()[i].names) f.histogram(name, specs()[i].help, histograms_[i].Collect());
  add_steps(f, counts);
  add_speculation(f, counts.speculation);
}

std::string metrics_text(const App& app) {
  MetricFamilies f;
  app.models->each([&](const Models::Entry& e) {
    f.of(e.spec.name);
    e.metrics.add(f, e.serving());
    f.gauge("venturi_model_loaded", "Whether the model is loaded.", e.model ? 1 : 0);
    f.counter("venturi_model_loads_total", "Times that it was loaded.", static_cast<double>(e.loads));
    f.counter("venturi_model_unloads_total", "Times that it was unloaded: idle, to make room, or told to.", static_cast<double>(e.unloads));
    f.gauge("venturi_model_load_seconds", "That the last load took, with making room.", e.load_seconds);
  });
  std::string one;
  if (app.models->size() == 1) app.models->each([&](const Models::Entry& e) { one = e.spec.name; });
  f.of(one);  // what is the server's is this model's alone
  if (app.http) {
    f.counter("venturi_http_thread_seconds_total", "CPU time of the thread that reads requests, makes tokens of them and writes answers.",
              app.http->cpu_seconds());
    f.gauge("venturi_connections", "Open connections.", static_cast<double>(app.http->connections()));
    f.counter("venturi_clients_stalled_total", "Clients dropped because they did not read.", static_cast<double>(app.http->stalled()));
    f.counter("venturi_clients_gave_way_total", "Clients dropped, before they had shown a key, because others needed their place.",
              static_cast<double>(app.http->gave_way()));
    f.gauge("venturi_clients_held_bytes", "Held for clients: large headers, bodies and what is made of them, answers that wait to be read.",
            static_cast<double>(app.http->held_bytes()));
    f.counter("venturi_clients_without_room_total", "Requests and answers refused because that had no room.", static_cast<double>(app.http->without_room()));
  }
  add_memory(f, *app.ledger);
  return f.text();
}

}  // namespace venturi::server
