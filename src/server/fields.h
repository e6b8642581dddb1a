// Reads the fields of an API object: right type, in range, or the first error with the field's
// name.
#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace venturi::server {

using Json = nlohmann::ordered_json;

// An error as the OpenAI API spells it.
struct ApiError {
  int status = 400;
  std::string type = "invalid_request_error", message = {}, param = {}, code = {};
  double retry_after_seconds = 0;  // 0: no such header
};

std::string dump(const Json& json);
std::string dump(const ApiError& error);

// About how many values a body holds, which may nest `depth` deep and hold `values` of them.
Result<int64_t> count_values(std::string_view text, int depth = 64, int64_t values = 1 << 21);
// Bytes that a value takes at most when it is parsed, but for its text.
constexpr uint64_t kValueBytes = 48;
// Parses what has been counted.
Result<Json> parse_counted(std::string_view text);
// Both.
Result<Json> parse_body(std::string_view text);

// A missing field or null gives the default. After the first error everything gives its default.
class Fields {
 public:
  // `where` comes before names in errors: "", or "messages[2].".
  explicit Fields(const Json& object, std::string where = "")
      : object_(object), where_(std::move(where)) {
    if (!object.is_object()) fail("", "must be an object");
  }

  const Json* find(const char* name);
  bool flag(const char* name, bool otherwise);
  double number(const char* name, double otherwise, double low, double high);
  int64_t integer(const char* name, int64_t otherwise, int64_t low, int64_t high);
  std::string text(const char* name, std::string otherwise);
  // A text, or a list of at most `most` of them.
  std::vector<std::string> texts(const char* name, size_t most);
  // Known, but only absent, null, empty, false or `allowed` can be served. Any other is a 400: a client is not
  // answered as if what it asked for had been done.
  void only(const char* name, const Json& allowed = nullptr);
  // Read and passed over.
  void ignore(std::initializer_list<const char*> names) {
    seen_.insert(names.begin(), names.end());
  }

  void fail(std::string_view name, std::string_view what);
  // The first error of fields within one of these.
  void take_error(const Fields& inner) {
    if (!error_) error_ = inner.error_;
  }
  // Its error, and the names in it that nothing asked for.
  void take(const Fields& inner);
  // Names of an object within these fields, at `where` ("messages[]."), that are not among the known ones.
  void look_within(const Json& object, std::string_view where, std::initializer_list<std::string_view> known);
  const std::optional<ApiError>& error() const { return error_; }
  // Names that nothing asked for.
  std::vector<std::string> unknown() const;
  // Such names within, with their paths; some, where they are many.
  const std::set<std::string>& unknown_within() const { return within_; }

 private:
  const Json& object_;
  std::string where_;
  std::set<std::string, std::less<>> seen_;
  std::set<std::string> within_;
  std::optional<ApiError> error_;
};

}  // namespace venturi::server
