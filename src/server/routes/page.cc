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

void index(App&, std::shared_ptr<Exchange> exchange, const std::string&) {
  send(*exchange, "text/html; charset=utf-8", page::index_html);
}
void script(App&, std::shared_ptr<Exchange> exchange, const std::string&) {
  send(*exchange, "text/javascript; charset=utf-8", page::page_js);
}
void load_script(App&, std::shared_ptr<Exchange> exchange, const std::string&) {
  send(*exchange, "text/javascript; charset=utf-8", page::load_js);
}
void style(App&, std::shared_ptr<Exchange> exchange, const std::string&) {
  send(*exchange, "text/css; charset=utf-8", page::page_css);
}
void icon(App&, std::shared_ptr<Exchange> exchange, const std::string&) {
  send(*exchange, "image/svg+xml", page::icon_svg);
}

// What the page draws: load, memory by holder, and the sums from which it takes rates.
void status(App& app, std::shared_ptr<Exchange> exchange, const std::string&) {
  const ServiceCounts c = app.service->counts();
  const Ledger& ledger = app.engine->ledger();
  Json holdings = Json::array();
  for (const Holding& holding : ledger.holdings())
    holdings.push_back({{"holder", holding.holder}, {"bytes", holding.bytes}});
  Json limit = nullptr;
  if (ledger.limit() != Ledger::kUnlimited) limit = ledger.limit();
  reply(*exchange, Json{{"model", app.model_name},
                        {"context", app.engine->options().context},
                        {"draining", app.draining},
                        {"running", c.scheduler.running},
                        {"waiting", c.scheduler.queued + c.scheduler.moved_out},
                        {"connections", app.http->connections()},
                        {"finished", c.scheduler.finished},
                        {"prompt_tokens", c.scheduler.prompt_tokens},
                        {"output_tokens", c.scheduler.output_tokens},
                        {"steps", c.steps},
                        {"step_seconds", c.step_seconds},
                        {"engine_seconds", c.engine_seconds},
                        {"state", {{"tokens", c.state_tokens}, {"capacity", c.state_capacity}}},
                        {"memory", {{"held", ledger.held()}, {"limit", limit}, {"holdings", holdings}}}});
}

}  // namespace

extern const Routes routes_page;
const Routes routes_page{{{"GET", "/", index, true},
                          {"GET", "/page.js", script, true},
                          {"GET", "/load.js", load_script, true},
                          {"GET", "/page.css", style, true},
                          {"GET", "/icon.svg", icon, true},
                          {"GET", "/status", status}}};

}  // namespace venturi::server
