#include "server/app.h"

#include "base/log.h"
#include "route_registry.inc"

namespace venturi::server {

namespace {

constexpr uint64_t kInlineBytes = 16 << 10;  // of a body that the server's thread reads itself: a few milliseconds

// In a time that depends on the length of what was given alone.
bool same(std::string_view secret, std::string_view given) {
  unsigned char different = secret.size() != given.size();
  for (size_t i = 0; i < given.size(); ++i)
    different |=
        static_cast<unsigned char>(given[i] ^ (secret.empty() ? 0 : secret[i % secret.size()]));
  return !different;
}

}  // namespace

const Account* App::account(const HttpRequest& request) const {
  static const Account kNobody;
  if (keys.empty()) return &kNobody;
  std::string_view given = request.api_key;
  if (request.authorization.size() > 7 &&
      strncasecmp(request.authorization.c_str(), "Bearer ", 7) == 0)
    given = std::string_view(request.authorization).substr(7);
  const Account* found = nullptr;
  for (const ApiKey& key : keys)
    if (same(key.secret, given)) found = &key.account;
  return found;
}

namespace {

// The name in `model`; "" where none is given.
std::variant<std::string, ApiError> asked_model(const Json& body) {
  Fields fields(body);
  std::string name = body.is_object() ? fields.text("model", "") : "";
  if (body.is_object() && fields.error()) return *fields.error();
  return name;
}

struct Place {
  const Route* route = nullptr;
  std::string allowed;  // methods of the path; "": there is no such path
  ErrorBody error_body = dump;
  bool tags = false;
};

constexpr std::string_view kLatest = ":latest";

bool is_unknown(const Found& found) {
  const ApiError* error = std::get_if<ApiError>(&found);
  return error && error->status == 404;
}

// The body is not needed beside what it says.
std::optional<ApiError> parse_into(Call& call) {
  const std::string text = call.exchange->take_body();
  const auto values = count_values(text);
  if (!values) return api_error(values.error());
  const uint64_t bytes = static_cast<uint64_t>(*values) * kValueBytes;
  if (const uint64_t most = call.exchange->most_to_hold(); bytes > most)
    return ApiError{.status = 413,
                    .message = fmt::format("the body holds {} values; beside its {} bytes there is room for {}", *values, text.size(), most / kValueBytes),
                    .code = "request_too_large"};
  if (!call.exchange->hold(bytes))
    return ApiError{.status = 503,
                    .type = "server_error",
                    .message = fmt::format("there is no room for a body of {} values now; ask again", *values),
                    .retry_after_seconds = 1};
  auto body = parse_counted(text);
  if (!body) return api_error(body.error());
  call.body = std::move(body).value();
  return std::nullopt;
}

// A request on its way to its route.
struct Errand {
  const Route& route;
  ErrorBody error_body;
  bool tags;       // of models, are none (Place)
  uint64_t bytes;  // of the body
  Call call;
  std::shared_ptr<std::atomic<bool>> gone = std::make_shared<std::atomic<bool>>(false);  // its client; nobody is answered then
  bool aside = false;  // a worker does it
};
using ErrandPtr = std::shared_ptr<Errand>;

void refuse(const Errand& e, const ApiError& error) { reply(*e.call.exchange, error, e.error_body(error)); }

void watch(const Errand& e) {
  e.call.exchange->on_close([gone = e.gone] { *gone = true; });
}

// A worker does `step`, if there is one.
void step_aside(const ErrandPtr& e, void (*step)(const ErrandPtr&)) {
  if (!e->call.app.workers) return step(e);
  e->aside = true;
  watch(*e);
  const bool taken = e->call.app.workers->add(e->bytes, [e, step] {
    if (*e->gone) return;
    const auto exchange = e->call.exchange;
    try {
      step(e);
    } catch (const std::exception& failure) {
      spdlog::error("a request ended by an exception: {}", failure.what());
      const ApiError error{.status = 500, .type = "server_error", .message = "the request could not be worked on"};
      reply(*exchange, error, e->error_body(error));
    }
  });
  if (!taken)
    refuse(*e, {.status = 503, .type = "server_error", .message = "too many large requests wait to be read; ask again", .retry_after_seconds = 1});
}

void call_route(const ErrandPtr& e) {
  const auto exchange = e->call.exchange;
  e->route.handler(std::move(e->call));
  exchange->body_done();
}

void call_found(const ErrandPtr& e, Found found) {
  if (const ApiError* error = std::get_if<ApiError>(&found)) return refuse(*e, *error);
  e->call.target = std::get<Target>(std::move(found));
  // What compiles a grammar may take long however small it is.
  const auto compiles = [&] {
    for (const char* name : {"grammar", "response_format", "format", "text", "tools"})
      if (e->call.body.is_object() && e->call.body.contains(name)) return true;
    return false;
  };
  if (!e->aside && compiles()) return step_aside(e, call_route);
  call_route(e);
}

void call_with_model(const ErrandPtr& e) {
  if (const auto error = parse_into(e->call)) return refuse(*e, *error);
  const auto name = asked_model(e->call.body);
  if (const ApiError* error = std::get_if<ApiError>(&name)) return refuse(*e, *error);
  // One whose client goes before its model is there is not answered.
  const auto then = [e](Found found) {
    e->call.exchange->post([e, found = std::move(found)]() mutable {
      if (*e->gone) return;
      if (!e->aside || std::holds_alternative<ApiError>(found)) return call_found(e, std::move(found));
      e->call.target = std::get<Target>(std::move(found));
      step_aside(e, call_route);
    });
  };
  std::string asked = std::get<std::string>(name);
  auto found = e->call.app.models->find(asked, then);
  if (e->tags && asked.ends_with(kLatest) && found && is_unknown(*found)) {
    asked.resize(asked.size() - kLatest.size());
    found = e->call.app.models->find(asked, then);
  }
  if (found) return call_found(e, std::move(*found));
  if (!e->aside) watch(*e);
}

bool leads(std::string_view route, std::string_view path) {
  if (!route.ends_with('*')) return route == path;
  route.remove_suffix(1);
  return path.size() > route.size() && path.starts_with(route);
}

Place place_of(const HttpRequest& request) {
  Place place;
  for (const Routes* file : kAll_Routes)
    for (const Route& route : file->routes) {
      if (!leads(route.path, request.path)) continue;
      place.error_body = file->error_body;
      place.tags = file->tags;
      if (request.method == route.method || (request.method == "HEAD" && std::string_view(route.method) == "GET")) place.route = &route;
      place.allowed += (place.allowed.empty() ? "" : ", ") + std::string(route.method);
    }
  return place;
}

}  // namespace

std::string App::error_body(std::string_view path, int status, std::string_view message) {
  HttpRequest request;
  request.path = path;
  return place_of(request).error_body({.status = status, .type = status >= 500 ? "server_error" : "invalid_request_error", .message = std::string(message)});
}

bool App::admits(Exchange& exchange) const {
  const HttpRequest& request = exchange.request();
  const Place place = place_of(request);
  const auto refuse = [&](const ApiError& error, Headers headers) {
    exchange.reply(error.status, "application/json", place.error_body(error), std::move(headers));
    return false;
  };
  if (!account(request) && !(place.route && place.route->needs == Needs::kNothing))
    return refuse({.status = 401, .type = "authentication_error", .message = "give a valid API key: Authorization: Bearer KEY", .code = "invalid_api_key"},
                  {{"WWW-Authenticate", "Bearer"}});
  if (keys.empty() && !(place.route && place.route->needs == Needs::kNothing))
    if (const auto error = foreign(origins, request)) return refuse(*error, {});
  if (place.allowed.empty()) return refuse({.status = 404, .message = fmt::format("there is no {} here", request.path), .code = "not_found"}, {});
  if (!place.route)
    return refuse({.status = 405, .message = fmt::format("{} takes {}, not {}", request.path, place.allowed, request.method)},
                  {{"Allow", place.allowed}});
  if (draining && place.route->needs == Needs::kModel) return refuse(shutting_down(), {{"Retry-After", "1"}});
  exchange.on_cut_off([&exchange, error_body = place.error_body] { reply(exchange, shutting_down(), error_body(shutting_down())); });
  return true;
}

void App::handle(std::shared_ptr<Exchange> exchange) {
  const Place place = place_of(exchange->request());
  const Account* who = account(exchange->request());
  const uint64_t bytes = exchange->request().body.size();
  const auto errand = std::make_shared<Errand>(Errand{
      .route = *place.route, .error_body = place.error_body, .tags = place.tags, .bytes = bytes, .call = {.app = *this, .exchange = exchange, .account = who ? *who : Account{}}});
  const auto go = place.route->needs == Needs::kModel ? call_with_model : call_route;
  if (bytes > kInlineBytes) return step_aside(errand, go);
  go(errand);
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

ApiError shutting_down() {
  return {.status = 503, .type = "server_error", .message = "the server is shutting down", .retry_after_seconds = 1};
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
