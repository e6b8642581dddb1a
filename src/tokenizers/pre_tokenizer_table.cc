// The pre-tokenizers that tokenizer.ggml.pre names. A new one is one entry here.
//
// The patterns are those of the models' own tokenizer.json (or tiktoken file); white space and
// Unicode mean what pre_tokenizer.h says. Steps of the originals that are no patterns are written
// as such: Digits is \p{N}+ or \p{N}, Punctuation is \p{P} with ASCII's, ByteLevel is GPT-2's
// pattern.
#include <string>

#include "tokenizers/pre_tokenizer.h"

namespace venturi {

namespace {

constexpr std::string_view kLineEnd = R"([\r\n])";
constexpr std::string_view kThreeDigits = "[0-9][0-9][0-9]";
// CJK ideographs, and what else DeepSeek's first models put in that class.
constexpr std::string_view kDeepSeekCjk =
    R"([\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+)";

// Letters of the scripts with two cases, as DeepSeek LLM lists them.
constexpr std::string_view kDeepSeekLetters =
    R"(\s?[A-Za-z\x{b5})"
    R"(\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af})"
    R"(\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c})"
    R"(\x{38e}-\x{3a1}\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556})"
    R"(\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}\x{13f8}-\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf})"
    R"(\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}\x{1d79}-\x{1d9a}\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d})"
    R"(\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}\x{1f5d})"
    R"(\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4})"
    R"(\x{1fc6}-\x{1fcc}\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4})"
    R"(\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d}\x{2124})"
    R"(\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139}\x{213c}-\x{213f})"
    R"(\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4})"
    R"(\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}\x{a680}-\x{a69b}\x{a722}-\x{a76f})"
    R"(\x{a771}-\x{a787}\x{a78b}-\x{a78e}\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17})"
    R"(\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a}\x{10400}-\x{1044f}\x{104b0}-\x{104d3})"
    R"(\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df})"
    R"(\x{1e900}-\x{1e943})"
    R"(]+)";
constexpr std::string_view kDeepSeekPunctuation =
    R"(\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+)";
// "\s+$", but begun only where a run of white space begins: from inside a run that does not reach
// the end, every start would walk the rest of the run.
constexpr std::string_view kTrailingSpace = R"((?<!\s)\s++$)";

constexpr std::string_view kCjkAndKana =
    R"([\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+)";
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
