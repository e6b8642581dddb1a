#include "server/generation.h"

#include <algorithm>
#include <charconv>
#include <mutex>

#include "base/clock.h"
#include "base/log.h"
#include "chat/render.h"
#include "grammar/json_schema.h"
#include "server/unknown_names.h"

namespace venturi::server {

uint64_t random_seed() {
  static thread_local std::random_device device;
  return device();
}

bool wants_timings(Fields& fields) {
  const Json* given = fields.find("venturi");
  if (!given) return false;
  Fields inner(*given, "venturi.");
  const bool wanted = inner.flag("timings", false);
  if (inner.error()) fields.fail("venturi", "must be an object whose timings is true or false");
  fields.take(inner);
  return wanted;
}

std::shared_ptr<const grammar::Automaton> compile_grammar(Fields& fields, const std::string& name,
                                                          const Result<grammar::Grammar>& parsed) {
  if (!parsed) {
    fields.fail(name, "cannot be followed: " + parsed.error().message);
    return nullptr;
  }
  auto automaton = grammar::Automaton::compile(*parsed);
  if (!automaton) {
    fields.fail(name, "cannot be followed: " + automaton.error().message);
    return nullptr;
  }
  return *automaton;
}

namespace {

struct OwnGrammar {
  std::string field;
  Result<grammar::Grammar> grammar;
};

std::optional<OwnGrammar> read_grammar(Fields& fields) {
  const std::string gbnf = fields.text("grammar", "");
  const Json* format = fields.find("response_format");
  if (format) fields.look_within(*format, "response_format.", {"type", "json_schema"});
  const Json type = format && format->is_object() ? format->value("type", Json()) : Json();
  const bool formatted = format && type != "text";
  if (!gbnf.empty() && formatted) fields.fail("response_format", "cannot be followed beside grammar");
  if (!gbnf.empty()) return OwnGrammar{"grammar", grammar::parse_gbnf(gbnf)};
  // Of llama.cpp's server, and of vLLM's.
  for (const char* name : {"json_schema", "guided_json"})
    if (const Json* schema = fields.find(name)) {
      if (formatted) fields.fail(name, "cannot be followed beside response_format");
      return OwnGrammar{name, grammar::json_schema_grammar(*schema)};
    }
  if (!formatted) return std::nullopt;
  if (type == "json_object") return OwnGrammar{"response_format", grammar::json_object_grammar()};
  if (type == "json_schema") {
    const auto held = format->find("json_schema");
    if (held != format->end()) fields.look_within(*held, "response_format.json_schema.", {"name", "description", "schema", "strict"});
    if (held != format->end() && held->is_object() && held->contains("schema"))
      return OwnGrammar{"response_format.json_schema.schema", grammar::json_schema_grammar(held->at("schema"))};
    fields.fail("response_format.json_schema", "must be an object with a schema");
    return std::nullopt;
  }
  fields.fail("response_format",
              "must be an object with a type of text, json_object or json_schema");
  return std::nullopt;
}

void read_bias(Fields& fields, const ServedModel& model, SamplingParams& sampling) {
  const Json* bias = fields.find("logit_bias");
  if (!bias) return;
  if (!bias->is_object() || bias->size() > 1024)
    return fields.fail("logit_bias", "must be an object of at most 1024 token ids");
  LogitBias biases;
  for (const auto& [name, value] : bias->items()) {
    int32_t id = -1;
    const auto [end, failed] = std::from_chars(name.data(), name.data() + name.size(), id);
    if (failed != std::errc() || end != name.data() + name.size() || id < 0 ||
        id >= model.tokenizer->vocab_size() || !value.is_number() ||
        std::abs(value.get<double>()) > 100)
      return fields.fail("logit_bias",
                         fmt::format("must map token ids below {} to numbers from -100 to 100",
                                     model.tokenizer->vocab_size()));
    biases[id] = value.get<float>();
  }
  sampling.logit_bias = std::make_shared<const LogitBias>(std::move(biases));
}

}  // namespace

void refuse_known_elsewhere(Fields& fields) {
  static const std::pair<const char*, Json> kNames[] = {
      {"guided_choice", nullptr}, {"guided_regex", nullptr}, {"guided_grammar", nullptr}, {"structured_outputs", nullptr}, {"structural_tag", nullptr},
      {"stop_token_ids", nullptr}, {"include_stop_str_in_output", nullptr}, {"min_tokens", 0}, {"n_predict", -1}, {"t_max_predict_ms", -1},
      {"prompt_logprobs", nullptr}, {"n_probs", 0}, {"return_token_ids", nullptr}, {"return_tokens_as_token_ids", nullptr},
      {"bad_words", nullptr}, {"allowed_token_ids", nullptr}, {"logits_processors", nullptr}, {"samplers", nullptr}, {"min_keep", 0},
      {"repeat_last_n", -1}, {"dry_multiplier", 0}, {"xtc_probability", 0}, {"dynatemp_range", 0}, {"top_n_sigma", -1}, {"top_a", 0}, {"tfs_z", 1}, {"tfs", 1},
      {"use_beam_search", nullptr}, {"length_penalty", 1}, {"truncate_prompt_tokens", nullptr},
      {"chat_template", nullptr}, {"documents", nullptr}, {"continue_final_message", nullptr}, {"lora", nullptr},
  };
  for (const auto& [name, allowed] : kNames) fields.only(name, allowed);
  for (const char* name : {"skip_special_tokens", "add_generation_prompt"})
    if (!fields.flag(name, true)) fields.fail(name, "is not supported but for true");
}

GenerationRequest read_generation(Fields& fields, const ServedModel& model, bool* include_usage, ToolUse tools) {
  GenerationRequest r;
  refuse_known_elsewhere(fields);
  SamplingParams& s = r.sampling;
  s.temperature = static_cast<float>(fields.number("temperature", 1, 0, 1000));
  s.top_p = static_cast<float>(fields.number("top_p", 1, 0, 1));
  s.top_k = static_cast<int32_t>(fields.integer("top_k", 0, -1, 1 << 30));
  s.min_p = static_cast<float>(fields.number("min_p", 0, 0, 1));
  s.typical_p = static_cast<float>(fields.number("typical_p", 1, 0, 1));
  s.repetition_penalty = static_cast<float>(fields.number("repetition_penalty", fields.number("repeat_penalty", 1, 0.01, 100), 0.01, 100));
  s.presence_penalty = static_cast<float>(fields.number("presence_penalty", 0, -2, 2));
  s.frequency_penalty = static_cast<float>(fields.number("frequency_penalty", 0, -2, 2));
  s.penalty_last_n = -1;
  s.prompt_counts = false;
  s.top_k = std::max(s.top_k, 0);
  s.mirostat = static_cast<int32_t>(fields.integer("mirostat", 0, 0, 2));
  s.mirostat_tau = static_cast<float>(fields.number("mirostat_tau", 5, 0.001, 1000));
  s.mirostat_eta = static_cast<float>(fields.number("mirostat_eta", 0.1, 0.001, 1000));
  s.seed = static_cast<uint64_t>(
      fields.integer("seed", static_cast<int64_t>(random_seed()), INT64_MIN, INT64_MAX));
  read_bias(fields, model, s);
  r.n = static_cast<int>(fields.integer("n", 1, 1, 128));
  r.ignore_end = fields.flag("ignore_eos", false);
  r.priority = static_cast<int>(fields.integer("priority", 0, -100, 100));
  r.stops = fields.texts("stop", 16);
  for (const std::string& stop : r.stops)
    if (stop.empty() || stop.size() > 4096)
      fields.fail("stop", "must hold texts of 1 to 4096 bytes");
  r.stream = fields.flag("stream", false);
  r.timings = wants_timings(fields);
  if (const Json* options = fields.find("stream_options")) {
    if (!r.stream) {
      fields.fail("stream_options", "is for streams only");
    } else {
      Fields inner(*options, "stream_options.");
      const bool wanted = inner.flag("include_usage", false);
      if (include_usage) *include_usage = wanted;
      inner.only("include_obfuscation");
      if (inner.error() && inner.error()->code == "unsupported") fields.take_error(inner);
      if (inner.error())
        fields.fail("stream_options", "must be an object whose include_usage is true or false");
      fields.take(inner);
    }
  }
  const auto own = read_grammar(fields);
  r.grammar = hold(fields, model, tools, own ? own->field : "", own ? &own->grammar : nullptr);
  r.tools = std::move(tools);
  if (!fields.error())
    if (const Status status = validate(s); !status) fields.fail("sampling", status.error().message);
  return r;
}

namespace {

// Clients do not fill the log.
void tell_unknown(const std::vector<std::string>& names) {
  static std::mutex mutex;
  static UnknownNames told;
  const std::lock_guard lock(mutex);
  const std::vector<std::string> news = told.news(names, now_seconds());
  for (const std::string& name : news)
    spdlog::warn("a request has a field {} that means nothing here; it is passed over{}", Json(name).dump(-1, ' ', true, Json::error_handler_t::replace),
                 told.full() && &name == &news.back() ? ", and no further names are told for a minute" : "");
}

}  // namespace

void log_unknown(const Fields& fields) {
  std::vector<std::string> names = fields.unknown();
  names.insert(names.end(), fields.unknown_within().begin(), fields.unknown_within().end());
  tell_unknown(names);
}

void log_unknown(const Fields& fields, const Fields& others) {
  const std::vector<std::string> theirs = others.unknown();
  std::vector<std::string> names;
  for (const std::string& name : fields.unknown())
    if (std::find(theirs.begin(), theirs.end(), name) != theirs.end()) names.push_back(name);
  for (const Fields* of : {&fields, &others}) names.insert(names.end(), of->unknown_within().begin(), of->unknown_within().end());
  tell_unknown(names);
}

namespace {

// Whether a text has more tokens than the context holds, as its length alone says, before it is cut into them.
bool too_long(Fields& fields, const ServedModel& model, size_t bytes) {
  const size_t most = model.tokenizer->most_bytes_per_token();
  const auto context = static_cast<size_t>(model.engine->options().context);
  if (most == 0 || bytes / most <= context) return false;
  fields.refuse({.message = fmt::format("the prompt has at least {} tokens, the context holds {}", bytes / most, context), .code = "context_length_exceeded"});
  return true;
}

}  // namespace

std::vector<std::vector<TokenId>> read_texts(Fields& fields, const ServedModel& model, const char* name, size_t most) {
  const Json* given = fields.find(name);
  std::vector<std::vector<TokenId>> texts;
  const auto ids = [&](const Json& list) {
    std::vector<TokenId> tokens;
    for (const Json& id : list) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= model.tokenizer->vocab_size()) {
        fields.fail(name, fmt::format("may hold token ids below {}", model.tokenizer->vocab_size()));
        break;
      }
      tokens.push_back(id.get<TokenId>());
    }
    return tokens;
  };
  const auto add = [&](const Json& one) {
    if (one.is_string()) {
      const auto& text = one.get_ref<const std::string&>();
      const bool prompt = model.service && std::string_view(name) == "prompt";
      if (!prompt || (!fields.error() && !too_long(fields, model, text.size()))) texts.push_back(model.tokenizer->encode(text));
    } else if (one.is_array()) texts.push_back(ids(one));
    else fields.fail(name, "must be a string, a list of token ids, or a list of either");
  };
  if (!given || given->is_string() || !given->is_array() || given->empty() || (*given)[0].is_number()) {
    add(given && !(given->is_array() && given->empty()) ? *given : Json());
  } else if (given->size() > most) {
    fields.fail(name, fmt::format("may hold at most {}", most));
  } else {
    for (const Json& one : *given) add(one);
  }
  return texts;
}

