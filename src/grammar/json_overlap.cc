#include "grammar/json_overlap.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <span>

namespace venturi::grammar {

namespace {

using Json = nlohmann::ordered_json;

constexpr int kMostDepth = 32;  // beyond, nothing is known

Kinds kind_of(const Json& value) {
  if (value.is_object()) return kind::kObject;
  if (value.is_array()) return kind::kArray;
  if (value.is_string()) return kind::kString;
  if (value.is_boolean()) return kind::kBoolean;
  if (value.is_null()) return kind::kNull;
  return std::floor(value.get<double>()) == value.get<double>() ? kind::kInteger : kind::kFraction;
}

// The values of const or enum; none where there is neither.
std::span<const Json> listed(const Json& s) {
  if (s.contains("const")) return {&s["const"], 1};
  if (!s.contains("enum") || !s["enum"].is_array()) return {};
  return s["enum"].get_ref<const Json::array_t&>();
}

// False also of what would have to be looked into.
bool surely_different(const Json& a, const Json& b) { return kind_of(a) != kind_of(b) || (!a.is_structured() && a != b); }

const Json* branches(const Json& s) {
  for (const char* key : {"anyOf", "oneOf"})
    if (s.contains(key) && s[key].is_array()) return &s[key];
  return nullptr;
}

std::set<std::string> required(const Json& s) {
  std::set<std::string> names;
  if (s.contains("required") && s["required"].is_array())
    for (const Json& name : s["required"])
      if (name.is_string()) names.insert(name);
  return names;
}

const Json* property(const Json& s, const std::string& name) {
  if (!s.contains("properties") || !s["properties"].is_object()) return nullptr;
  const auto at = s["properties"].find(name);
  return at == s["properties"].end() ? nullptr : &*at;
}

}  // namespace

Kinds kinds_of_type(const std::string& type) {
  if (type == "object") return kind::kObject;
  if (type == "array") return kind::kArray;
  if (type == "string") return kind::kString;
  if (type == "integer") return kind::kInteger;
  if (type == "number") return kind::kInteger | kind::kFraction;
  if (type == "boolean") return kind::kBoolean;
  return type == "null" ? kind::kNull : 0;
}

std::vector<std::string> types_of_kinds(Kinds kinds) {
  std::vector<std::string> types;
  for (const char* type : {"object", "array", "string", "number", "integer", "boolean", "null"}) {
    const Kinds of = kinds_of_type(type);
    if ((kinds & of) == of && !((kinds & kind::kFraction) && of == kind::kInteger)) types.emplace_back(type);
  }
  return types;
}

bool SchemaValues::spend(size_t work) const {
  left_ -= static_cast<int64_t>(std::min<size_t>(work, 1 << 30));
  if (left_ < 0) left_ = -1;
  return left_ > 0;
}

// Null where it leads nowhere.
const Json* SchemaValues::resolved(const Json& schema) const {
  const Json* at = &schema;
  for (int hops = 0; at->is_object() && at->contains("$ref"); ++hops) {
    if (hops > kMostDepth || !(*at)["$ref"].is_string()) return nullptr;
    const std::string ref = (*at)["$ref"];
    if (!ref.starts_with('#')) return nullptr;
    try {
      at = &root_.at(Json::json_pointer(ref.substr(1)));
    } catch (const Json::exception&) {
      return nullptr;
    }
  }
  return at;
}

Kinds SchemaValues::kinds(const Json& schema, bool meant, int depth) const {
  const Json* s = resolved(schema);
  if (!s || depth > kMostDepth || !spend(1)) return kind::kAll;
  if (!s->is_object()) return *s == false ? 0 : kind::kAll;
  Kinds all = kind::kAll;
  if (s->contains("type")) {
    all = 0;
    const Json& type = (*s)["type"];
    for (const Json& one : type.is_array() ? type : Json::array({type}))
      if (one.is_string()) all |= kinds_of_type(one);
  }
  if (const auto values = listed(*s); !values.empty()) {
    Kinds those = 0;
    if (!spend(values.size())) return all;
    for (const Json& value : values) those |= kind_of(value);
    all &= those;
  } else if (const Json* any = branches(*s)) {
    Kinds those = 0;
    for (const Json& branch : *any) those |= kinds(branch, meant, depth + 1);
    all &= those;
  } else if (meant && !s->contains("type") && !s->contains("allOf")) {
    const auto speaks = [&](std::initializer_list<const char*> keys) { return std::any_of(keys.begin(), keys.end(), [&](const char* k) { return s->contains(k); }); };
    if (speaks({"properties", "required", "additionalProperties"})) all = kind::kObject;
    else if (speaks({"items", "prefixItems", "minItems", "maxItems"})) all = kind::kArray;
    else if (speaks({"minLength", "maxLength", "pattern", "format"})) all = kind::kString;
    else if (speaks({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})) all = kind::kInteger | kind::kFraction;
  }
  if (s->contains("allOf") && (*s)["allOf"].is_array())
    for (const Json& part : (*s)["allOf"]) all &= kinds(part, false, depth + 1);
  if (s->contains("nullable") && (*s)["nullable"] == true) all |= kind::kNull;
  return all;
}

bool SchemaValues::apart(const Json& produced, const Json& admitted, int depth) const {
  const Kinds shared = kinds(produced, true, depth) & kinds(admitted, false, depth);
  if (shared == 0) return true;
  const Json *a = resolved(produced), *b = resolved(admitted);
  if (!a || !b || depth > kMostDepth || !a->is_object() || !b->is_object() || (shared & kind::kNull)) return false;
  const auto all_apart = [](const Json& some, const auto& is_apart) { return std::all_of(some.begin(), some.end(), is_apart); };
  if (const Json* any = branches(*a)) return all_apart(*any, [&](const Json& one) { return apart(one, *b, depth + 1); });
  if (const Json* any = branches(*b)) return all_apart(*any, [&](const Json& one) { return apart(*a, one, depth + 1); });
  const auto values = listed(*a), others = listed(*b);
  if (!values.empty() && !others.empty())
    return spend(values.size() * others.size()) && std::all_of(values.begin(), values.end(), [&](const Json& value) {
             return std::all_of(others.begin(), others.end(), [&](const Json& other) { return surely_different(value, other); });
           });
  return shared == kind::kObject && values.empty() && others.empty() && objects_apart(*a, *b, depth);
}

// What is produced has the properties that are listed or demanded, and others only where it is open.
bool SchemaValues::objects_apart(const Json& a, const Json& b, int depth) const {
  if (a.contains("allOf") || b.contains("allOf")) return false;
  const auto size = [](const Json& s, const char* key) { return 1 + (s.contains(key) ? s[key].size() : 0); };
  if (!spend((size(a, "required") + size(b, "required")) * (size(a, "properties") + size(b, "properties")))) return false;
  const std::set<std::string> has = required(a), wants = required(b);
  const bool open = a.contains("additionalProperties") ? a["additionalProperties"] != false : !a.contains("properties") && has.empty();
  const bool takes_others = !b.contains("additionalProperties") || b["additionalProperties"] != false;
  const auto never_there = [&](const std::string& name) { return !open && !has.contains(name) && (!property(a, name) || *property(a, name) == false); };
  if (std::any_of(wants.begin(), wants.end(), never_there)) return true;
  const auto not_taken = [&](const std::string& name) { return property(b, name) ? *property(b, name) == false : !takes_others; };
  if (std::any_of(has.begin(), has.end(), not_taken)) return true;
  std::set<std::string> both = has;
  both.insert(wants.begin(), wants.end());
  return std::any_of(both.begin(), both.end(), [&](const std::string& name) {
    return property(a, name) && property(b, name) && apart(*property(a, name), *property(b, name), depth + 1);
  });
}

}  // namespace venturi::grammar
