// venturi serve: models over HTTP, for many at once.
#include "base/clock.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/last_resort.h"
#include "cli/serve_models.h"
#include "cli/text.h"
#include "server/api_keys.h"
#include "server/app.h"
#include "server/sessions.h"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <functional>
#include <thread>

namespace venturi {

namespace {

struct Options {
  ServeModelFlags models;
  server::ModelsOptions loading;
  server::HttpOptions http;
  std::string key_file, key, session_folder;
  double drain_seconds = 30;
  bool insecure = false;
};

Result<std::vector<server::ApiKey>> read_keys(const Options& o) {
  std::vector<server::ApiKey> keys;
  if (!o.key_file.empty()) keys = TRY(server::read_api_keys(o.key_file));
  if (!o.key.empty()) keys.push_back({.secret = o.key, .account = {.name = fmt::format("key {}", keys.size() + 1)}});
  return keys;
}

// What is cut off ends with the step, or the read, that it is in; so much longer the program waits for that.
constexpr double kCutOffSeconds = 2;
constexpr double kTellSeconds = 1.5;     // of those, for clients to take in that they are cut off
constexpr double kGoodbyeSeconds = 0.3;  // for them to close
constexpr double kReadSeconds = 0.1;     // for what was sent before the signal to be read

bool wait_until(const std::function<bool()>& over, double end) {
  while (!over() && now_seconds() < end) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return over();
}

// Until what came before is answered, or is told that it will not be.
void drain(server::HttpServer& http, server::Models& models, double seconds, const std::atomic<bool>& at_once) {
  const double end = now_seconds() + seconds;
  const auto answered = [&] { return http.requests() == 0; };
  wait_until([&] { return at_once.load(); }, std::min(end, now_seconds() + kReadSeconds));
  // What models refuse from now on must not be what was on its way before.
  wait_until([&] { return at_once || http.bodies() == 0; }, end);
  bool ended = false;
  do {
    ended = models.drain(std::clamp(end - now_seconds(), 0.0, 0.1)) && wait_until(answered, std::min(end, now_seconds() + 0.1));
  } while (!ended && !at_once && now_seconds() < end);
  if (!ended) {
    if (!at_once) spdlog::warn("{} s are over; what still runs is cut off", seconds);
    http.cut_off();
    wait_until(answered, now_seconds() + kTellSeconds);
  }
  wait_until([&] { return http.leaving() == 0; }, now_seconds() + kGoodbyeSeconds);
}

Status run(const Options& o) {
  auto keys = TRY(read_keys(o));
  if (!server::is_loopback(o.http.host) && keys.empty() && !o.insecure)
    return error(Code::kInvalidArgument,
                 "--host {} can be reached from outside: give --api-key-file FILE, or --insecure "
                 "to serve anyone",
                 o.http.host);
  ServeModels served = TRY(serve_models(o.models));
  server::ModelsOptions loading = o.loading;
  loading.max_waiting = o.models.max_queued;
  const auto models = TRY(server::Models::create(std::move(served.specs), loading));
  std::unique_ptr<server::Sessions> sessions;
  if (!o.session_folder.empty()) sessions = TRY(server::Sessions::open(o.session_folder));
  server::App app{.models = models.get(), .ledger = served.ledger, .sessions = sessions.get(), .keys = std::move(keys),
                  .origins = {.allowed = o.http.cors_origins, .any_host = !server::is_loopback(o.http.host)}};
  server::HttpOptions listening = o.http;
  listening.allowance = server::Allowance::create(served.ledger);
  auto http = TRY(server::HttpServer::listen(listening, {.knows = [&app](const server::HttpRequest& request) { return app.account(request) != nullptr; },
                                                         .admits = [&app](server::Exchange& exchange) { return app.admits(exchange); },
                                                         .handle = [&app](auto exchange) { app.handle(std::move(exchange)); },
                                                         .error_body = server::App::error_body}));
  app.http = http.get();
  const bool v6 = o.http.host.find(':') != std::string::npos;
  print_out(fmt::format("listening on {}://{}{}{}:{}\n", o.http.tls_cert.empty() ? "http" : "https", v6 ? "[" : "", o.http.host,
                        v6 ? "]" : "", http->port()));
  std::fflush(stdout);

  LastResort last_resort;
  std::atomic<bool> asked_twice = false;
  std::thread drainer;
  http->run([&] {
    if (std::exchange(app.draining, true)) {
      if (asked_twice.exchange(true)) return http->stop();
      return last_resort.in(kCutOffSeconds);
    }
    spdlog::info("draining");
    http->stop_listening();
    last_resort.in(o.drain_seconds + kCutOffSeconds);
    drainer = std::thread([&] {
      drain(*http, *models, o.drain_seconds, asked_twice);
      http->stop();
    });
  });
  last_resort.in(kCutOffSeconds);  // nobody is left to be answered
  if (drainer.joinable()) drainer.join();
  if (served.plan && served.plan->meter)
    models->each([&](const server::Models::Entry& e) {
      if (e.model) std::fputs(served.plan->meter->report(*e.model->engine, served.plan->file).c_str(), stderr);
    });
  models->stop();
  sessions.reset();
  http.reset();  // and with it what still pointed to models
  return {};
}

}  // namespace

extern const Command command_serve;
const Command command_serve{
    "serve", "Serve a model over HTTP: the APIs of OpenAI, Anthropic and Ollama", [](CLI::App& app) -> std::function<Status()> {
      auto o = std::make_shared<Options>();
      ModelFlags& model = o->models.model;
      app.add_option("-m,--model", o->models.files,
                     "FILE, or name=FILE: a GGUF file or Hugging Face directory, and the name it is served by; may come several times: the first is "
                     "loaded at once, the others when they are asked for (default: the embedded model)")
          ->allow_extra_args(false);
      model.add_rest(app);
      model.add_state(app);
      model.add_plan(app);
      model.named_adapters = true;
      model.add_adapters(app, "serve the model with this adapter, too, to requests for MODEL:NAME (default: as the file); may come several times; of several models, MODEL:NAME=PATH says whose it is");
      model.shared_state = true;
      app.add_option("--idle-timeout", o->loading.idle_seconds, "unload a model that nobody has asked for in so many seconds (default: never)")
          ->check(CLI::Range(0.0, 1e8));
      app.add_option("--load-timeout", o->loading.load_wait_seconds, "seconds that a request waits for its model to be loaded")
          ->check(CLI::Range(0.1, 1e6))
          ->capture_default_str();
      app.add_option_function<std::string>(
          "--session-dir",
          [o](const std::string& folder) {
            o->session_folder = folder;
            o->models.keeps_sessions = true;
          },
          "folder in which POST /sessions/save keeps the state of conversations (default: none is kept)");
      app.add_flag("--no-prefix-cache", model.no_prefix_cache,
                   "compute every prompt from its beginning (slower; the same results)");
      o->models.speculation.add(app);
      app.add_option("--host", o->http.host, "address to listen on")->capture_default_str();
      app.add_option("--port", o->http.port, "port to listen on; 0 chooses one")
          ->capture_default_str();
      app.add_option("--api-key-file", o->key_file,
                     "file with a line KEY [weight=W] [priority=P] for each key: its share beside the others' (1), and how much "
                     "of a request's priority counts before theirs (0); clients must give a key");
      app.add_option("--api-key", o->key,
                     "a key (better in the environment, where others cannot see it)");
      app.add_flag("--insecure", o->insecure,
                   "listen on an address that others can reach without asking for a key");
      app.add_option("--tls-cert", o->http.tls_cert, "serve HTTPS with this certificate (PEM, its chain behind it)");
      app.add_option("--tls-key", o->http.tls_key, "the certificate's private key (PEM)");
      app.add_option("--cors-origin", o->http.cors_origins,
                     "let pages of this origin (https://example.org, or *) use the server, and without keys know the server by its name; may come several times");
      app.add_option("--alias", o->models.alias,
                     "the name that the model is served by (default: its file's)");
      app.add_option_function<std::string>(
             "--pooling",
             [o](const std::string& name) {
               o->models.pooling = name == "mean" ? Pooling::kMean : name == "first" ? Pooling::kFirst : Pooling::kLast;
             },
             "serve embeddings of models that give text, too: how a text's hidden states become one (default: as the file says, else none)")
          ->check(CLI::IsMember({"mean", "first", "last"}));
      app.add_option("--streams", o->models.streams,
                     "requests computed at once (default: 16, or what fits the budget)")
          ->check(CLI::Range(1, 1024));
      app.add_option("--max-queued", o->models.max_queued, "requests that may wait; more are refused")
          ->check(CLI::Range(1, 1 << 20))
          ->capture_default_str();
      app.add_option("--max-wait", o->models.max_wait_seconds, "seconds that a request may wait, as predicted; more are refused")
          ->check(CLI::Range(1.0, 1e6))
          ->capture_default_str();
      app.add_option("--max-connections", o->http.max_connections, "open connections")
          ->check(CLI::Range(1, 1 << 20))
          ->capture_default_str();
      app.add_option("--body-timeout", o->http.body_seconds, "seconds that a request's body may take to arrive")
          ->check(CLI::Range(0.1, 86400.0))
          ->capture_default_str();
      app.add_option("--drain-seconds", o->drain_seconds,
                     "after SIGTERM, time for what runs to end")
          ->check(CLI::Range(0.0, 3600.0))
          ->capture_default_str();
      return [o] { return run(*o); };
    }};

}  // namespace venturi
