#include "server/app.h"

#include "base/log.h"
#include "route_registry.inc"

namespace venturi::server {

namespace {

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

void call_with_model(const Place& place, Call call) {
  const auto refuse = [error_body = place.error_body](Exchange& exchange, const ApiError& error) { reply(exchange, error, error_body(error)); };
  if (const auto error = parse_into(call)) return refuse(*call.exchange, *error);
  const auto name = asked_model(call.body);
  if (const ApiError* error = std::get_if<ApiError>(&name)) return refuse(*call.exchange, *error);

  // One whose client goes before its model is there is not answered.
  auto waiting = std::make_shared<Call>(std::move(call));
  auto gone = std::make_shared<bool>(false);
  const auto go_on = [handler = place.route->handler, refuse, waiting](Found found) {
    if (const ApiError* error = std::get_if<ApiError>(&found)) return refuse(*waiting->exchange, *error);
    waiting->target = std::get<Target>(std::move(found));
    const auto exchange = waiting->exchange;
    handler(std::move(*waiting));
    exchange->body_done();
  };
  const auto then = [go_on, gone, exchange = waiting->exchange](Found found) {
    exchange->post([go_on, gone, found = std::move(found)]() mutable {
      if (!*gone) go_on(std::move(found));
    });
  };
  std::string asked = std::get<std::string>(name);
  auto found = waiting->app.models->find(asked, then);
  if (place.tags && asked.ends_with(kLatest) && found && is_unknown(*found)) {
    asked.resize(asked.size() - kLatest.size());
    found = waiting->app.models->find(asked, then);
  }
  if (found) return go_on(std::move(*found));
  waiting->exchange->on_close([gone] { *gone = true; });
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
  Call call{.app = *this, .exchange = exchange, .account = who ? *who : Account{}};
  if (place.route->needs == Needs::kModel) return call_with_model(place, std::move(call));
  place.route->handler(std::move(call));
  exchange->body_done();
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
