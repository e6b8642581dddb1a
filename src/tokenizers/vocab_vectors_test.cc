// Known ids for real vocabularies: every NAME.gguf with NAME.gguf.inp and NAME.gguf.out in the
// shared data, or in the folder that VENTURI_VOCAB_DIR names. Texts are separated by a line
// "__ggml_vocab_test__" (the line breaks around it are part of the separator); ids are one line for
// each text, without BOS and EOS.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "base/file.h"
#include "formats/model_file.h"
#include "tokenizers/test_support.h"
#include "tokenizers/tokenizer.h"

namespace venturi {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> vocabularies() {
  std::vector<fs::path> folders = {VENTURI_SOURCE_DIR "/tests/data/vocab",
                                   VENTURI_SHARED_DIR "/data/vocab"};
  if (const char* more = std::getenv("VENTURI_VOCAB_DIR")) folders.emplace_back(more);
  std::vector<std::string> out;
  for (const fs::path& folder : folders) {
    if (!fs::is_directory(folder)) continue;
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().extension() == ".gguf") out.push_back(entry.path().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path) {
  auto file = open_gguf(path);
  if (!file.ok()) {
    ADD_FAILURE() << file.error().message;
    return nullptr;
  }
  auto tokenizer = Tokenizer::from_metadata((*file)->metadata);
  if (!tokenizer.ok()) {
    ADD_FAILURE() << path << ": " << tokenizer.error().message;
    return nullptr;
  }
  return std::move(tokenizer).value();
}

std::vector<std::string> texts_of(const std::string& path) {
  const std::string all = *read_text_file(path), separator = "\n__ggml_vocab_test__\n";
  std::vector<std::string> out;
  for (size_t at = 0; at < all.size();) {
    const size_t end = std::min(all.find(separator, at), all.size());
    out.push_back(all.substr(at, end - at));
    at = end + separator.size();
  }
  return out;
}

std::vector<std::vector<TokenId>> ids_of(const std::string& path) {
  std::vector<std::vector<TokenId>> out;
  std::istringstream lines(*read_text_file(path));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream numbers(line);
    out.emplace_back(std::istream_iterator<TokenId>(numbers), std::istream_iterator<TokenId>());
  }
  return out;
}

// Whether the scheme keeps less than the text.
bool is_lossy(const std::string& path) {
  const auto file = open_gguf(path);
  const Metadata& metadata = (*file)->metadata;
  return *metadata.get_string("tokenizer.ggml.model") == "bert" ||
         metadata.contains("tokenizer.ggml.precompiled_charsmap");
}

TEST(VocabVectors, Ids) {
  EXPECT_GE(vocabularies().size(), 2u);
  for (const std::string& path : vocabularies()) {
    if (!fs::exists(path + ".inp")) continue;
    const auto tokenizer = open_tokenizer(path);
    ASSERT_NE(tokenizer, nullptr);
    const auto texts = texts_of(path + ".inp");
    const auto expected = ids_of(path + ".out");
    ASSERT_EQ(texts.size(), expected.size()) << path;
    for (size_t i = 0; i < texts.size(); ++i)
      EXPECT_EQ(tokenizer->encode(texts[i], {.add_special = false}), expected[i])
          << path << ", text " << i << ": '" << texts[i] << "'";
  }
}

// The text less the bytes for which the vocabulary has no token (Falcon lacks some that never occur
// in UTF-8 and a few control characters).
std::string spellable(const Tokenizer& tokenizer, const std::string& text) {
  std::string out;
  for (const char c : text)
    if (tokenizer.decode(tokenizer.encode({&c, 1})) == std::string_view(&c, 1)) out += c;
  return out;
}

TEST(VocabVectors, DecodingReturnsTheText) {
  for (const std::string& path : vocabularies()) {
    if (!fs::exists(path + ".inp") || is_lossy(path)) continue;
    const auto tokenizer = open_tokenizer(path);
    ASSERT_NE(tokenizer, nullptr);
    auto texts = texts_of(path + ".inp");
    texts.push_back("broken \xFF\xC3 \xE4\xB8 bytes\x80");
    for (uint64_t seed = 0; seed < 20; ++seed) texts.push_back(testing::random_text(seed, 300));
    for (const std::string& text : texts)
      for (const bool add_special : {false, true})
        EXPECT_EQ(tokenizer->decode(tokenizer->encode(text, {.add_special = add_special})),
                  spellable(*tokenizer, text))
            << path;
  }
}

TEST(VocabVectors, AMegabyteOfOneCharacterIsQuick) {
  for (const std::string& path : vocabularies()) {
    const auto tokenizer = open_tokenizer(path);
    ASSERT_NE(tokenizer, nullptr);
    double slowest = 0;
    for (const char* unit : {" ", "a", "7", "\n", "=", "\u4E2D", "\U0001F600", "ab", "\xFF"}) {
      const std::string text = testing::repeat(unit, 1 << 20);
      const double start = testing::cpu_seconds();
      const auto ids = tokenizer->encode(text);
      const double seconds = testing::cpu_seconds() - start;
      EXPECT_LT(seconds, 2.0 * testing::kPatience) << path << " on '" << unit << "'";
      slowest = std::max(slowest, seconds);
    }
    RecordProperty(fs::path(path).stem().string(), fmt::format("{:.3f} s", slowest));
    if (std::getenv("VENTURI_VERBOSE") != nullptr) fmt::print("{:.3f} s {}\n", slowest, path);
  }
}

}  // namespace
}  // namespace venturi
