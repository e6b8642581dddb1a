// What all routes share: the model that is served, and how it is spoken of.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "chat/encode.h"
#include "chat/tools/tool_format.h"
#include "engine/embedder.h"
#include "engine/service.h"
#include "grammar/constraint.h"
#include "server/fields.h"
#include "server/http.h"

namespace venturi::server {

class Metrics;

struct ApiKey {
  std::string secret;
  std::string name;  // in the accounts of fairness: "key 1", "key 2", …
};

struct App {
  Engine* engine = nullptr;
  Service* service = nullptr;    // null for a model that gives embeddings
  Embedder* embedder = nullptr;  // null for a model that gives text
  const Tokenizer* tokenizer = nullptr;
  std::unique_ptr<chat::Template> chat_template;
  std::unique_ptr<chat::SegmentEncoder> segments;
  const chat::ToolFormat* tool_format = nullptr;  // that the template speaks
  bool template_takes_tools = false;
  std::vector<TokenId> tool_marks;  // control tokens that the format's marks are
  std::shared_ptr<const grammar::TokenTrie> trie;
  HttpServer* http = nullptr;
  const Metrics* metrics = nullptr;  // the service's observer
  std::string model_name;
  int64_t created = 0;  // seconds since 1970
  std::vector<ApiKey> keys;
  bool draining = false;

  // service, embedder, metrics, http and keys are the caller's to set.
  static Result<std::unique_ptr<App>> create(Engine& engine, std::string model_name);

  // The account of a request, or null where a key is asked for and none that is known came.
  const std::string* account(const HttpRequest& request) const;
  // Finds the route, checks the key, calls it.
  void handle(std::shared_ptr<Exchange> exchange);
};

using RouteHandler = void (*)(App& app, std::shared_ptr<Exchange> exchange,
                              const std::string& account);
struct Route {
  const char* method;
  const char* path;
  RouteHandler handler;
  bool open = false;  // no key is asked for
};
// A file in routes/, `x.cc`, defines `const Routes routes_x`.
struct Routes {
  std::vector<Route> routes;
  std::string (*error_body)(const ApiError& error) = dump;
};

void reply(Exchange& exchange, const Json& body);
void reply(Exchange& exchange, const ApiError& error);
void reply(Exchange& exchange, const ApiError& error, std::string body);
// What the engine's errors are over HTTP.
ApiError api_error(const Error& error);

}  // namespace venturi::server
