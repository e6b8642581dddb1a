#include "planner/fields.h"

namespace venturi {

namespace {

constexpr int kMaxDepth = 16;

// Brackets opened at one time, outside strings.
int depth_of(std::string_view text) {
  int depth = 0, most = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      most = std::max(most, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return most;
}

}  // namespace

Error Fields::wrong(const char* name, std::string_view expected) const {
  std::string found = "nothing";
  if (has(name)) found = json_[name].dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 40);
  return error(Code::kCorrupt, "\"{}\" is {}, expected {}", path(name), found, expected);
}

Status Fields::is_object() const {
  if (json_.is_object()) return {};
  return error(Code::kCorrupt, "{} is not an object", where_.empty() ? "the document" : "\"" + where_ + "\"");
}

Result<const Json*> Fields::find(const char* name) const {
  if (!has(name)) return error(Code::kCorrupt, "there is no \"{}\"", path(name));
  return &json_[name];
}

Result<double> Fields::number(const char* name, double low, double high) const {
  const Json* json = TRY(find(name));
  const double value = json->is_number() ? json->get<double>() : NAN;
  if (!(value >= low && value <= high)) return wrong(name, fmt::format("a number from {:g} to {:g}", low, high));
  return value;
}

Result<int64_t> Fields::integer(const char* name, int64_t low, int64_t high) const {
  const Json* json = TRY(find(name));
  const bool fits = json->is_number_unsigned() ? json->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX)
                                               : json->is_number_integer();
  if (!fits || json->get<int64_t>() < low || json->get<int64_t>() > high)
    return wrong(name, fmt::format("a whole number from {} to {}", low, high));
  return json->get<int64_t>();
}

Result<uint64_t> Fields::bytes(const char* name) const { return static_cast<uint64_t>(TRY(integer(name, 0, INT64_MAX))); }

Result<bool> Fields::boolean(const char* name) const {
  const Json* json = TRY(find(name));
  if (!json->is_boolean()) return wrong(name, "true or false");
  return json->get<bool>();
}

Result<std::string> Fields::text(const char* name) const {
  const Json* json = TRY(find(name));
  if (!json->is_string()) return wrong(name, "a string");
  return json->get<std::string>();
}

Result<std::vector<std::string>> Fields::texts(const char* name, size_t most) const {
  const Json* json = TRY(find(name));
  const bool right = json->is_array() && json->size() <= most &&
                     std::all_of(json->begin(), json->end(), [](const Json& one) { return one.is_string(); });
  if (!right) return wrong(name, fmt::format("a list of at most {} strings", most));
  return json->get<std::vector<std::string>>();
}

Result<Fields> Fields::object(const char* name) const {
  const Json* json = TRY(find(name));
  if (!json->is_object()) return wrong(name, "an object");
  return Fields(*json, path(name));
}

Result<std::vector<Fields>> Fields::objects(const char* name, size_t most) const {
  const Json* json = TRY(find(name));
  if (!json->is_array() || json->size() > most) return wrong(name, fmt::format("a list of at most {} objects", most));
  std::vector<Fields> list;
  for (size_t i = 0; i < json->size(); ++i) {
    list.emplace_back((*json)[i], fmt::format("{}[{}]", path(name), i));
    if (Status status = list.back().is_object(); !status) return std::move(status).error();
  }
  return list;
}

Result<Json> parse_document(std::string_view text, std::string_view path, std::string_view format, int version) {
  if (depth_of(text) > kMaxDepth) return error(Code::kCorrupt, "{}: nested deeper than any {}", path, format);
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return error(Code::kCorrupt, "{}: this is not JSON; a {} was expected", path, format);
  const Fields fields(json, "");
  const auto check = [&]() -> Status {
    TRY(fields.is_object());
    if (TRY(fields.text("format")) != format)
      return error(Code::kCorrupt, "\"format\" is \"{}\", expected \"{}\"", json["format"].get<std::string>().substr(0, 40),
                   format);
    const int64_t found = TRY(fields.integer("version", 0, INT32_MAX));
    if (found != version)
      return error(Code::kUnsupported, "\"version\" is {}, this program reads {}; make it anew", found, version);
    return {};
  };
  if (Status status = check(); !status) return std::move(status).error().within(path);
  return json;
}

}  // namespace venturi
