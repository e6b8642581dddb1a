// JSON from outside: no exceptions, bounded depth, errors that name the file.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace venturi {

inline constexpr int kJsonMaxDepth = 64;

// `path` is for the message. Of duplicate keys the last stands.
Result<nlohmann::json> parse_json(std::string_view text, const std::string& path);
// What is no regular file is refused: a pipe would be waited for.
Result<std::string> read_regular_file(const std::string& path, uint64_t max_bytes);
// The file's JSON, which must be an object.
Result<nlohmann::json> read_json_file(const std::string& path, uint64_t max_bytes);

}  // namespace venturi
