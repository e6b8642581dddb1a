// Any bytes as the body of a POST to any route: the first byte chooses the route. Everything is read as in
// `venturi serve`, up to the tokens of the prompt and the automaton of the grammar; with no service behind it,
// what could be generated is refused at the end.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <thread>

#include "base/log.h"
#include "server/app.h"

#include "route_registry.inc"

using namespace venturi;
using namespace venturi::server;

namespace {

class Asked : public Exchange {
 public:
  explicit Asked(HttpRequest request) : request_(std::move(request)) {}
  const HttpRequest& request() const override { return request_; }
  void reply(int status, std::string, std::string body, Headers) override {
    // One answer, and whatever it says of the bytes is JSON.
    if (answered_++ || status < 200 || status > 499 || !Json::accept(body)) std::abort();
  }
  void begin(std::string, Headers) override { std::abort(); }
  void write(std::string) override { std::abort(); }
  void end() override { std::abort(); }
  void post(std::function<void()> work) override { work(); }
  void on_close(std::function<void()>) override {}
  int answered() const { return answered_; }

 private:
  const HttpRequest request_;
  std::atomic<int> answered_ = 0;
};

Result<std::unique_ptr<ServedModel>> open_tiny() {
  EngineOptions options;
  options.context = 512;
  options.threads = 1;
  return ServedModel::create(TRY(Engine::open(VENTURI_SOURCE_DIR "/models/tiny-llama-q8_0.gguf", options)), "tiny");
}

App& app() {
  static const std::unique_ptr<Models> models = [] {
    spdlog::set_level(spdlog::level::off);
    ModelSpec spec{.name = "tiny"};
    spec.open = [](ServiceObserver&) { return open_tiny(); };
    std::vector<ModelSpec> specs;
    specs.push_back(std::move(spec));
    return std::move(Models::create(std::move(specs))).value();
  }();
  static App made{.models = models.get()};
  return made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::vector<const char*> paths;
  for (const Routes* file : kAll_Routes)
    for (const Route& route : file->routes)
      // What unloads answers later, from another thread.
      if (std::string_view(route.method) == "POST" && std::string_view(route.path) != "/models/unload") paths.push_back(route.path);
  HttpRequest request;
  request.method = "POST";
  request.path = paths[data[0] % paths.size()];
  request.body.assign(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto exchange = std::make_shared<Asked>(std::move(request));
  if (!app().admits(*exchange)) std::abort();  // there is no key
  app().handle(exchange);
  // A model that was let go (keep_alive) is loaded again first.
  for (int i = 0; i < 10'000 && exchange->answered() == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  if (exchange->answered() != 1) std::abort();
  return 0;
}
