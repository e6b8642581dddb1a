// What is served, and how it does: /health, /v1/models, /metrics, /tokenize, /detokenize.
#include "server/app.h"
#include "server/metrics.h"

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

void metrics(App& app, std::shared_ptr<Exchange> exchange, const std::string&) {
  exchange->reply(200, "text/plain; version=0.0.4; charset=utf-8", app.metrics->text(app));
}

}  // namespace

extern const Routes routes_status;
const Routes routes_status{{{"GET", "/health", health, true},
                            {"GET", "/v1/models", models},
                            {"GET", "/metrics", metrics},
                            {"POST", "/tokenize", tokenize},
                            {"POST", "/detokenize", detokenize}}};

}  // namespace venturi::server
