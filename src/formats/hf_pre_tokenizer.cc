// Which tokenizer.ggml.pre a tokenizer.json means. GGUF names pre-tokenizers after models; here
// they are told by what they do, so that a model nobody has listed still gets the right one.
#include <algorithm>

#include "formats/byte_cursor.h"
#include "formats/hf_vocabulary.h"
#include "formats/json_text.h"
#include "formats/pre_tokenizer_classes.h"

namespace venturi {

namespace {

using nlohmann::json;

// The steps that cut text, as words: "split:REGEX", "digit" (each alone), "digits" (runs),
// "punctuation", "bytes" (GPT-2's pattern, which ByteLevel carries inside).
using Steps = std::vector<std::string>;

std::string text_field(const json& object, std::string_view name) {
  const auto it = object.find(name);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

bool flag_field(const json& object, std::string_view name, bool otherwise) {
  const auto it = object.find(name);
  return it != object.end() && it->is_boolean() ? it->get<bool>() : otherwise;
}

std::string split_step(const json& step) {
  const auto pattern = step.find("pattern");
  if (pattern == step.end() || !pattern->is_object()) return "split:";
  const std::string regex = text_field(*pattern, "Regex");
  return "split:" + (regex.empty() ? text_field(*pattern, "String") : regex);
}

void add_steps(const json& step, int depth, Steps& steps) {
  if (!step.is_object() || depth > 8) return;
  const std::string type = text_field(step, "type");
  if (type == "Sequence") {
    const auto parts = step.find("pretokenizers");
    if (parts == step.end() || !parts->is_array()) return;
    for (const json& part : *parts) add_steps(part, depth + 1, steps);
  } else if (type == "ByteLevel") {
    if (flag_field(step, "use_regex", true)) steps.push_back("bytes");
  } else if (type == "Digits") {
    steps.push_back(flag_field(step, "individual_digits", false) ? "digit" : "digits");
  } else if (type == "Punctuation") {
    steps.push_back("punctuation");
  } else if (type == "Split") {
    steps.push_back(split_step(step));
  } else {
    steps.push_back(type);
  }
}

struct Known {
  std::string_view name;
  Steps steps;  // a step that ends in "…" stands for all that begin so
};

const std::vector<Known>& known_pre_tokenizers() {
  static const std::string contractions = R"((?i:'s|'t|'re|'ve|'m|'ll|'d))";
  static const std::string tail = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  static const std::string upper = R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])";
  static const std::string lower = R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])";
  static const std::string o200k_tail = R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  static const std::vector<Known> table = {
      {"gpt-2", {"bytes"}},
      {"starcoder", {"digit", "bytes"}},
      {"falcon", {"punctuation", "bytes", "digits", "split:[0-9][0-9][0-9]"}},
      {"llama-bpe", {"split:" + contractions + R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})" + tail}},
      {"qwen2", {"split:" + contractions + R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})" + tail}},
      {"qwen35",
       {"split:" + contractions +
        R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}},
      {"tekken",
       {"split:" + upper + "*" + lower + "+|" + upper + "+" + lower + R"(*|\p{N})" + o200k_tail}},
      {"gpt-4o",
       {"split:" + upper + "*" + lower + "+" + contractions + "?|" + upper + "+" + lower + "*" +
        contractions + R"(?|\p{N}{1,3})" + o200k_tail}},
      {"deepseek-coder",
       {R"(split:[\r\n])", R"(split:\s?\p{L}+)", R"(split:\s?\p{P}+)", "split:[一-…", "digit"}},
      {"deepseek-llm",
       {R"(split:[\r\n])", R"(split:\s?[A-Za-zµ…)", R"(split:\s?[!-/:-~…)", R"(split:\s+$)",
        "split:[一-…", "digit"}},
      {"deepseek-v3",
       {R"(split:\p{N}{1,3})", "split:[一-…",
        R"(split:[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}},
      {"bloom", {R"(split: ?[^(\s|[.,!?…。，、।۔،])]+)"}},
  };
  return table;
}

void append_utf8(uint32_t c, std::string& out) {
  const auto put = [&](uint32_t byte) { out += static_cast<char>(byte); };
  if (c < 0x80) return put(c);
  if (c < 0x800) {
    put(0xc0 | c >> 6);
  } else if (c < 0x10000) {
    put(0xe0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3f));
  } else {
    put(0xf0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3f));
    put(0x80 | (c >> 6 & 0x3f));
  }
  put(0x80 | (c & 0x3f));
}

