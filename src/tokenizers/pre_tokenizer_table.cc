// The pre-tokenizers that tokenizer.ggml.pre names. A new one is one entry here.
//
// The patterns are those of the models' own tokenizer.json (or tiktoken file); white space and
// Unicode mean what pre_tokenizer.h says. Steps of the originals that are no patterns are written
// as such: Digits is \p{N}+ or \p{N}, Punctuation is \p{P} with ASCII's, ByteLevel is GPT-2's
// pattern.
#include <string>

#include "formats/pre_tokenizer_classes.h"
#include "tokenizers/pre_tokenizer.h"

namespace venturi {

namespace {

constexpr std::string_view kLineEnd = R"([\r\n])";
constexpr std::string_view kThreeDigits = "[0-9][0-9][0-9]";

// "\s+$", but begun only where a run of white space begins: from inside a run that does not reach
// the end, every start would walk the rest of the run.
constexpr std::string_view kTrailingSpace = R"((?<!\s)\s++$)";

constexpr std::string_view kDeepSeek3Words =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::string_view kBloomWords =
    R"( ?[^(\s|.,!?\x{2026}\x{3002}\x{ff0c}\x{3001}\x{964}\x{6d4}\x{60c})]+)";

// OpenAI's o200k: words change where lower case is followed by upper case.
#define VENTURI_O200K(SUFFIX, DIGITS, AFTER)                                                \
  R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)" SUFFIX  \
  R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)" SUFFIX \
  "|" DIGITS R"(| ?[^\s\p{L}\p{N}]+)" AFTER R"(|\s*[\r\n]+|\s+(?!\S)|\s+)"
constexpr std::string_view kTekken = VENTURI_O200K("", R"(\p{N})", R"([\r\n/]*)");
constexpr std::string_view kGpt4o =
    VENTURI_O200K("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", R"(\p{N}{1,3})", R"([\r\n/]*)");
constexpr std::string_view kYoutu =
    VENTURI_O200K("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", R"(\p{N})", R"([\r\n/]*)");
constexpr std::string_view kKimi =
    VENTURI_O200K("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", R"(\p{N}{1,3})", R"([\r\n]*)");
#undef VENTURI_O200K

constexpr std::string_view kYoutuScripts =
    R"([\x{ac00}-\x{d7a3}\x{3131}-\x{318e}]+|[\x{ff01}\x{2026}\x{201c}\x{201d}\x{2018}\x{2019}\x{2014}\x{ff1a}\x{ff1b}\x{ff0c}\x{3001}-\x{303f}\x{fe30}-\x{fe4f}]+|[\x{3105}-\x{312f}]+|[\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+)";

constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kBailing =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view kSeedCoder =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Possessive where nothing follows: the same matches, and no stack for a long text.
constexpr std::string_view kExaoneMoe =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*+(?: \p{L}\p{M}*+)*+)++|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view kJais2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})";

}  // namespace

std::span<const PreTokenizerInfo> all_pre_tokenizers() {
  static const std::vector<PreTokenizerInfo> table = {
      // What files without the key mean.
      {.names = {"default", ""},
       .patterns = {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Pattern, R"(\p{N}+)", kThreeDigits}},
      {.names = {"gpt-2", "phi-2", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "gigachat",
                 "mpt", "olmo", "jais", "trillion", "granite-docling", "a.x-4.0", "mellum",
                 "modern-bert", "exaone4"},
       .patterns = {kGpt2Pattern}},
      {.names = {"roberta-bpe", "jina-v1-en", "jina-v2-code"},
       .patterns = {kGpt2Pattern},
       .add_sep = true},
      {.names = {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0",
                 "lfm2", "jina-v5-nano", "laguna"},
       .patterns = {kLlama3Pattern},
       .whole_words = true,
       .add_bos = true},
      {.names = {"dbrx", "smaug-bpe", "chatglm-bpe", "glm4"}, .patterns = {kLlama3Pattern}},
      {.names = {"qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan", "solar-open",
                 "grok-2", "kormo", "openpangu", "f2llmv2"},
       .patterns = {kQwen2Pattern}},
      {.names = {"qwen35"}, .patterns = {kQwen35}},
      {.names = {"starcoder", "refact", "command-r", "cohere2_moe", "smollm", "codeshell", "exaone",
                 "minerva-7b", "mellum2"},
       .patterns = {kDigitPattern, kGpt2Pattern}},
      {.names = {"falcon"}, .patterns = {R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2Pattern, kThreeDigits}},
      {.names = {"deepseek-llm"},
       .patterns = {kLineEnd, kDeepSeekLetters, kDeepSeekPunctuation, kTrailingSpace, kDeepSeekCjk,
                    kDigitPattern}},
      {.names = {"deepseek-coder"},
       .patterns = {kLineEnd, R"(\s?\p{L}+)", R"(\s?\p{P}+)", kDeepSeekCjk, kDigitPattern}},
      {.names = {"deepseek-v3", "hunyuan-dense", "joyai-llm"},
       .patterns = {R"(\p{N}{1,3})", kCjkAndKana, kDeepSeek3Words}},
      {.names = {"bloom", "gpt3-finnish", "poro-chat"}, .patterns = {kBloomWords}},
      {.names = {"viking"}, .patterns = {kBloomWords, kDigitPattern}},
      {.names = {"tekken"}, .patterns = {kTekken}, .whole_words = true, .add_bos = true},
      {.names = {"gpt-4o", "llama4", "kanana2", "minimax-m2"}, .patterns = {kGpt4o}},
      {.names = {"tiny_aya"}, .patterns = {kThousandsPattern, kGpt4o}},
      {.names = {"youtu"}, .patterns = {kYoutuScripts, kYoutu}, .whole_words = true},
      {.names = {"kimi-k2"}, .patterns = {R"(\p{Han}+)", kKimi}},
      {.names = {"superbpe"}, .patterns = {R"(\p{N}+)", kThousandsCutPattern}},
      {.names = {"bailingmoe", "bailingmoe2", "llada-moe"}, .patterns = {kBailing}},
      {.names = {"seed-coder"}, .patterns = {kSeedCoder}},
      {.names = {"exaone-moe"}, .patterns = {kExaoneMoe}},
      {.names = {"jais-2"}, .patterns = {kJais2}},
      {.names = {"chameleon"},
       .patterns = {"<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", R"([\t\n]|    |  )",
                    kDigitPattern, R"([\p{P}!-/:-@\[-`{-~])", kGpt2Pattern},
       .add_bos = true},
  };
  return table;
}

const PreTokenizerInfo* find_pre_tokenizer(std::string_view name) {
  for (const PreTokenizerInfo& info : all_pre_tokenizers())
    for (const std::string_view candidate : info.names)
      if (candidate == name) return &info;
  return nullptr;
}

}  // namespace venturi
