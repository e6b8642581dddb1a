// venturi loadtest: bursty load for any server that speaks OpenAI's API, and what it did with it.
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "cli/command.h"
#include "cli/text.h"
#include "loadtest/report.h"
#include "server/api_keys.h"

#include <cmath>

namespace venturi {

namespace {

struct Options {
  std::string url = "http://127.0.0.1:8080", api = "completions", shape = "0.5";
  std::string key_file, trace, svg, log;
  std::vector<std::string> keys;
  std::vector<double> key_shares;
  double speed = 1, warm_up = 0;
  bool end_early = false, json = false;
  loadtest::ClientOptions client;
  loadtest::WorkloadOptions load;
  loadtest::Targets targets;
};

// What a range lets pass: no comparison with it is false.
const CLI::Validator kANumber(
    [](std::string& text) {
      double value = 0;
      return CLI::detail::lexical_cast(text, value) && std::isnan(value) ? text + " is not a number" : std::string();
    },
    "");

Status read_keys(const Options& o, std::vector<std::string>& keys) {
  keys = o.keys;
  if (o.key_file.empty()) return {};
  // A server's own file will do.
  for (const server::ApiKey& key : TRY(server::read_api_keys(o.key_file))) keys.push_back(key.secret);
  return {};
}

// "0.5", or "0.25:1": from, to.
Status read_shape(const std::string& text, loadtest::WorkloadOptions& load) {
  const size_t colon = text.find(':');
  const auto number = [&](const std::string& part) {
    char* end = nullptr;
    const double value = std::strtod(part.c_str(), &end);
    return !part.empty() && !*end && value >= 0.01 && value <= 1000 ? value : 0;
  };
  load.shape_low = number(text.substr(0, colon));
  load.shape_high = colon == std::string::npos ? load.shape_low : number(text.substr(colon + 1));
  if (load.shape_low > 0 && load.shape_high >= load.shape_low) return {};
  return error(Code::kInvalidArgument, "--burst-shape {}: give a number from 0.01 to 1000, or two like 0.25:1", text);
}

Result<std::vector<loadtest::Arrival>> arrivals_of(const Options& o, const loadtest::WorkloadOptions& load, size_t n_keys) {
  if (o.trace.empty()) return make_workload(load);
  const std::string csv = TRY(read_text_file(o.trace, uint64_t{1} << 31));
  auto trace = loadtest::parse_trace(csv, {.requests = load.requests,
                                           .speed = o.speed,
                                           .length_scale = load.length_scale,
                                           .prompt_max = load.prompt_max,
                                           .output_max = load.output_max,
                                           .keys = n_keys});
  if (!trace) return std::move(trace).error().within(o.trace);
  return std::move(trace->arrivals);
}

std::string line_of(const loadtest::Record& r) {
  nlohmann::ordered_json j = {{"at", r.arrival.at}, {"key", r.arrival.key + 1}, {"conversation", r.arrival.conversation},
                              {"turn", r.arrival.turn}, {"prompt_tokens", r.prompt_tokens}, {"cached_tokens", r.cached_tokens},
                              {"output_tokens", r.output_tokens}, {"ttft_seconds", r.first_token}, {"last_token_seconds", r.last_token},
                              {"ended_seconds", r.ended}, {"late_seconds", r.late}, {"error", r.error}};
  float longest = 0;
  for (const float gap : r.gaps) longest = std::max(longest, gap);
  j["longest_gap_seconds"] = longest;
  return j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

Status write_text(const std::string& path, const std::string& text) {
  auto file = TRY(AtomicFile::create(path));
  TRY(file.append(text));
  return file.commit();
}

Status run(const Options& o) {
  loadtest::ClientOptions client = o.client;
  loadtest::WorkloadOptions load = o.load;
  TRY(loadtest::parse_url(o.url, client));
  TRY(read_keys(o, client.keys));
  TRY(read_shape(o.shape, load));
  client.api = o.api == "chat" ? loadtest::Api::kChat : loadtest::Api::kCompletions;
  client.ignore_eos = !o.end_early;
  client.seed = load.seed;
  if (client.context == 0) client.context = load.prompt_max + load.output_max;
  const size_t n_keys = std::max<size_t>(1, client.keys.size());
  if (!o.key_shares.empty() && o.key_shares.size() != n_keys)
    return error(Code::kInvalidArgument, "--key-shares has {} numbers for {} keys", o.key_shares.size(), n_keys);
  double sum = 0;
  for (const double share : o.key_shares) sum += share;
  if (!o.key_shares.empty() && sum <= 0) return error(Code::kInvalidArgument, "--key-shares are all 0");
  load.key_shares = o.key_shares.empty() ? std::vector<double>(n_keys, 1) : o.key_shares;
  const auto arrivals = TRY(arrivals_of(o, load, n_keys));
  if (o.warm_up > 0 && arrivals.back().at < o.warm_up)
    return error(Code::kInvalidArgument, "--warm-up {}: all requests come within {:.3g} s", o.warm_up, arrivals.back().at);

  const auto result = TRY(loadtest::run_load(client, arrivals));
  const auto report = loadtest::make_report(result, o.targets, o.warm_up, n_keys);
  if (!o.svg.empty())
    TRY(write_text(o.svg, loadtest::report_svg(result, fmt::format("{}: {} requests, {} a second", result.model, result.records.size(), load.rate))));
  if (!o.log.empty()) {
    std::string lines;
    for (const auto& record : result.records) lines += line_of(record);
    TRY(write_text(o.log, lines));
  }
  if (o.json) {
    auto j = loadtest::report_json(report, o.targets);
    j["model"] = result.model;
    j["seed"] = load.seed;
    j["interrupted"] = result.interrupted;
    print_out(j.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  } else {
    print_out(report_text(report, o.targets));
  }
  // 429 and 503 are answers to load; other refusals are of the requests themselves.
  int64_t wrong = 0;
  for (const auto& [kind, n] : report.errors)
    if (kind.starts_with("http 4") && kind != "http 429" && kind != "http 408") wrong += n;
  if (wrong > 0) return error(Code::kIo, "the server took {} of {} requests for wrong: {}", wrong, report.requests, report.first_error.substr(0, 200));
  if (report.answered == 0) return error(Code::kIo, "not one request was answered");
  return {};
}

}  // namespace

extern const Command command_loadtest;
const Command command_loadtest{
    "loadtest", "Send a server bursty load and measure what it does with it", [](CLI::App& app) -> std::function<Status()> {
      auto o = std::make_shared<Options>();
      const CLI::Range tokens(1, 1 << 20);
      app.add_option("url", o->url, "the server, http://HOST:PORT")->capture_default_str();
      app.add_option("--api", o->api, "completions or chat")->check(CLI::IsMember({"completions", "chat"}))->capture_default_str();
      app.add_option("--model", o->client.model, "model to ask for (default: the first that the server names)");
      app.add_option("--api-key", o->keys, "a key; several share the load (better in a file, where others cannot see them)")
          ->allow_extra_args(false);
      app.add_option("--api-key-file", o->key_file, "file with a key on each line, as serve takes it");
      app.add_option("--key-shares", o->key_shares, "share of each key in the load, like 9,1 (default: the same)")
          ->delimiter(',')
          ->check(CLI::Range(0.0, 1e9));
      app.add_option("-n,--requests", o->load.requests, "requests to send")->check(CLI::Range(1, 10'000'000))->capture_default_str();
      app.add_option("--rate", o->load.rate, "requests a second, on average")->check(CLI::Range(1e-4, 1e5))->capture_default_str();
      app.add_option("--burst-shape", o->shape, "shape of the Gamma gaps between arrivals: 1 is Poisson, less is burstier; LOW:HIGH draws one for each period")
          ->capture_default_str();
      app.add_option("--burst-period", o->load.period_seconds, "seconds between new shapes")->check(CLI::Range(0.1, 1e6))->capture_default_str();
      app.add_option("--prompt-tokens", o->load.prompt_tokens, "fixed length of prompts (default: drawn)")->check(tokens);
      app.add_option("--output-tokens", o->load.output_tokens, "fixed length of answers (default: drawn)")->check(tokens);
      app.add_option("--prompt-max", o->load.prompt_max, "longest prompt drawn")->check(tokens)->capture_default_str();
      app.add_option("--output-max", o->load.output_max, "longest answer drawn")->check(tokens)->capture_default_str();
      app.add_option("--length-scale", o->load.length_scale, "drawn lengths are multiplied by it")->check(CLI::Range(1e-3, 1e3))->capture_default_str();
      app.add_option("--turns", o->load.turns, "turns of a conversation, on average")->check(CLI::Range(1.0, 1000.0))->capture_default_str();
      app.add_option("--turn-gap", o->load.turn_gap_seconds, "seconds between its turns, on average")->check(CLI::Range(0.0, 1e5))->capture_default_str();
      app.add_option("--history", o->client.context, "tokens of a conversation that are sent; older turns go (default: longest prompt and answer)")
          ->check(CLI::Range(1, 1 << 30));
      app.add_option("--trace", o->trace, "CSV in BurstGPT's columns instead of drawn arrivals and lengths")->check(CLI::ExistingFile);
      app.add_option("--speed", o->speed, "how much faster than recorded a trace goes")->check(CLI::Range(1e-6, 1e9))->capture_default_str();
      app.add_option("--seed", o->load.seed, "of arrivals, lengths and texts")->capture_default_str();
      app.add_option("--temperature", o->client.temperature, "to ask for (default: the server's)")->check(CLI::Range(0.0, 10.0));
      app.add_flag("--end-early", o->end_early, "let answers end by themselves (do not send ignore_eos)");
      app.add_option("--warm-up", o->warm_up, "seconds at the start that do not count")->check(CLI::Range(0.0, 1e6))->capture_default_str();
      app.add_option("--max-connections", o->client.max_connections, "open at once; an arrival beyond is an error")->check(CLI::Range(1, 60000))->capture_default_str();
      app.add_option("--timeout", o->client.timeout_seconds, "seconds for a whole request")->check(CLI::Range(0.01, 1e6))->capture_default_str();
      app.add_option("--ttft-target", o->targets.ttft_seconds, "seconds to the first token that count as good")->check(CLI::Range(1e-6, 1e6));
      app.add_option("--tpot-target", o->targets.tpot_seconds, "seconds per token after it that count as good")->check(CLI::Range(1e-6, 1e6));
      app.add_option("--svg", o->svg, "write a picture of the run");
      app.add_option("--log", o->log, "write a line of JSON for each request");
      app.add_flag("--json", o->json, "JSON");
      for (CLI::Option* option : app.get_options())
        if (option->get_type_name().starts_with("FLOAT")) option->check(kANumber);
      return [o] { return run(*o); };
    }};

}  // namespace venturi