// Characters themselves in place of \x{…}, as the models' own files have them.
std::string spelled_out(std::string_view pattern) {
  std::string out;
  while (!pattern.empty()) {
    if (const size_t end = pattern.find('}'); pattern.starts_with("\\x{") && end != std::string_view::npos) {
      append_utf8(static_cast<uint32_t>(std::stoul(std::string(pattern.substr(3, end - 3)), nullptr, 16)), out);
      pattern.remove_prefix(end + 1);
    } else {
      out += pattern[0];
      pattern.remove_prefix(1);
    }
  }
  return out;
}

// The whole of a step of the pre-tokenizer `name`.
std::string whole_step(std::string_view name, std::string_view step) {
  constexpr std::string_view kAnything = "…";
  if (!step.ends_with(kAnything)) return std::string(step);
  step.remove_suffix(kAnything.size());
  for (const std::string_view pattern :
       {name == "deepseek-v3" ? kCjkAndKana : kDeepSeekCjk, kDeepSeekPunctuation, kDeepSeekLetters})
    if (std::string whole = "split:" + spelled_out(pattern); whole.starts_with(step)) return whole;
  return {};
}

json step_json(std::string_view step) {
  if (step == "digit" || step == "digits") return {{"type", "Digits"}, {"individual_digits", step == "digit"}};
  if (step == "punctuation") return {{"type", "Punctuation"}, {"behavior", "Contiguous"}};
  return {{"type", "Split"},
          {"pattern", {{"Regex", step.substr(std::string_view("split:").size())}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

json byte_level_step(bool with_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", with_regex}};
}

bool step_is(std::string_view step, std::string_view known) {
  constexpr std::string_view kAnything = "…";
  if (!known.ends_with(kAnything)) return step == known;
  return step.starts_with(known.substr(0, known.size() - kAnything.size()));
}

}  // namespace

Result<std::string> hf_pre_tokenizer_name(const TokenizerJson& tokenizer, const std::string& path) {
  Steps steps;
  if (const auto it = tokenizer.rest.find("pre_tokenizer"); it != tokenizer.rest.end())
    add_steps(*it, 0, steps);
  for (const Known& known : known_pre_tokenizers()) {
    if (!std::equal(steps.begin(), steps.end(), known.steps.begin(), known.steps.end(), step_is))
      continue;
    const json& model = tokenizer.rest.at("model");
    // The name also says whether a word that is a token skips the merges.
    if (known.name == "llama-bpe" && !flag_field(model, "ignore_merges", false))
      return std::string("dbrx");
    const auto post = tokenizer.rest.find("post_processor");
    if (known.name == "gpt-2" && post != tokenizer.rest.end() && post->is_object() &&
        text_field(*post, "type") == "RobertaProcessing")
      return std::string("roberta-bpe");
    return std::string(known.name);
  }
  return error(Code::kUnsupported, "{}: a pre-tokenizer that is not known: {}", path,
               shown(fmt::format("{}", fmt::join(steps, " then "))));
}

Result<json> hf_pre_tokenizer_json(std::string_view name) {
  // Names of models whose pre-tokenizer is another's.
  static constexpr std::pair<std::string_view, std::string_view> kSame[] = {
      {"llama3", "llama-bpe"},      {"llama-v3", "llama-bpe"},     {"falcon3", "llama-bpe"},
      {"dbrx", "llama-bpe"},        {"smaug-bpe", "llama-bpe"},    {"glm4", "llama-bpe"},
      {"chatglm-bpe", "llama-bpe"}, {"deepseek-r1-qwen", "qwen2"}, {"smollm", "starcoder"},
      {"command-r", "starcoder"},   {"refact", "starcoder"},       {"mpt", "gpt-2"}};
  for (const auto& [alias, same] : kSame)
    if (name == alias) name = same;
  for (const Known& known : known_pre_tokenizers()) {
    if (known.name != name) continue;
    json parts = json::array();
    bool bytes = false;  // are cut by ByteLevel's own pattern, or else last, and not at all
    for (const std::string& step : known.steps) {
      bytes |= step == "bytes";
      parts.push_back(step == "bytes" ? byte_level_step(true) : step_json(whole_step(name, step)));
    }
    if (!bytes) parts.push_back(byte_level_step(false));
    return json{{"type", "Sequence"}, {"pretokenizers", parts}};
  }
  return error(Code::kUnsupported, "the pre-tokenizer '{}' cannot be written as tokenizer.json",
               name);
}

}  // namespace venturi
