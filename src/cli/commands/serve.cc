// venturi serve: the model over HTTP, for many at once.
#include "base/file.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/speculation_flags.h"
#include "cli/text.h"
#include "server/app.h"
#include "server/metrics.h"

#include <csignal>
#include <filesystem>
#include <thread>

namespace venturi {

namespace {

struct Options {
  ModelFlags model;
  SpeculationFlags speculation;
  server::HttpOptions http;
  std::string key_file, key, alias;
  int streams = 0;
  int64_t max_queued = 1024;
  double max_wait_seconds = SchedulerOptions{}.max_queued_seconds;
  double drain_seconds = 30;
  bool insecure = false;
};

Result<std::vector<server::ApiKey>> read_keys(const Options& o) {
  std::vector<server::ApiKey> keys;
  const auto add = [&](std::string secret) {
    while (!secret.empty() && (secret.back() == '\r' || secret.back() == ' ')) secret.pop_back();
    if (!secret.empty() && secret[0] != '#')
      keys.push_back({std::move(secret), fmt::format("key {}", keys.size() + 1)});
  };
  if (!o.key.empty()) add(o.key);
  if (!o.key_file.empty()) {
    const std::string text = TRY(read_text_file(o.key_file, 1u << 20));
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find('\n', at), text.size());
      add(text.substr(at, end - at));
      at = end + 1;
    }
    if (keys.empty())
      return error(Code::kInvalidArgument, "--api-key-file {} holds no key; put one on each line",
                   o.key_file);
  }
  return keys;
}

bool is_loopback(const std::string& host) { return host == "::1" || host.starts_with("127."); }

// As many streams as asked for, or, where none is said, as fit the budget, at most 16.
constexpr int kMostStreams = 16;

Result<std::unique_ptr<Engine>> open(const Options& o, const ModelFlags& model) {
  // Prompts whose logprobs are wanted go on by so many tokens a step.
  constexpr int64_t kOutputs = 32;
  if (o.streams > 0) {
    const int64_t outputs = o.speculation.outputs(o.streams);
    auto engine = model.open(std::max(outputs, kOutputs), o.streams);
    return engine || outputs >= kOutputs || engine.error().code != Code::kOutOfBudget
               ? std::move(engine)
               : model.open(outputs, o.streams);
  }
  for (int streams = kMostStreams;; streams /= 2) {
    auto engine = model.open(std::max(o.speculation.outputs(streams), streams == kMostStreams ? kOutputs : streams), streams);
    if (engine || streams == 1 || engine.error().code != Code::kOutOfBudget) return engine;
  }
}

Status run(const Options& o) {
  auto keys = TRY(read_keys(o));
  if (!is_loopback(o.http.host) && keys.empty() && !o.insecure)
    return error(Code::kInvalidArgument,
                 "--host {} can be reached from outside: give --api-key-file FILE, or --insecure "
                 "to serve anyone",
                 o.http.host);
  ModelFlags model = o.model;
  auto draft = TRY(o.speculation.open_draft(model, o.streams > 0 ? o.streams : kMostStreams));
  auto engine = TRY(open(o, model));
  ServiceOptions service_options;
  service_options.scheduler.max_queued = o.max_queued;
  server::Metrics metrics;
  service_options.observer = &metrics;
  service_options.speculator = TRY(o.speculation.speculator(*engine, std::move(draft)));
  service_options.scheduler.max_queued_seconds = o.max_wait_seconds;
  std::unique_ptr<Service> service;
  std::unique_ptr<Embedder> embedder;
  if (engine->info().embeds) {
    embedder = TRY(Embedder::start(*engine, o.max_queued));
  } else {
    service = TRY(Service::start(*engine, service_options));
  }
  const std::string name =
      !o.alias.empty() ? o.alias : std::filesystem::path(engine->file().path).stem().string();
  auto app = TRY(server::App::create(*engine, name));
  app->service = service.get();
  app->embedder = embedder.get();
  app->metrics = &metrics;
  app->keys = std::move(keys);
  auto http = TRY(server::HttpServer::listen(
      o.http, [&app](auto exchange) { app->handle(std::move(exchange)); }));
  app->http = http.get();
  const bool v6 = o.http.host.find(':') != std::string::npos;
  print_out(fmt::format("listening on {}://{}{}{}:{}\n", o.http.tls_cert.empty() ? "http" : "https", v6 ? "[" : "", o.http.host,
                        v6 ? "]" : "", http->port()));
  std::fflush(stdout);

  std::thread drainer;
  http->run([&] {
    if (std::exchange(app->draining, true)) return http->stop();  // asked twice
    spdlog::info("draining");
    http->stop_listening();
    drainer = std::thread([&] {
      if (!(service ? service->drain(o.drain_seconds) : embedder->drain(o.drain_seconds)))
        spdlog::warn("{} s are over; what still runs is cut off", o.drain_seconds);
      // The last answers are on their way to the sockets.
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      http->stop();
    });
  });
  if (drainer.joinable()) drainer.join();
  service.reset();
  embedder.reset();
  return {};
}

}  // namespace

extern const Command command_serve;
const Command command_serve{
    "serve", "Serve a model over HTTP: the APIs of OpenAI, Anthropic and Ollama", [](CLI::App& app) -> std::function<Status()> {
      auto o = std::make_shared<Options>();
      o->model.add(app);
      o->model.add_state(app);
      o->model.shared_state = true;
      app.add_flag("--no-prefix-cache", o->model.no_prefix_cache,
                   "compute every prompt from its beginning (slower; the same results)");
      o->speculation.add(app);
      app.add_option("--host", o->http.host, "address to listen on")->capture_default_str();
      app.add_option("--port", o->http.port, "port to listen on; 0 chooses one")
          ->capture_default_str();
      app.add_option("--api-key-file", o->key_file,
                     "file with a key on each line; clients must give one");
      app.add_option("--api-key", o->key,
                     "a key (better in the environment, where others cannot see it)");
      app.add_flag("--insecure", o->insecure,
                   "listen on an address that others can reach without asking for a key");
      app.add_option("--tls-cert", o->http.tls_cert, "serve HTTPS with this certificate (PEM, its chain behind it)");
      app.add_option("--tls-key", o->http.tls_key, "the certificate's private key (PEM)");
      app.add_option("--cors-origin", o->http.cors_origins,
                     "let pages of this origin (https://example.org, or *) use the server; may come several times");
      app.add_option("--alias", o->alias,
                     "the name that the model is served by (default: its file's)");
      app.add_option("--streams", o->streams,
                     "requests computed at once (default: 16, or what fits the budget)")
          ->check(CLI::Range(1, 1024));
      app.add_option("--max-queued", o->max_queued, "requests that may wait; more are refused")
          ->check(CLI::Range(1, 1 << 20))
          ->capture_default_str();
      app.add_option("--max-wait", o->max_wait_seconds, "seconds that a request may wait, as predicted; more are refused")
          ->check(CLI::Range(1.0, 1e6))
          ->capture_default_str();
      app.add_option("--max-connections", o->http.max_connections, "open connections")
          ->check(CLI::Range(1, 1 << 20))
          ->capture_default_str();
      app.add_option("--drain-seconds", o->drain_seconds,
                     "after SIGTERM, time for what runs to end")
          ->check(CLI::Range(0.0, 3600.0))
          ->capture_default_str();
      return [o] { return run(*o); };
    }};

}  // namespace venturi
