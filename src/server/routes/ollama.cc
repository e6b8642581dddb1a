// Ollama: POST /api/chat and /api/generate, GET /api/tags and /api/version.
#include <ctime>

#include "grammar/json_schema.h"
#include "server/generation.h"

namespace venturi::server {

namespace {

std::string error_body(const ApiError& error) { return dump(Json{{"error", error.message}}); }
void refuse(Exchange& exchange, const ApiError& error) { reply(exchange, error, error_body(error)); }

std::string timestamp(int64_t seconds) {
  const std::time_t time = seconds;
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

// One JSON object on a line for every piece.
class LineFormat : public AnswerFormat {
 public:
  LineFormat(const Target& target, bool chat) : target_(target), chat_(chat) {}

  std::string stream_type() const override { return "application/x-ndjson"; }
  std::string first(int, const Usage&) override { return ""; }
  std::string delta(int, const std::string& text, const std::vector<LoggedToken>&) override {
    Json json = piece(text);
    json["done"] = false;
    return dump(json) + "\n";
  }
  std::string call_ends(int, int, const ToolCall& call) override {
    Json json = piece("");
    json["message"]["tool_calls"] = Json::array({spelled(call)});
    json["done"] = false;
    return dump(json) + "\n";
  }
  std::string last(int, const Answer& answer, const Usage& usage) override {
    Json json = done("", answer, usage);
    usage.add_timings(json);
    return dump(json) + "\n";
  }
  std::string end(const Usage&) override { return ""; }
  std::string stream_error(const ApiError& error) override { return error_body(error) + "\n"; }
  std::string error(const ApiError& error) const override { return error_body(error); }
  Json whole(const std::vector<Answer>& answers, const Usage& usage) override {
    Json json = done(answers[0].text, answers[0], usage);
    for (const ToolCall& call : answers[0].calls) json["message"]["tool_calls"].push_back(spelled(call));
    return json;
  }

 private:
  static Json spelled(const ToolCall& call) {
    Json arguments = Json::parse(call.arguments, nullptr, false);
    if (!arguments.is_object()) arguments = Json::object();  // cut off
    return {{"function", {{"name", call.name}, {"arguments", std::move(arguments)}}}};
  }
  Json piece(const std::string& text) const {
    Json json = {{"model", target_.name}, {"created_at", timestamp(static_cast<int64_t>(std::time(nullptr)))}};
    if (chat_) {
      json["message"] = {{"role", "assistant"}, {"content", text}};
    } else {
      json["response"] = text;
    }
    return json;
  }
  Json done(const std::string& text, const Answer& answer, const Usage& usage) const {
    const auto nanoseconds = [](double seconds) { return static_cast<int64_t>(seconds * 1e9); };
    Json json = piece(text);
    json["done"] = true;
    json["done_reason"] = answer.finish == "length" ? "length" : "stop";
    json["total_duration"] = nanoseconds(usage.timings.total);
    json["load_duration"] = 0;
    json["prompt_eval_count"] = usage.prompt;
    json["prompt_eval_duration"] = nanoseconds(usage.timings.prefill);
    json["eval_count"] = answer.n_tokens;
    json["eval_duration"] = nanoseconds(usage.timings.decode);
    return json;
  }

  const Target target_;
  const bool chat_;
};

// `options`, with Ollama's own names and defaults.
void read_options(Fields& fields, const ServedModel& model, GenerationRequest& r) {
  static const Json kNone = Json::object();
  const Json* given = fields.find("options");
  Fields options(given ? *given : kNone, "options.");
  SamplingParams& s = r.sampling;
  s.temperature = static_cast<float>(options.number("temperature", 0.8, 0, 1000));
  s.top_k = static_cast<int32_t>(options.integer("top_k", 40, 0, 1 << 30));
  s.top_p = static_cast<float>(options.number("top_p", 0.9, 0, 1));
  s.min_p = static_cast<float>(options.number("min_p", 0, 0, 1));
  s.typical_p = static_cast<float>(options.number("typical_p", 1, 0, 1));
  s.repetition_penalty = static_cast<float>(options.number("repeat_penalty", 1.1, 0.01, 100));
  s.penalty_last_n = static_cast<int32_t>(options.integer("repeat_last_n", 64, -1, 1 << 30));
  s.prompt_counts = false;
  s.presence_penalty = static_cast<float>(options.number("presence_penalty", 0, -2, 2));
  s.frequency_penalty = static_cast<float>(options.number("frequency_penalty", 0, -2, 2));
  s.mirostat = static_cast<int32_t>(options.integer("mirostat", 0, 0, 2));
  s.mirostat_tau = static_cast<float>(options.number("mirostat_tau", 5, 0.001, 1000));
  s.mirostat_eta = static_cast<float>(options.number("mirostat_eta", 0.1, 0.001, 1000));
  s.seed = static_cast<uint64_t>(options.integer("seed", static_cast<int64_t>(random_seed()), INT64_MIN, INT64_MAX));
  // -1 and -2: as far as the context goes.
  r.max_tokens = std::max<int64_t>(0, options.integer("num_predict", 0, -2, 1 << 30));
  r.stops = options.texts("stop", 16);
  for (const std::string& stop : r.stops)
    if (stop.empty() || stop.size() > 4096) options.fail("stop", "must hold texts of 1 to 4096 bytes");
  const int64_t context = model.engine->options().context;
  if (options.integer("num_ctx", context, 1, 1 << 30) > context)
    options.fail("num_ctx", fmt::format("is more than the {} that are served here", context));
  options.only("tfs_z", 1);
  if (!options.flag("penalize_newline", true)) options.fail("penalize_newline", "is not supported but for true");
  // About the machine, or about what is kept when a context is full, which is an error here.
  options.ignore({"numa", "num_gpu", "main_gpu", "num_thread", "num_batch", "low_vram", "f16_kv", "vocab_only", "use_mmap", "use_mlock", "num_keep"});
  fields.take(options);
  if (!options.error())
    if (const Status status = validate(s); !status) fields.fail("options", status.error().message);
}

GenerationRequest read_request(Fields& fields, const ServedModel& model, bool chat) {
  fields.ignore({"model"});
  GenerationRequest r;
  read_options(fields, model, r);
  r.stream = fields.flag("stream", true);
  r.timings = wants_timings(fields);
  std::optional<Result<grammar::Grammar>> own;
  if (const Json* format = fields.find("format")) {
    if (*format == "json") own = grammar::json_object_grammar();
    else if (format->is_object()) own = grammar::json_schema_grammar(*format);
    else if (*format != "") fields.fail("format", "must be json or a JSON Schema");
  }
  if (chat) r.tools = read_tools(fields);
  r.grammar = hold(fields, model, r.tools, "format", own ? &*own : nullptr);
  fields.only("images");
  fields.only("think");
  fields.only("logprobs");
  fields.only("top_logprobs", 0);
  if (!chat) fields.only("tools");
  for (const char* name : {"response_format", "grammar", "json_schema", "guided_json", "stop", "max_tokens", "max_completion_tokens"}) fields.only(name);
  return r;
}

// How long the model stays, a number of seconds or a duration such as 5m: that is the server's to say, but for not at all.
bool read_keep_alive(Fields& fields) {
  const Json* given = fields.find("keep_alive");
  if (!given) return true;
  if (given->is_number()) return *given != 0;
  if (!given->is_string()) fields.fail("keep_alive", "must be a number of seconds, or a duration as a string");
  const std::string text = given->is_string() ? given->get<std::string>() : "";
  return text.find('0') == std::string::npos || text.find_first_of("123456789") != std::string::npos;
}

// Without anything to answer a request is about the model alone, which is loaded.
void reply_without_answer(const Call& call, bool chat, bool stays) {
  Json json = {{"model", call.target.name}, {"created_at", timestamp(static_cast<int64_t>(std::time(nullptr)))}};
  if (chat) json["message"] = {{"role", "assistant"}, {"content", ""}};
  else json["response"] = "";
  json["done"] = true;
  json["done_reason"] = stays ? "load" : "unload";
  reply(*call.exchange, json);
}

void run(Call call, bool chat, std::vector<TokenId> (*prompt)(Fields& fields, const ServedModel& model, const ToolUse& tools)) {
  const ServedModel& model = *call.target;
  Fields fields(call.body);
  GenerationRequest request = read_request(fields, model, chat);
  const bool stays = read_keep_alive(fields);
  const Json* asked = fields.find(chat ? "messages" : "prompt");
  const bool answers = asked && *asked != "" && *asked != Json::array();
  if (!answers) fields.ignore({"suffix", "template", "context", "raw", "system"});
  if (answers && !fields.error()) request.prompts = {prompt(fields, model, request.tools)};
  if (fields.error()) return refuse(*call.exchange, *fields.error());
  log_unknown(fields);
  if (!stays) call.app.models->let_go(call.target->name);
  if (!answers) return reply_without_answer(call, chat, stays);
  auto format = std::make_unique<LineFormat>(call.target, chat);
  generate(std::move(call), std::move(request), std::move(format));
}

void chat(Call call) {
  run(std::move(call), true,
      [](Fields& fields, const ServedModel& model, const ToolUse& tools) {
        Json messages = *fields.find("messages");
        // Ollama names the function of a result where others name the call, which has no id.
        for (Json& m : messages) {
          if (m.is_object() && m.contains("tool_name") && !m.contains("name")) m["name"] = m["tool_name"];
          if (m.is_object() && m.value("role", Json()) == "tool" && !m.contains("tool_call_id")) m["tool_call_id"] = "";
        }
        return chat_prompt(fields, model, &messages, nullptr, tools);
      });
}

void complete(Call call) {
  run(std::move(call), false, [](Fields& fields, const ServedModel& model, const ToolUse&) -> std::vector<TokenId> {
    const std::string prompt = fields.text("prompt", "");
    fields.only("suffix", "");
    fields.only("template", "");
    fields.only("context");
    if (fields.flag("raw", false)) return model.tokenizer->encode(prompt);
    Json messages = Json::array();
    if (const Json* system = fields.find("system"); system && *system != "") messages.push_back({{"role", "system"}, {"content", *system}});
    messages.push_back({{"role", "user"}, {"content", prompt}});
    return chat_prompt(fields, model, &messages, nullptr);
  });
}

void tags(Call call) {
  Json list = Json::array();
  call.app.models->each([&](const Models::Entry& e) {
    const auto add = [&](const std::string& name) {
      list.push_back({{"name", name},
                      {"model", name},
                      {"modified_at", timestamp(e.created)},
                      {"size", e.spec.about.tensor_bytes},
                      {"details", {{"format", "gguf"}, {"family", e.spec.about.architecture}}}});
    };
    add(e.spec.name);
    for (const std::string& adapter : e.spec.adapters) add(e.spec.name + ":" + adapter);
  });
  reply(*call.exchange, Json{{"models", std::move(list)}});
}

void version(Call call) { reply(*call.exchange, Json{{"version", "0.1.0"}}); }

}  // namespace

extern const Routes routes_ollama;
const Routes routes_ollama{{{"POST", "/api/chat", chat, Needs::kModel}, {"POST", "/api/generate", complete, Needs::kModel}, {"GET", "/api/tags", tags}, {"GET", "/api/version", version}},
                           error_body, true};

}  // namespace venturi::server
