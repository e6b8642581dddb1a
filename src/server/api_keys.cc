#include "server/api_keys.h"

#include <charconv>
#include <sstream>

#include "base/file.h"

namespace venturi::server {

namespace {

template <typename Number>
std::optional<Number> number(std::string_view text, Number low, Number high) {
  Number value{};
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  // Not a number is in no range.
  if (failed != std::errc() || end != text.data() + text.size() || !(value >= low && value <= high)) return std::nullopt;
  return value;
}

// What is wrong with a word behind a key; "" where nothing is. It may be half of a key with a blank in it: never shown.
std::string_view read_word(std::string_view word, Account& account) {
  constexpr std::string_view kWeight = "weight=", kPriority = "priority=";
  if (word.starts_with(kWeight)) {
    const auto weight = number<double>(word.substr(kWeight.size()), 0.001, 1000);
    if (!weight) return "weight must be a number from 0.001 to 1000";
    account.weight = *weight;
    return "";
  }
  if (word.starts_with(kPriority)) {
    const auto priority = number<int>(word.substr(kPriority.size()), -100, 100);
    if (!priority) return "priority must be an integer from -100 to 100";
    account.max_priority = *priority;
    return "";
  }
  return "behind the key may come weight=W and priority=P only";
}

}  // namespace

Result<std::vector<ApiKey>> parse_api_keys(std::string_view text, const std::string& file) {
  std::vector<ApiKey> keys;
  std::istringstream lines{std::string(text)};
  std::string line;
  for (int n = 1; std::getline(lines, line); ++n) {
    std::istringstream words(line);
    ApiKey key;
    if (!(words >> key.secret) || key.secret[0] == '#') continue;
    key.account.name = fmt::format("key {}", keys.size() + 1);
    for (std::string word; words >> word;)
      if (const std::string_view wrong = read_word(word, key.account); !wrong.empty())
        return error(Code::kInvalidArgument, "{}, line {}: {}", file, n, wrong);
    keys.push_back(std::move(key));
  }
  if (keys.empty()) return error(Code::kInvalidArgument, "{} holds no API key; put one on each line", file);
  return keys;
}

Result<std::vector<ApiKey>> read_api_keys(const std::string& file) {
  return parse_api_keys(TRY(read_text_file(file, 1u << 20)), file);
}

}  // namespace venturi::server
