#include "loadtest/client.h"

#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include <array>
#include <csignal>
#include <deque>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "loadtest/sse.h"

namespace venturi::loadtest {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;
using Json = nlohmann::json;

namespace {

constexpr size_t kMaxReply = 1u << 20;

auto token(error_code& failure) { return asio::redirect_error(asio::use_awaitable, failure); }
auto seconds(double s) { return std::chrono::microseconds(static_cast<int64_t>(s * 1e6)); }

// "" where the JSON has no such thing.
std::string message_of(const Json& body) {
  if (!body.is_object() || !body.contains("error")) return "";
  const Json& e = body["error"];
  if (e.is_string()) return e.get<std::string>();
  return e.is_object() && e.contains("message") && e["message"].is_string() ? e["message"].get<std::string>() : "";
}

int64_t count_at(const Json& object, std::initializer_list<const char*> path) {
  const Json* at = &object;
  for (const char* name : path) {
    if (!at->is_object() || !at->contains(name)) return 0;
    at = &(*at)[name];
  }
  return at->is_number_integer() ? at->get<int64_t>() : 0;
}

// What a conversation has said; a text for each turn of each side.
struct History {
  std::deque<std::pair<std::string, std::string>> turns;  // asked, answered (as far as it has come)
  std::deque<int64_t> tokens;
};

class Client {
 public:
  Client(const ClientOptions& options, Run& run) : o_(options), run_(run), signals_(context_) {}

  Status prepare();
  void drive();

 private:
  using Request = http::request<http::string_body>;

  Request request(http::verb verb, const std::string& path, const std::string& key, std::string body) const;
  Result<Json> ask(Request request);
  Result<int64_t> prompt_tokens(int64_t words);
  Json body_of(const Arrival& arrival, History& history) const;
  asio::awaitable<void> arrivals();
  asio::awaitable<void> send(Record& record, std::shared_ptr<History> history);
  asio::awaitable<void> exchange(Record& record, History& history, double start);
  void take_event(std::string_view data, Record& record, History& history, double now, bool& done);

