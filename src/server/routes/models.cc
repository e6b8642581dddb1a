// The models that are served: GET /v1/models and /v1/models/NAME, and for who runs the server POST /models/load and
// /models/unload, each with {"model": NAME}.
#include <charconv>
#include <cstring>

#include "server/generation.h"

namespace venturi::server {

namespace {

// As OpenAI's, with the state where the router of llama.cpp's server has it.
Json listing(const Models::Entry& e, const std::string& name) {
  Json json = {{"id", name},
               {"object", "model"},
               {"created", e.created},
               {"owned_by", "venturi"},
               {"max_model_len", e.spec.about.context},
               {"status", {{"value", name_of(e.state)}}}};
  if (name != e.spec.name) json["parent"] = e.spec.name;
  if (e.failure) json["status"]["failed"] = e.failure->message;
  return json;
}

void models(Call call) {
  Json data = Json::array();
  call.app.models->each([&](const Models::Entry& e) {
    data.push_back(listing(e, e.spec.name));
    for (const std::string& adapter : e.spec.adapters) data.push_back(listing(e, e.spec.name + ":" + adapter));
  });
  reply(*call.exchange, Json{{"object", "list"}, {"data", std::move(data)}});
}

void reply_listing(const App& app, Exchange& exchange, const std::string& name) {
  Json json, divided;  // a whole name comes before a divided one
  app.models->each([&](const Models::Entry& e) {
    if (e.spec.name == name) json = listing(e, name);
    for (const std::string& adapter : e.spec.adapters)
      if (e.spec.name + ":" + adapter == name) divided = listing(e, name);
  });
  if (json.is_null()) json = std::move(divided);
  if (json.is_null()) return reply(exchange, Models::unknown(name));
  reply(exchange, json);
}

// Of a path: "%3A" is ":".
std::string unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '%' && i + 2 < text.size() && std::from_chars(&text[i + 1], &text[i + 1] + 2, value, 16).ptr == &text[i + 1] + 2) {
      out += static_cast<char>(value);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

constexpr const char* kModel = "/v1/models/*";

void model(Call call) {
  const std::string_view path = call.exchange->request().path;
  reply_listing(call.app, *call.exchange, unescaped(path.substr(std::strlen(kModel) - 1)));
}

// Reaches the route when the model is loaded.
void load(Call call) {
  Fields fields(call.body);
  fields.ignore({"model"});
  log_unknown(fields);
  reply_listing(call.app, *call.exchange, call.target->name);
}

void unload(Call call) {
  const auto body = parse_body(call.exchange->request().body);
  if (!body) return reply(*call.exchange, api_error(body.error()));
  Fields fields(*body);
  const std::string name = fields.text("model", "");
  if (!fields.error() && name.empty()) fields.fail("model", "is required");
  if (fields.error()) return reply(*call.exchange, *fields.error());
  log_unknown(fields);
  call.app.models->unload(name, [&app = call.app, exchange = call.exchange, name](std::optional<ApiError> why) {
    if (why) return reply(*exchange, *why);
    exchange->post([&app, exchange, name] { reply_listing(app, *exchange, name); });
  });
}

}  // namespace

extern const Routes routes_models;
const Routes routes_models{{{"GET", "/v1/models", models},
                            {"GET", kModel, model},
                            {"POST", "/models/load", load, Needs::kModel},
                            {"POST", "/models/unload", unload}}};

}  // namespace venturi::server
