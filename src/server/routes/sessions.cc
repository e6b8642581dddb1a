// Conversations' state in files: POST /sessions/save, /sessions/restore, /sessions/delete and GET /sessions
// (docs/sessions.md).
#include "server/generation.h"
#include "server/sessions.h"

namespace venturi::server {

namespace {

bool has_folder(const Call& call) {
  if (call.app.sessions) return true;
  reply(*call.exchange, ApiError{.message = "no session is kept here: start the server with --session-dir DIR", .code = "unsupported"});
  return false;
}

SessionDone answer(const Call& call) {
  return [exchange = call.exchange, model = call.target.name](std::variant<SessionAbout, ApiError> what) {
    if (const ApiError* why = std::get_if<ApiError>(&what)) return reply(*exchange, *why);
    const SessionAbout& about = std::get<SessionAbout>(what);
    Json json = {{"session", about.name}, {"model", model}, {"tokens", about.tokens}};
    if (about.bytes) json["bytes"] = about.bytes;
    reply(*exchange, json);
  };
}

void save(Call call) {
  if (!has_folder(call)) return;
  Fields fields(call.body);
  fields.ignore({"model"});
  const std::string name = fields.text("session", "");
  const Json* prompt = fields.find("prompt");
  const Json* messages = fields.find("messages");
  if (!prompt == !messages) fields.fail("prompt", "or messages must be there, one of them");
  std::vector<TokenId> tokens;
  if (!fields.error() && messages) tokens = chat_prompt(fields, *call.target, messages, fields.find("chat_template_kwargs"), read_tools(fields));
  if (!fields.error() && prompt) {
    auto texts = read_texts(fields, *call.target, "prompt", 1);
    if (!texts.empty()) tokens = std::move(texts[0]);
  }
  const auto context = call.target->engine->options().context;
  if (!fields.error() && tokens.empty()) fields.fail(prompt ? "prompt" : "messages", "has no tokens");
  if (!fields.error() && static_cast<int64_t>(tokens.size()) > context)
    fields.fail(prompt ? "prompt" : "messages", fmt::format("has {} tokens, the context holds {}", tokens.size(), context));
  if (fields.error()) return reply(*call.exchange, *fields.error());
  log_unknown(fields);
  call.app.sessions->save(call.target, name, std::move(tokens), call.account, answer(call));
}

void restore(Call call) {
  if (!has_folder(call)) return;
  Fields fields(call.body);
  fields.ignore({"model"});
  const std::string name = fields.text("session", "");
  if (fields.error()) return reply(*call.exchange, *fields.error());
  log_unknown(fields);
  call.app.sessions->restore(call.target, name, answer(call));
}

void list(Call call) {
  if (!has_folder(call)) return;
  Json sessions = Json::array();
  for (const SessionAbout& about : call.app.sessions->list()) sessions.push_back({{"session", about.name}, {"bytes", about.bytes}});
  reply(*call.exchange, Json{{"sessions", std::move(sessions)}});
}

void remove(Call call) {
  if (!has_folder(call)) return;
  const auto body = parse_body(call.exchange->request().body);
  if (!body) return reply(*call.exchange, api_error(body.error()));
  Fields fields(*body);
  const std::string name = fields.text("session", "");
  if (fields.error()) return reply(*call.exchange, *fields.error());
  log_unknown(fields);
  if (const auto why = call.app.sessions->remove(name)) return reply(*call.exchange, *why);
  reply(*call.exchange, Json{{"session", name}, {"deleted", true}});
}

}  // namespace

extern const Routes routes_sessions;
const Routes routes_sessions{{{"GET", "/sessions", list},
                              {"POST", "/sessions/save", save, Needs::kModel},
                              {"POST", "/sessions/restore", restore, Needs::kModel},
                              {"POST", "/sessions/delete", remove}}};

}  // namespace venturi::server
