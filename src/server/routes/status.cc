// How the server does, and its tokens: /health, /metrics, /tokenize, /detokenize, /tokenizer_info.
#include "server/generation.h"
#include "server/metrics.h"

namespace venturi::server {

namespace {

void health(Call call) {
  if (call.app.draining) return call.exchange->reply(503, "application/json", R"({"status":"draining"})");
  call.exchange->reply(200, "application/json", R"({"status":"ok"})");
}

void tokenize(Call call) {
  const ServedModel& model = *call.target;
  Fields fields(call.body);
  fields.ignore({"model"});
  // "content" in llama.cpp's server, "prompt" in vLLM's.
  const bool as_vllm = !fields.find("content");
  const std::string text = fields.text("content", fields.text("prompt", ""));
  const bool special = fields.flag("add_special", fields.flag("add_special_tokens", true));
  // There, control tokens written in the text are those tokens; here they are text unless asked for.
  const bool parse = fields.flag("parse_special", as_vllm);
  if (!fields.find("content") && !fields.find("prompt")) fields.fail("content", "must be a string");
  if (fields.error()) return reply(*call.exchange, *fields.error());
  log_unknown(fields);
  const std::vector<TokenId> tokens = model.tokenizer->encode(text, {.add_special = special, .parse_special = parse});
  reply(*call.exchange, Json{{"tokens", tokens},
                        {"count", tokens.size()},
                        {"max_model_len", model.engine->options().context}});
}

void detokenize(Call call) {
  const ServedModel& model = *call.target;
  Fields fields(call.body);
  fields.ignore({"model"});
  std::vector<TokenId> ids;
  const Json* list = fields.find("tokens");
  if (!list || !list->is_array()) fields.fail("tokens", "must be a list of token ids");
  if (!fields.error())
    for (const Json& id : *list) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 ||
          id.get<int64_t>() >= model.tokenizer->vocab_size()) {
        fields.fail("tokens", fmt::format("may hold ids below {}", model.tokenizer->vocab_size()));
        break;
      }
      ids.push_back(id.get<TokenId>());
    }
  if (fields.error()) return reply(*call.exchange, *fields.error());
  log_unknown(fields);
  const std::string text = model.tokenizer->decode(ids);
  reply(*call.exchange, Json{{"content", text}, {"prompt", text}});
}

// As vLLM tells it: what lm-eval's remote tokenizer asks for. Of the first model.
Json about_tokenizer(const ServedModel& model) {
  const auto text_of = [&](std::optional<TokenId> id) { return id ? Json(model.tokenizer->piece(*id, true)) : Json(nullptr); };
  Json json = {{"model", model.name},
               {"vocab_size", model.tokenizer->vocab_size()},
               {"bos_token", text_of(model.tokenizer->bos())},
               {"eos_token", text_of(model.tokenizer->eos())},
               {"add_bos_token", model.tokenizer->adds_bos()},
               {"model_max_length", model.engine->options().context}};
  const auto own = model.engine->file().metadata.get_string("tokenizer.chat_template");
  if (own) json["chat_template"] = *own;
  return json;
}

void tokenizer_info(Call call) {
  const auto tell = [exchange = call.exchange](const Found& found) {
    if (const ApiError* error = std::get_if<ApiError>(&found)) return reply(*exchange, *error);
    reply(*exchange, about_tokenizer(*std::get<Target>(found)));
  };
  const auto found = call.app.models->find("", tell);
  if (found) tell(*found);
}

void metrics(Call call) {
  call.exchange->reply(200, "text/plain; version=0.0.4; charset=utf-8", metrics_text(call.app));
}

}  // namespace

extern const Routes routes_status;
const Routes routes_status{{{"GET", "/health", health, Needs::kNothing},
                            {"GET", "/metrics", metrics},
                            {"POST", "/tokenize", tokenize, Needs::kModel},
                            {"POST", "/detokenize", detokenize, Needs::kModel},
                            {"GET", "/tokenizer_info", tokenizer_info}}};

}  // namespace venturi::server
