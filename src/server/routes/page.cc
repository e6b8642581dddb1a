// The web page: a chat and a live picture of the server, files in src/server/page/ that the program carries.
#include <string_view>

#include "page_files.inc"
#include "server/app.h"

namespace venturi::server {

namespace {

// Only what comes from here runs or is asked; nothing may frame the page.
constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

template <size_t kSize>
void send(Exchange& exchange, const char* type, const unsigned char (&bytes)[kSize]) {
  exchange.reply(200, type, std::string(reinterpret_cast<const char*>(bytes), kSize),
                 {{"Content-Security-Policy", kPolicy},
                  {"X-Content-Type-Options", "nosniff"},
                  {"Referrer-Policy", "no-referrer"},
                  {"Cache-Control", "no-cache"}});
}

void index(Call call) {
  send(*call.exchange, "text/html; charset=utf-8", page::index_html);
}
void script(Call call) {
  send(*call.exchange, "text/javascript; charset=utf-8", page::page_js);
}
void load_script(Call call) {
  send(*call.exchange, "text/javascript; charset=utf-8", page::load_js);
}
void style(Call call) {
  send(*call.exchange, "text/css; charset=utf-8", page::page_css);
}
void icon(Call call) {
  send(*call.exchange, "image/svg+xml", page::icon_svg);
}

// What the page draws: load, memory by holder, and the sums, over all models, from which it takes rates.
void status(Call call) {
  const App& app = call.app;
  ServiceCounts sum;
  Json models = Json::array();
  int64_t context = 0;
  app.models->each([&](const Models::Entry& e) {
    models.push_back({{"name", e.spec.name}, {"state", name_of(e.state)}});
    for (const std::string& adapter : e.spec.adapters)
      models.push_back({{"name", e.spec.name + ":" + adapter}, {"state", name_of(e.state)}});
    if (context == 0) context = e.spec.about.context;
    if (!e.model || !e.model->service) return;
    const ServiceCounts c = e.model->service->counts();
    sum.scheduler.running += c.scheduler.running;
    sum.scheduler.queued += c.scheduler.queued + c.scheduler.moved_out;
    sum.scheduler.finished += c.scheduler.finished;
    sum.scheduler.prompt_tokens += c.scheduler.prompt_tokens;
    sum.scheduler.output_tokens += c.scheduler.output_tokens;
    sum.steps += c.steps;
    sum.step_seconds += c.step_seconds;
    sum.engine_seconds += c.engine_seconds;
    sum.state_tokens += c.state_tokens;
    sum.state_capacity += c.state_capacity;
  });
  const Ledger& ledger = *app.ledger;
  Json holdings = Json::array();
  for (const Holding& holding : ledger.holdings())
    holdings.push_back({{"holder", holding.holder}, {"bytes", holding.bytes}});
  Json limit = nullptr;
  if (ledger.limit() != Ledger::kUnlimited) limit = ledger.limit();
  reply(*call.exchange, Json{{"model", models[0]["name"]},
                             {"models", models},
                             {"context", context},
                             {"draining", app.draining},
                             {"running", sum.scheduler.running},
                             {"waiting", sum.scheduler.queued},
                             {"connections", app.http->connections()},
                             {"finished", sum.scheduler.finished},
                             {"prompt_tokens", sum.scheduler.prompt_tokens},
                             {"output_tokens", sum.scheduler.output_tokens},
                             {"steps", sum.steps},
                             {"step_seconds", sum.step_seconds},
                             {"engine_seconds", sum.engine_seconds},
                             {"http_seconds", app.http->cpu_seconds()},
                             {"state", {{"tokens", sum.state_tokens}, {"capacity", sum.state_capacity}}},
                             {"memory", {{"held", ledger.held()}, {"limit", limit}, {"holdings", holdings}}}});
}

}  // namespace

extern const Routes routes_page;
const Routes routes_page{{{"GET", "/", index, Needs::kNothing},
                          {"GET", "/page.js", script, Needs::kNothing},
                          {"GET", "/load.js", load_script, Needs::kNothing},
                          {"GET", "/page.css", style, Needs::kNothing},
                          {"GET", "/icon.svg", icon, Needs::kNothing},
                          {"GET", "/status", status}}};

}  // namespace venturi::server
