// What is served, and how it does: /health, /v1/models, /metrics, /tokenize, /detokenize.
#include "server/app.h"

namespace venturi::server {

namespace {

void health(App& app, std::shared_ptr<Exchange> exchange, const std::string&) {
  if (app.draining) return exchange->reply(503, "application/json", R"({"status":"draining"})");
  exchange->reply(200, "application/json", R"({"status":"ok"})");
}

void models(App& app, std::shared_ptr<Exchange> exchange, const std::string&) {
  reply(*exchange,
        Json{{"object", "list"},
             {"data", Json::array({{{"id", app.model_name},
                                    {"object", "model"},
                                    {"created", app.created},
                                    {"owned_by", "venturi"},
                                    {"max_model_len", app.engine->options().context}}})}});
}

void tokenize(App& app, std::shared_ptr<Exchange> exchange, const std::string&) {
  const auto body = parse_body(exchange->request().body);
  if (!body) return reply(*exchange, api_error(body.error()));
  Fields fields(*body);
  // "content" in llama.cpp's server, "prompt" in vLLM's.
  const std::string text = fields.text("content", fields.text("prompt", ""));
  const bool special = fields.flag("add_special", fields.flag("add_special_tokens", true));
  if (!fields.find("content") && !fields.find("prompt")) fields.fail("content", "must be a string");
  if (fields.error()) return reply(*exchange, *fields.error());
  const std::vector<TokenId> tokens = app.tokenizer->encode(text, {.add_special = special});
  reply(*exchange, Json{{"tokens", tokens},
                        {"count", tokens.size()},
                        {"max_model_len", app.engine->options().context}});
}

void detokenize(App& app, std::shared_ptr<Exchange> exchange, const std::string&) {
  const auto body = parse_body(exchange->request().body);
  if (!body) return reply(*exchange, api_error(body.error()));
  Fields fields(*body);
  std::vector<TokenId> ids;
  const Json* list = fields.find("tokens");
  if (!list || !list->is_array()) fields.fail("tokens", "must be a list of token ids");
  if (!fields.error())
    for (const Json& id : *list) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 ||
          id.get<int64_t>() >= app.tokenizer->vocab_size()) {
        fields.fail("tokens", fmt::format("may hold ids below {}", app.tokenizer->vocab_size()));
        break;
      }
      ids.push_back(id.get<TokenId>());
    }
  if (fields.error()) return reply(*exchange, *fields.error());
  const std::string text = app.tokenizer->decode(ids);
  reply(*exchange, Json{{"content", text}, {"prompt", text}});
}

// Prometheus' text format; the names that dashboards of vLLM read, and ours.
void metrics(App& app, std::shared_ptr<Exchange> exchange, const std::string&) {
  const ServiceCounts c = app.service ? app.service->counts() : ServiceCounts{};
  std::string text;
  const auto add = [&](const char* name, const char* type, const char* help, double value) {
    text += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n{0}{{model_name=\"{3}\"}} {4}\n", name,
                        help, type, app.model_name, value);
  };
  add("vllm:num_requests_running", "gauge", "Requests with state in memory.",
      static_cast<double>(c.scheduler.running));
  add("vllm:num_requests_waiting", "gauge", "Requests in the queue.",
      static_cast<double>(c.scheduler.queued));
  add("vllm:kv_cache_usage_perc", "gauge", "Share of the sequence state in use.",
      c.state_capacity ? static_cast<double>(c.state_tokens) / static_cast<double>(c.state_capacity)
                       : 0);
  add("vllm:prefix_cache_queries", "counter", "Prompt tokens looked up in the prefix cache.",
      static_cast<double>(c.prefix_queries));
  add("vllm:prefix_cache_hits", "counter", "Of those, tokens found.",
      static_cast<double>(c.prefix_hits));
  add("venturi:state_written_bytes_total", "counter", "State written to the spill file.",
      static_cast<double>(c.state_written_bytes));
  add("venturi:state_read_bytes_total", "counter", "State read back from it.",
      static_cast<double>(c.state_read_bytes));
  add("vllm:prompt_tokens_total", "counter", "Prompt tokens computed.",
      static_cast<double>(c.scheduler.prompt_tokens));
  add("vllm:generation_tokens_total", "counter", "Tokens drawn.",
      static_cast<double>(c.scheduler.output_tokens));
  add("vllm:num_preemptions_total", "counter", "Requests that gave way.",
      static_cast<double>(c.scheduler.preempted_to_disk + c.scheduler.preempted_to_recompute));
  add("venturi:requests_finished_total", "counter", "Requests that ended by themselves.",
      static_cast<double>(c.scheduler.finished));
  add("venturi:requests_cancelled_total", "counter",
      "Requests whose client went or that were stopped.",
      static_cast<double>(c.scheduler.cancelled));
  add("venturi:requests_failed_total", "counter", "Requests that ended by an error.",
      static_cast<double>(c.scheduler.failed));
  add("venturi:requests_refused_total", "counter", "Requests that found no room.",
      static_cast<double>(c.scheduler.refused));
  add("venturi:steps_total", "counter", "Steps of the engine.", static_cast<double>(c.steps));
  add("venturi:step_seconds_total", "counter",
      "Time in steps, with planning, drawing and answering.", c.step_seconds);
  add("venturi:step_overhead_ratio", "gauge", "Share of the steps' time that was not the model's.",
      c.step_seconds > 0 ? 1 - c.engine_seconds / c.step_seconds : 0);
  add("venturi:connections", "gauge", "Open connections.",
      static_cast<double>(app.http->connections()));
  add("venturi:memory_held_bytes", "gauge", "Held in the ledger.",
      static_cast<double>(app.engine->ledger().held()));
  if (app.embedder) {
    const Embedder::Counts e = app.embedder->counts();
    add("venturi:embedding_requests_total", "counter", "Requests for embeddings.", static_cast<double>(e.requests));
    add("venturi:embedding_requests_waiting", "gauge", "Those that are not answered yet.", static_cast<double>(e.waiting));
    add("venturi:embedded_texts_total", "counter", "Texts embedded.", static_cast<double>(e.texts));
    add("venturi:embedded_tokens_total", "counter", "Their tokens.", static_cast<double>(e.tokens));
  }
  exchange->reply(200, "text/plain; version=0.0.4; charset=utf-8", std::move(text));
}

}  // namespace

extern const Routes routes_status;
const Routes routes_status{{{"GET", "/health", health, true},
                            {"GET", "/v1/models", models},
                            {"GET", "/metrics", metrics},
                            {"POST", "/tokenize", tokenize},
                            {"POST", "/detokenize", detokenize}}};

}  // namespace venturi::server
