#include "server/app.h"

#include <ctime>

#include "base/log.h"
#include "route_registry.inc"

namespace venturi::server {

namespace {

// For models that bring no template.
constexpr const char* kPlainTemplate =
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n"
    "{% elif m.role == 'user' %}User: {{ m.content }}\n{% else %}Assistant: {{ m.content }}\n{% "
    "endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}";

// In a time that depends on the length of what was given alone.
bool same(std::string_view secret, std::string_view given) {
  unsigned char different = secret.size() != given.size();
  for (size_t i = 0; i < given.size(); ++i)
    different |=
        static_cast<unsigned char>(given[i] ^ (secret.empty() ? 0 : secret[i % secret.size()]));
  return !different;
}

}  // namespace

Result<std::unique_ptr<App>> App::create(Engine& engine, std::string model_name) {
  auto app = std::make_unique<App>();
  app->engine = &engine;
  app->tokenizer = TRY(engine.tokenizer());
  std::string source = kPlainTemplate;
  if (engine.file().metadata.contains("tokenizer.chat_template"))
    source = TRY(engine.file().metadata.get_string("tokenizer.chat_template"));
  auto parsed = chat::Template::parse(source);
  if (!parsed) return std::move(parsed).error().within("the chat template");
  app->chat_template = std::make_unique<chat::Template>(std::move(parsed).value());
  app->tool_format = &chat::tool_format_for(source);
  app->template_takes_tools = chat::takes_tools(source);
  for (const std::string& mark : {app->tool_format->begin, app->tool_format->end})
    if (const auto id = app->tokenizer->find(mark); id && !mark.empty() && app->tokenizer->kind(*id) == TokenKind::kControl)
      app->tool_marks.push_back(*id);
  app->segments = std::make_unique<chat::SegmentEncoder>(*app->tokenizer);
  app->trie = std::make_shared<grammar::TokenTrie>(*app->tokenizer);
  app->model_name = std::move(model_name);
  app->created = static_cast<int64_t>(std::time(nullptr));
  return app;
}

const std::string* App::account(const HttpRequest& request) const {
  static const std::string kNobody = "";
  if (keys.empty()) return &kNobody;
  std::string_view given = request.api_key;
  if (request.authorization.size() > 7 &&
      strncasecmp(request.authorization.c_str(), "Bearer ", 7) == 0)
    given = std::string_view(request.authorization).substr(7);
  const std::string* found = nullptr;
  for (const ApiKey& key : keys)
    if (same(key.secret, given)) found = &key.name;
  return found;
}

void App::handle(std::shared_ptr<Exchange> exchange) {
  const HttpRequest& request = exchange->request();
  std::string allowed;
  const Route* found = nullptr;
  std::string (*error_body)(const ApiError&) = dump;
  for (const Routes* file : kAll_Routes)
    for (const Route& route : file->routes) {
      if (request.path != route.path) continue;
      error_body = file->error_body;
      if (request.method == route.method ||
          (request.method == "HEAD" && std::string_view(route.method) == "GET"))
        found = &route;
      allowed += (allowed.empty() ? "" : ", ") + std::string(route.method);
    }
  const std::string* who = account(request);
  if (!who && !(found && found->open))
    return exchange->reply(
        401, "application/json",
        error_body(ApiError{.status = 401, .type = "authentication_error", .message = "give a valid API key: Authorization: Bearer KEY",
                      .code = "invalid_api_key"}),
        {{"WWW-Authenticate", "Bearer"}});
  if (!found && allowed.empty())
    return reply(*exchange, ApiError{.status = 404,
                                     .message = fmt::format("there is no {} here", request.path),
                                     .code = "not_found"});
  if (!found)
    return exchange->reply(405, "application/json",
                           error_body(ApiError{.status = 405, .message = fmt::format("{} takes {}, not {}", request.path,
                                                                allowed, request.method)}),
                           {{"Allow", allowed}});
  static const std::string kOpen = "";
  found->handler(*this, std::move(exchange), who ? *who : kOpen);
}

void reply(Exchange& exchange, const Json& body) {
  exchange.reply(200, "application/json", dump(body));
}

void reply(Exchange& exchange, const ApiError& error) { reply(exchange, error, dump(error)); }

void reply(Exchange& exchange, const ApiError& error, std::string body) {
  Headers headers;
  if (error.retry_after_seconds > 0)
    headers.emplace_back("Retry-After",
                         std::to_string(static_cast<int64_t>(error.retry_after_seconds + 0.999)));
  exchange.reply(error.status, "application/json", std::move(body), std::move(headers));
}

ApiError api_error(const Error& error) {
  ApiError api{.message = error.message};
  switch (error.code) {
    case Code::kInvalidArgument:
    case Code::kUnsupported:
      break;
    default:
      api.status = 500;
      api.type = "server_error";
  }
  return api;
}

}  // namespace venturi::server
