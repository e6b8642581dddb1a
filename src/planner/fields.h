// Fields of a JSON object from outside, checked: each error names the field, what was expected and found.
#pragma once

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace venturi {

using Json = nlohmann::ordered_json;

class Fields {
 public:
  // `where` is the path of the object, for errors. `json` must outlive this.
  Fields(const Json& json, std::string where) : json_(json), where_(std::move(where)) {}

  Status is_object() const;
  bool has(const char* name) const { return json_.is_object() && json_.contains(name); }
  Result<double> number(const char* name, double low, double high) const;  // finite, in [low, high]
  Result<int64_t> integer(const char* name, int64_t low, int64_t high) const;
  Result<uint64_t> bytes(const char* name) const;  // below 2^63
  Result<bool> boolean(const char* name) const;
  Result<std::string> text(const char* name) const;
  Result<std::vector<std::string>> texts(const char* name, size_t most) const;  // an array of at most so many
  Result<Fields> object(const char* name) const;
  // An array of at most `most` objects.
  Result<std::vector<Fields>> objects(const char* name, size_t most) const;

 private:
  Result<const Json*> find(const char* name) const;
  std::string path(const char* name) const { return where_.empty() ? name : where_ + "." + name; }
  Error wrong(const char* name, std::string_view expected) const;

  const Json& json_;
  std::string where_;
};

// A document of at most `max_bytes` that must be an object whose "format" is `format` and whose "version"
// is `version`; `path` is for errors. Nesting deeper than a plan's is refused.
Result<Json> parse_document(std::string_view text, std::string_view path, std::string_view format, int version);

}  // namespace venturi