std::vector<TokenId> chat_prompt(Fields& fields, const ServedModel& model, const Json* messages, const Json* template_arguments,
                                 const ToolUse& tools, bool any_length) {
  chat::Conversation conversation;
  if (!messages || !messages->is_array() || messages->empty()) {
    fields.fail("messages", "must be a list of at least one message");
    return {};
  }
  conversation.messages = template_messages(fields, *model.tool_format, *messages);
  if (model.template_takes_tools) {
    conversation.tools = tools.tools;
  } else {
    conversation.messages = chat::spell_out_tools(conversation.messages, tools.tools);
  }
  if (template_arguments) {
    if (!template_arguments->is_object()) fields.fail("chat_template_kwargs", "must be an object");
    conversation.extra = *template_arguments;
  }
  if (fields.error()) return {};
  const Tokenizer& tokenizer = *model.tokenizer;
  if (const auto id = tokenizer.bos())
    conversation.bos_token = std::string(tokenizer.token_text(*id));
  if (const auto id = tokenizer.eos())
    conversation.eos_token = std::string(tokenizer.token_text(*id));
  auto rendered = chat::render_chat(*model.chat_template, conversation);
  if (!rendered) {
    fields.fail("messages",
                "do not go through the model's chat template: " + rendered.error().message);
    return {};
  }
  if (tools.must) rendered->push_back({chat::tool_opening(*model.tool_format), true});
  size_t bytes = 0;
  for (const auto& segment : *rendered) bytes += segment.text.size();
  if (!any_length && too_long(fields, model, bytes)) return {};
  std::vector<TokenId> tokens = model.segments->encode(*rendered);
  if (const auto bos = tokenizer.bos();
      tokenizer.adds_bos() && bos && (tokens.empty() || tokens[0] != *bos))
    tokens.insert(tokens.begin(), *bos);
  return tokens;
}

}  // namespace venturi::server