  const ClientOptions& o_;
  Run& run_;
  asio::io_context context_{1};
  asio::signal_set signals_;
  tcp::resolver::results_type endpoints_;
  std::map<int64_t, std::shared_ptr<History>> histories_;
  int64_t open_ = 0, left_ = 0;
  double start_ = 0;
};

Client::Request Client::request(http::verb verb, const std::string& path, const std::string& key,
                                std::string body) const {
  Request request(verb, o_.base_path + path, 11);
  request.set(http::field::host, o_.host);
  request.set(http::field::user_agent, "venturi-loadtest");
  request.set(http::field::content_type, "application/json");
  if (!key.empty()) request.set(http::field::authorization, "Bearer " + key);
  request.body() = std::move(body);
  request.prepare_payload();
  request.keep_alive(false);
  return request;
}

// One whole answer, before the load begins.
Result<Json> Client::ask(Request request) {
  beast::tcp_stream stream(context_);
  error_code failed;
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(kMaxReply);
  asio::co_spawn(
      context_,
      [&]() -> asio::awaitable<void> {
        stream.expires_after(seconds(o_.timeout_seconds));
        co_await stream.async_connect(endpoints_, token(failed));
        if (!failed) co_await http::async_write(stream, request, token(failed));
        if (!failed) co_await http::async_read(stream, buffer, parser, token(failed));
      },
      asio::detached);
  context_.run();
  context_.restart();
  if (failed)
    return error(Code::kIo, "{}:{} does not answer {}: {}", o_.host, o_.port, std::string(request.target()),
                 failed.message());
  const Json body = Json::parse(parser.get().body(), nullptr, false);
  if (parser.get().result_int() != 200)
    return error(Code::kIo, "{} answers {} with status {}: {}", o_.host, std::string(request.target()),
                 parser.get().result_int(), message_of(body));
  if (!body.is_object())
    return error(Code::kIo, "{} answers {} with something that is not JSON", o_.host, std::string(request.target()));
  return body;
}

// How many tokens the server takes a prompt of so many words for.
Result<int64_t> Client::prompt_tokens(int64_t words) {
  Arrival probe{.conversation = -1, .prompt_tokens = 1, .output_tokens = 1};
  History history;
  Json body = body_of(probe, history);
  const std::string text = make_text(o_.seed, static_cast<uint64_t>(words), words);
  if (o_.api == Api::kChat)
    body["messages"] = Json::array({{{"role", "user"}, {"content", text}}});
  else
    body["prompt"] = text;
  body.erase("stream");
  body.erase("stream_options");
  const Json answer = TRY(ask(request(http::verb::post, o_.api == Api::kChat ? "/chat/completions" : "/completions",
                                      o_.keys.empty() ? "" : o_.keys[0], body.dump())));
  const int64_t tokens = count_at(answer, {"usage", "prompt_tokens"});
  if (tokens <= 0) return error(Code::kIo, "{} does not say how many tokens a prompt has (usage.prompt_tokens)", o_.host);
  return tokens;
}

// Finds the server, the model's name, and how many words a token is.
Status Client::prepare() {
  error_code failed;
  tcp::resolver resolver(context_);
  endpoints_ = resolver.resolve(o_.host, o_.port, failed);
  if (failed) return error(Code::kIo, "there is no host {}: {}", o_.host, failed.message());
  run_.model = o_.model;
  if (run_.model.empty()) {
    const Json models = TRY(ask(request(http::verb::get, "/models", o_.keys.empty() ? "" : o_.keys[0], "")));
    if (models.contains("data") && models["data"].is_array() && !models["data"].empty() &&
        models["data"][0].is_object() && models["data"][0].contains("id") && models["data"][0]["id"].is_string())
      run_.model = models["data"][0]["id"].get<std::string>();
    else
      return error(Code::kIo, "{} names no model; give one with --model", o_.host);
  }
  constexpr int64_t kFew = 16, kMany = 96;
  const double few = static_cast<double>(TRY(prompt_tokens(kFew)));
  const double many = static_cast<double>(TRY(prompt_tokens(kMany)));
  if (many <= few) return error(Code::kIo, "{} counts {} tokens in {} words and {} in {}", o_.host, few, kFew, many, kMany);
  run_.tokens_per_word = (many - few) / static_cast<double>(kMany - kFew);
  run_.tokens_of_frame = std::max(0.0, few - run_.tokens_per_word * static_cast<double>(kFew));
  return {};
}

Json Client::body_of(const Arrival& arrival, History& history) const {
  const double per_word = run_.tokens_per_word > 0 ? run_.tokens_per_word : 1;
  const double text_tokens =
      static_cast<double>(arrival.prompt_tokens) - (arrival.turn == 0 ? run_.tokens_of_frame : 0);
  const int64_t words = std::max<int64_t>(1, std::llround(text_tokens / per_word));
  const std::string text = make_text(
      o_.seed, static_cast<uint64_t>(arrival.conversation + 1) << 16 | static_cast<uint64_t>(arrival.turn & 0xffff), words);
  history.turns.emplace_back(text, "");
  history.tokens.push_back(arrival.prompt_tokens + arrival.output_tokens);
  int64_t total = 0;
  for (const int64_t n : history.tokens) total += n;
  while (o_.context > 0 && total > o_.context && history.turns.size() > 1) {
    total -= history.tokens.front();
    history.tokens.pop_front();
    history.turns.pop_front();
  }
  Json body = {{"model", run_.model},
               {"max_tokens", arrival.output_tokens},
               {"stream", true},
               {"stream_options", {{"include_usage", true}}}};
  if (o_.ignore_eos) body["ignore_eos"] = true;
  if (o_.temperature >= 0) body["temperature"] = o_.temperature;
  if (o_.api == Api::kChat) {
    Json messages = Json::array();
    for (const auto& [asked, answered] : history.turns) {
      messages.push_back({{"role", "user"}, {"content", asked}});
      if (&asked != &history.turns.back().first) messages.push_back({{"role", "assistant"}, {"content", answered}});
    }
    body["messages"] = std::move(messages);
  } else {
    std::string prompt;
    for (const auto& [asked, answered] : history.turns) prompt += asked + answered;
    body["prompt"] = std::move(prompt);
  }
  return body;
}

void Client::take_event(std::string_view data, Record& record, History& history, double now, bool& done) {
  if (data == "[DONE]") {
    done = true;
    return;
  }
  const Json event = Json::parse(data, nullptr, false);
  if (!event.is_object()) {
    record.error = "bad event";
    return;
  }
  if (event.contains("error")) {
    record.error = "error event";
    record.detail = message_of(event);
    return;
  }
  if (const int64_t n = count_at(event, {"usage", "completion_tokens"})) record.output_tokens = n;
  if (const int64_t n = count_at(event, {"usage", "prompt_tokens"})) record.prompt_tokens = n;
  if (const int64_t n = count_at(event, {"usage", "prompt_tokens_details", "cached_tokens"})) record.cached_tokens = n;
  if (!event.contains("choices") || !event["choices"].is_array() || event["choices"].empty()) return;
  const Json& choice = event["choices"][0];
  std::string text;
  if (choice.contains("text") && choice["text"].is_string()) text = choice["text"].get<std::string>();
  if (choice.contains("delta") && choice["delta"].is_object() && choice["delta"].contains("content") &&
      choice["delta"]["content"].is_string())
    text = choice["delta"]["content"].get<std::string>();
  if (text.empty()) return;
  if (record.first_token == 0)
    record.first_token = now;
  else
    record.gaps.push_back(static_cast<float>(now - record.last_token));
  record.last_token = now;
  if (!history.turns.empty()) history.turns.back().second += text;
}

// One request, from connecting to the end of its stream.
asio::awaitable<void> Client::exchange(Record& record, History& history, double start) {
  const auto now = [&] { return now_seconds() - start; };
  const std::string& key = o_.keys.empty() ? std::string() : o_.keys[record.arrival.key % o_.keys.size()];
  const auto out = request(http::verb::post, o_.api == Api::kChat ? "/chat/completions" : "/completions", key,
                           body_of(record.arrival, history).dump(-1, ' ', false, Json::error_handler_t::replace));
  beast::tcp_stream stream(context_);
  stream.expires_after(seconds(o_.timeout_seconds));
  const auto kind = [](error_code failed, const char* otherwise) {
    return failed == beast::error::timeout ? "timeout" : otherwise;
  };
  error_code failed;
  co_await stream.async_connect(endpoints_, token(failed));
  if (failed) {
    record.error = kind(failed, "connect");
    record.detail = failed.message();
    co_return;
  }
  stream.socket().set_option(tcp::no_delay(true), failed);
  co_await http::async_write(stream, out, token(failed));
  beast::flat_buffer buffer;
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(boost::none);
  if (!failed) co_await http::async_read_header(stream, buffer, parser, token(failed));
  if (failed) {
    record.error = kind(failed, "cut");
    record.detail = failed.message();
    co_return;
  }
  const unsigned status = parser.get().result_int();
  if (status != 200) record.error = fmt::format("http {}", status);
  EventReader events;
  std::string refusal;
  std::array<char, 16384> piece;
  bool done = false;
  while (!parser.is_done() && !done) {
    parser.get().body().data = piece.data();
    parser.get().body().size = piece.size();
    co_await http::async_read_some(stream, buffer, parser, token(failed));
    if (failed == http::error::need_buffer) failed = {};
    const std::string_view got(piece.data(), piece.size() - parser.get().body().size);
    if (status != 200) {
      refusal += got.substr(0, kMaxReply - std::min(kMaxReply, refusal.size()));
    } else {
      const double at = now();
      events.feed(got, [&](std::string_view data) { take_event(data, record, history, at, done); });
    }
    if (failed || (status == 200 && (!record.error.empty() || events.overflowed()))) break;
  }
  if (status != 200)
    record.detail = message_of(Json::parse(refusal, nullptr, false));
  else if (record.error.empty() && !done)
    record.error = events.overflowed() ? "bad event" : kind(failed, "cut");
  else if (record.error.empty() && record.first_token == 0)
    record.error = "no text";
  if (record.output_tokens == 0 && record.first_token > 0)
    record.output_tokens = static_cast<int64_t>(record.gaps.size()) + 1;
}

asio::awaitable<void> Client::send(Record& record, std::shared_ptr<History> history) {
  const double start = start_ + record.arrival.at;
  record.error.clear();
  record.late = std::max(0.0, now_seconds() - start);
  if (open_ >= o_.max_connections) {
    record.error = "connections full";
  } else {
    ++open_;
    co_await exchange(record, *history, start);
    --open_;
  }
  record.ended = now_seconds() - start;
  if (--left_ == 0) context_.stop();
}

asio::awaitable<void> Client::arrivals() {
  asio::steady_timer timer(context_);
  for (Record& record : run_.records) {
    const double wait = start_ + record.arrival.at - now_seconds();
    if (wait > 0) {
      error_code ignored;
      timer.expires_after(seconds(wait));
      co_await timer.async_wait(token(ignored));
    }
    auto& history = histories_[record.arrival.conversation];
    if (!history) history = std::make_shared<History>();
    asio::co_spawn(context_, send(record, history), asio::detached);
  }
}

void Client::drive() {
  left_ = static_cast<int64_t>(run_.records.size());
  signals_.add(SIGINT);
  signals_.async_wait([this](error_code failed, int) {
    if (failed) return;
    run_.interrupted = true;
    context_.stop();
  });
  start_ = now_seconds();
  asio::co_spawn(context_, arrivals(), asio::detached);
  context_.run();
  run_.seconds = now_seconds() - start_;
}

}  // namespace

Status parse_url(const std::string& url, ClientOptions& o) {
  constexpr std::string_view kScheme = "http://";
  if (!url.starts_with(kScheme) || url.find_first_of("?# ") != std::string::npos)
    return error(Code::kInvalidArgument, "{} is not a URL like http://127.0.0.1:8080 (only http is spoken)", url);
  const std::string rest = url.substr(kScheme.size());
  const size_t slash = std::min(rest.find('/'), rest.size());
  std::string place = rest.substr(0, slash);
  o.base_path = rest.substr(slash);
  while (o.base_path.ends_with('/')) o.base_path.pop_back();
  if (o.base_path.empty()) o.base_path = "/v1";
  o.port = "80";
  const size_t colon = place.rfind(':');
  if (colon != std::string::npos && place.find(']', colon) == std::string::npos) {
    o.port = place.substr(colon + 1);
    place.resize(colon);
  }
  if (place.starts_with('[') && place.ends_with(']')) place = place.substr(1, place.size() - 2);
  o.host = place;
  const bool digits = !o.port.empty() && o.port.size() <= 5 && o.port.find_first_not_of("0123456789") == std::string::npos;
  if (o.host.empty() || !digits || std::stoi(o.port) < 1 || std::stoi(o.port) > 65535)
    return error(Code::kInvalidArgument, "{} names no host and port; one is like http://127.0.0.1:8080", url);
  return {};
}

Result<Run> run_load(const ClientOptions& options, const std::vector<Arrival>& arrivals) {
  Run run;
  // Not before it, so that nothing of the client outlives the records it writes to.
  run.records.reserve(arrivals.size());
  for (const Arrival& arrival : arrivals) run.records.push_back({.arrival = arrival, .error = "interrupted", .detail = {}});
  Client client(options, run);
  TRY(client.prepare());
  client.drive();
  return run;
}

}  // namespace venturi::loadtest
