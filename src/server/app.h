// What all routes share: the models, the server, who may use them; and how a request comes to its route.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/fields.h"
#include "server/http.h"
#include "server/models.h"
#include "server/origins.h"

namespace venturi::server {

// Who a request counts for among those that share the machine.
struct Account {
  std::string name = {};  // "key 1", "key 2", …; "" where no keys are asked for
  double weight = 1;      // its share
  int max_priority = 0;   // so much of a request's priority counts before other accounts'
};

struct ApiKey {
  std::string secret;
  Account account;
};

class Sessions;

struct App {
  Models* models = nullptr;
  HttpServer* http = nullptr;
  std::shared_ptr<Ledger> ledger;  // of all models
  Sessions* sessions = nullptr;    // null: none are kept
  std::vector<ApiKey> keys;
  Origins origins = {};    // where there are no keys
  bool draining = false;

  // The account of a request, or null where a key is asked for and none that is known came.
  const Account* account(const HttpRequest& request) const;
  // An error of a path in the form of its API.
  static std::string error_body(std::string_view path, int status, std::string_view message);
  // Finds the route and checks the key, which takes no body; answers where either is wrong.
  bool admits(Exchange& exchange) const;
  // What was admitted: finds the model, calls the route, at once, or when the model is loaded.
  void handle(std::shared_ptr<Exchange> exchange);
};

// A request that has come to its route, on the HTTP server's thread.
struct Call {
  App& app;
  std::shared_ptr<Exchange> exchange;
  Account account;
  // Of a route that is about a model:
  Json body = {};      // parsed; not yet checked but for its `model`
  Target target = {};  // keep it as long as the model is in use
};

using RouteHandler = void (*)(Call call);
enum class Needs {
  kKey,      // where there are keys
  kNothing,  // open to everyone
  kModel,    // a key, and a body that is JSON whose `model` is there
};
struct Route {
  const char* method;
  const char* path;  // at its end, * stands for anything but nothing
  RouteHandler handler;
  Needs needs = Needs::kKey;
};
// A file in routes/, `x.cc`, defines `const Routes routes_x`.
using ErrorBody = std::string (*)(const ApiError& error);
struct Routes {
  std::vector<Route> routes;
  ErrorBody error_body = dump;
  bool tags = false;  // NAME:latest is NAME
};

void reply(Exchange& exchange, const Json& body);
void reply(Exchange& exchange, const ApiError& error);
void reply(Exchange& exchange, const ApiError& error, std::string body);
// What the engine's errors are over HTTP.
ApiError api_error(const Error& error);
ApiError shutting_down();

}  // namespace venturi::server
