#include "formats/json_text.h"

#include <filesystem>

#include "base/file.h"

namespace venturi {

Result<nlohmann::json> parse_json(std::string_view text, const std::string& path) {
  bool too_deep = false;
  const auto callback = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    too_deep |= depth > kJsonMaxDepth;
    return !too_deep;  // what lies below is dropped, not kept
  };
  nlohmann::json json = nlohmann::json::parse(text, callback, /*allow_exceptions=*/false);
  if (too_deep)
    return error(Code::kCorrupt, "{}: JSON nested deeper than {} levels", path, kJsonMaxDepth);
  if (json.is_discarded())
    return error(Code::kCorrupt, "{}: not valid JSON; fetch the file again", path);
  return json;
}

Result<std::string> read_regular_file(const std::string& path, uint64_t max_bytes) {
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
    return error(Code::kCorrupt, "{} is no regular file", path);
  return read_text_file(path, max_bytes);
}

Result<nlohmann::json> read_json_file(const std::string& path, uint64_t max_bytes) {
  const std::string text = TRY(read_regular_file(path, max_bytes));
  nlohmann::json json = TRY(parse_json(text, path));
  if (!json.is_object()) return error(Code::kCorrupt, "{}: expected a JSON object", path);
  return json;
}

}  // namespace venturi
