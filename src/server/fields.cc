#include "server/fields.h"

#include <algorithm>
#include <cmath>

namespace venturi::server {

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string dump(const ApiError& error) {
  const auto or_null = [](const std::string& s) { return s.empty() ? Json(nullptr) : Json(s); };
  return dump(Json{{"error",
                    {{"message", error.message},
                     {"type", error.type},
                     {"param", or_null(error.param)},
                     {"code", or_null(error.code)}}}});
}

Result<int64_t> count_values(std::string_view text, int depth, int64_t values) {
  // Counted before parsing, so that no tree of any depth or size is ever built.
  int open = 0;
  int64_t n = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == ',' || c == ':' || c == '{' || c == '[') {
      if (++n > values) return error(Code::kInvalidArgument, "the body holds more than {} values", values);
      if (c == ',' || c == ':') continue;
      if (++open > depth)
        return error(Code::kInvalidArgument, "the body nests deeper than {}", depth);
    } else if (c == '}' || c == ']') {
      --open;
    }
  }
  return n;
}

Result<Json> parse_counted(std::string_view text) {
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::exception& e) {
    // "[json.exception.parse_error.101] parse error at line 1, column 5: …"
    const std::string_view what = e.what();
    const size_t from = what.find("] ");
    return error(Code::kInvalidArgument, "the body is not JSON: {}",
                 what.substr(from == std::string_view::npos ? 0 : from + 2));
  }
}

Result<Json> parse_body(std::string_view text) {
  TRY(count_values(text));
  return parse_counted(text);
}

const Json* Fields::find(const char* name) {
  seen_.insert(name);
  if (!object_.is_object()) return nullptr;
  const auto at = object_.find(name);
  return at == object_.end() || at->is_null() ? nullptr : &*at;
}

void Fields::fail(std::string_view name, std::string_view what) {
  if (error_) return;
  std::string full = where_ + std::string(name);
  if (name.empty() && full.ends_with('.')) full.pop_back();
  error_ = ApiError{
      .message = full.empty() ? fmt::format("the body {}", what) : fmt::format("{} {}", full, what),
      .param = full};
}

bool Fields::flag(const char* name, bool otherwise) {
  const Json* found = find(name);
  if (!found) return otherwise;
  if (found->is_boolean()) return found->get<bool>();
  fail(name, "must be true or false");
  return otherwise;
}

double Fields::number(const char* name, double otherwise, double low, double high) {
  const Json* found = find(name);
  if (!found) return otherwise;
  const double value = found->is_number() ? found->get<double>() : NAN;
  if (value >= low && value <= high) return value;
  fail(name, fmt::format("must be a number from {} to {}", low, high));
  return otherwise;
}

namespace {

std::optional<int64_t> whole(const Json& number) {
  if (number.is_number_unsigned() && number.get<uint64_t>() > INT64_MAX) return std::nullopt;
  if (number.is_number_integer()) return number.get<int64_t>();
  // 16.0 is an integer to many a client.
  constexpr double kEnd = 9223372036854775808.0;
  const double value = number.is_number() ? number.get<double>() : NAN;
  if (std::trunc(value) == value && value >= -kEnd && value < kEnd) return static_cast<int64_t>(value);
  return std::nullopt;
}

}  // namespace

int64_t Fields::integer(const char* name, int64_t otherwise, int64_t low, int64_t high) {
  const Json* found = find(name);
  if (!found) return otherwise;
  if (const auto value = whole(*found); value && *value >= low && *value <= high) return *value;
  fail(name, fmt::format("must be an integer from {} to {}", low, high));
  return otherwise;
}

std::string Fields::text(const char* name, std::string otherwise) {
  const Json* found = find(name);
  if (!found) return otherwise;
  if (found->is_string()) return found->get<std::string>();
  fail(name, "must be a string");
  return otherwise;
}

std::vector<std::string> Fields::texts(const char* name, size_t most) {
  const Json* found = find(name);
  std::vector<std::string> list;
  if (!found) return list;
  if (found->is_string()) return {found->get<std::string>()};
  if (!found->is_array() || found->size() > most) {
    fail(name, fmt::format("must be a string or a list of at most {} of them", most));
    return list;
  }
  for (const Json& one : *found) {
    if (!one.is_string()) {
      fail(name, "must hold strings only");
      return list;
    }
    list.push_back(one.get<std::string>());
  }
  return list;
}

void Fields::only(const char* name, const Json& allowed) {
  const Json* found = find(name);
  if (!found || *found == allowed || (found->is_boolean() && !found->get<bool>()) ||
      (found->is_structured() && found->empty()))
    return;
  fail(name, allowed.is_null() ? "is not supported"
                               : fmt::format("is not supported but for {}", dump(allowed)));
  if (error_->code.empty()) error_->code = "unsupported";
}

namespace {

constexpr size_t kMostWithin = 64;

}  // namespace

void Fields::take(const Fields& inner) {
  take_error(inner);
  for (const std::string& name : inner.unknown())
    if (within_.size() < kMostWithin) within_.insert(inner.where_ + name);
  for (const std::string& path : inner.within_)
    if (within_.size() < kMostWithin) within_.insert(path);
}

void Fields::look_within(const Json& object, std::string_view where, std::initializer_list<std::string_view> known) {
  if (!object.is_object()) return;
  for (const auto& [name, value] : object.items())
    if (std::find(known.begin(), known.end(), name) == known.end() && within_.size() < kMostWithin) within_.insert(std::string(where) + name);
}

std::vector<std::string> Fields::unknown() const {
  std::vector<std::string> names;
  if (object_.is_object())
    for (const auto& [name, value] : object_.items())
      if (!seen_.contains(name)) names.push_back(name);
  return names;
}

}  // namespace venturi::server
