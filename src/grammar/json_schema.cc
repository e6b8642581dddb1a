#include "grammar/json_schema.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "grammar/json_formats.h"
#include "grammar/json_overlap.h"
#include "grammar/json_parts.h"
#include "grammar/regex.h"

namespace venturi::grammar {

namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxNesting = 100;
constexpr size_t kMaxNodes = 500'000;
constexpr int64_t kMaxCount = 100'000;  // of items and characters

// What restricts and cannot be held here.
constexpr const char* kRefused[] = {"not", "if", "then", "else", "dependentSchemas", "dependentRequired", "dependencies",
                                    "multipleOf", "contains", "minContains", "maxContains", "patternProperties",
                                    "propertyNames", "minProperties", "maxProperties", "unevaluatedItems",
                                    "unevaluatedProperties", "additionalItems", "$dynamicRef", "$recursiveRef"};
// What restricts and is held.
constexpr const char* kRestricting[] = {"type", "nullable", "enum", "const", "properties", "required", "additionalProperties",
                                        "items", "prefixItems", "minItems", "maxItems", "minLength", "maxLength", "pattern",
                                        "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "anyOf",
                                        "oneOf", "allOf", "$ref"};
constexpr const char* kTypes[] = {"object", "array", "string", "number", "integer", "boolean", "null"};

bool has_type(const Json& value, std::string_view type) {
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  return value.is_null();
}

class Builder {
 public:
  explicit Builder(const Json& root) : root_(root), values_(root), parts_(g_) {}

  Result<Grammar> run() {
    g_.reference("root");
    g_.define("root", TRY(schema(root_, "#", 0)));
    return std::move(g_);
  }

 private:
  static Error wrong(const std::string& where, std::string_view what) {
    return error(Code::kInvalidArgument, "JSON Schema, {}: {}", where, what);
  }
  static Error cannot(const std::string& where, std::string_view what) {
    return error(Code::kUnsupported, "JSON Schema, {}: {}", where, what);
  }

  static std::vector<std::string> restricting(const Json& s, std::initializer_list<std::string_view> but) {
    std::vector<std::string> out;
    for (const char* key : kRestricting)
      if (s.contains(key) && std::find(but.begin(), but.end(), key) == but.end()) out.push_back(key);
    return out;
  }

  Result<int> schema(const Json& s, const std::string& where, int depth) {
    if (depth > kMaxNesting) return wrong(where, fmt::format("schemas nest deeper than {}", kMaxNesting));
    if (g_.nodes().size() > kMaxNodes) return cannot(where, "the schema is too large");
    if (s.is_boolean()) {
      if (s.get<bool>()) return parts_.value();
      return wrong(where, "false admits no value");
    }
    if (!s.is_object()) return wrong(where, fmt::format("expected an object or a boolean, found {}", s.type_name()));
    for (const char* key : kRefused)
      if (s.contains(key)) return cannot(where, fmt::format("'{}' is not supported", key));
    if (s.contains("uniqueItems") && s["uniqueItems"] != false) return cannot(where, "'uniqueItems' is not supported");
    if (s.contains("nullable") && s["nullable"] == true) {
      Json rest = s;
      rest.erase("nullable");
      return g_.choice({TRY(schema(rest, where, depth + 1)), g_.bytes("null")});
    }
    if (s.contains("$ref")) return reference(s, where, depth);
    if (s.contains("allOf")) return all_of(s, where, depth);
    for (const char* key : {"anyOf", "oneOf"})
      if (s.contains(key)) return any_of(s, key, where, depth);
    if (s.contains("const") || s.contains("enum")) return constants(s, where);
    return typed(s, where, depth);
  }

  Result<const Json*> target(const Json& s, const std::string& where) {
    if (!s["$ref"].is_string()) return wrong(where, "'$ref' must be a string");
    const std::string ref = s["$ref"];
    if (ref.empty() || ref[0] != '#') return cannot(where, fmt::format("'$ref' to '{}' leads outside the schema", ref));
    const Json* at = &root_;
    try {
      at = &root_.at(Json::json_pointer(ref.substr(1)));
    } catch (const Json::exception&) {
      return wrong(where, fmt::format("'$ref' to '{}' leads nowhere", ref));
    }
    return at;
  }

  Result<int> reference(const Json& s, const std::string& where, int depth) {
    if (const auto others = restricting(s, {"$ref"}); !others.empty())
      return cannot(where, fmt::format("'$ref' beside '{}' is not supported", others[0]));
    const Json* to = TRY(target(s, where));
    const std::string ref = s["$ref"];
    if (ref == "#") return g_.reference("root");
    const std::string rule = "ref:" + ref;
    if (requested_.insert(ref).second) {
      const int body = TRY(schema(*to, ref, depth + 1));
      g_.define(rule, body);
    }
    return g_.reference(rule);
  }

  Result<int> any_of(const Json& s, const char* key, const std::string& where, int depth) {
    if (const auto others = restricting(s, {key, "type"}); !others.empty())
      return cannot(where, fmt::format("'{}' beside '{}' is not supported", key, others[0]));
    if (!s[key].is_array() || s[key].empty()) return wrong(where, fmt::format("'{}' must be a list of schemas", key));
    const Json& branches = s[key];
    if (std::string_view(key) == "oneOf")
      for (size_t a = 0; a < branches.size(); ++a)
        for (size_t b = 0; b < a; ++b)
          if (!values_.apart(branches[a], branches[b]))
            return cannot(fmt::format("{}/oneOf/{}", where, a), fmt::format("a value could satisfy branch {}, too; anyOf admits that", b));
    Kinds outer = s.contains("type") ? 0 : kind::kAll;
    const std::vector<std::string> types = TRY(types_of(s, where));
    for (const std::string& type : types) outer |= kinds_of_type(type);
    std::vector<int> choices;
    for (size_t i = 0; i < branches.size(); ++i) {
      const std::string place = fmt::format("{}/{}/{}", where, key, i);
      if (const auto branch = TRY(within(branches[i], outer, place))) choices.push_back(TRY(schema(*branch, place, depth + 1)));
    }
    if (choices.empty()) return wrong(where, "no value satisfies it");
    return g_.choice(std::move(choices));
  }

  // A branch of something that is of these kinds; nothing where it has none of them.
  Result<std::optional<Json>> within(const Json& branch, Kinds outer, const std::string& where) const {
    if (outer == kind::kAll) return std::optional<Json>(branch);
    const Kinds own = values_.kinds(branch, true), both = own & outer;
    if (own == both || !(branch.is_object() || branch.is_boolean())) return std::optional<Json>(branch);
    if (both == 0) return std::optional<Json>();
    const std::vector<std::string> types = types_of_kinds(both);
    if (types.empty() || (branch.is_object() && branch.contains("$ref")))
      return cannot(where, "it admits more than the 'type' beside it, which is not supported");
    Json narrowed = branch.is_object() ? branch : Json::object();
    narrowed["type"] = types;
    if (!(both & kind::kNull)) narrowed.erase("nullable");
    return std::optional<Json>(std::move(narrowed));
  }

  // One schema out of several for objects, where they do not speak of the same things.
  Result<int> all_of(const Json& s, const std::string& where, int depth) {
    if (!s["allOf"].is_array() || s["allOf"].empty()) return wrong(where, "'allOf' must be a list of schemas");
    Json merged = s;
    merged.erase("allOf");
    int i = 0;
    for (const Json& branch : s["allOf"]) {
      const std::string place = fmt::format("{}/allOf/{}", where, i++);
      const Json* from = &branch;
      for (int hops = 0; from->is_object() && from->contains("$ref"); ++hops) {
        if (hops > kMaxNesting) return wrong(place, "'$ref' leads in a circle");
        if (restricting(*from, {"$ref"}).size() > 0) return cannot(place, "'$ref' beside others is not supported");
        from = TRY(target(*from, place));
      }
      if (*from == true) continue;
      if (!from->is_object()) return wrong(place, "expected a schema");
      if (auto status = merge(*from, merged, place); !status) return std::move(status).error();
    }
    return schema(merged, where, depth + 1);
  }

  static Status merge(const Json& from, Json& into, const std::string& where) {
    for (const auto& item : from.items()) {
      const std::string& key = item.key();
      const Json& value = item.value();
      const bool known = std::any_of(std::begin(kRestricting), std::end(kRestricting), [&](const char* k) { return key == k; }) ||
                         std::any_of(std::begin(kRefused), std::end(kRefused), [&](const char* k) { return key == k; }) ||
                         key == "uniqueItems";
      if (!known) continue;
      if (!into.contains(key)) {
        into[key] = value;
      } else if (key == "properties" && value.is_object() && into[key].is_object()) {
        for (const auto& [name, property] : value.items()) {
          if (into[key].contains(name) && into[key][name] != property)
            return cannot(where, fmt::format("the property '{}' is described twice", name));
          into[key][name] = property;
        }
      } else if (key == "required" && value.is_array() && into[key].is_array()) {
        for (const Json& name : value) into[key].push_back(name);
      } else if (into[key] != value) {
        return cannot(where, fmt::format("'{}' stands in several parts of 'allOf'", key));
      }
      // A part that is closed would close the others' properties out.
      if (key == "additionalProperties" && value != true)
        return cannot(where, "'additionalProperties' inside 'allOf' is not supported");
    }
    return {};
  }

  Result<int> constants(const Json& s, const std::string& where) {
    if (const auto others = restricting(s, {"const", "enum", "type"}); !others.empty())
      return cannot(where, fmt::format("'{}' beside '{}' is not supported", s.contains("const") ? "const" : "enum", others[0]));
    const std::vector<std::string> types = TRY(types_of(s, where));
    std::vector<int> choices;
    const auto add = [&](const Json& value) {
      if (types.empty() || std::any_of(types.begin(), types.end(), [&](const std::string& t) { return has_type(value, t); }))
        choices.push_back(parts_.literal(value));
    };
    if (s.contains("enum") && (!s["enum"].is_array() || s["enum"].empty())) return wrong(where, "'enum' must be a list of values");
    if (s.contains("const")) {
      if (!s.contains("enum") || std::find(s["enum"].begin(), s["enum"].end(), s["const"]) != s["enum"].end()) add(s["const"]);
    } else {
      for (const Json& value : s["enum"]) add(value);
    }
    if (choices.empty()) return wrong(where, "no value satisfies it");
    return g_.choice(std::move(choices));
  }

  Result<std::vector<std::string>> types_of(const Json& s, const std::string& where) {
    std::vector<std::string> types;
    if (!s.contains("type")) return types;
    const Json list = s["type"].is_array() ? s["type"] : Json::array({s["type"]});
    for (const Json& t : list) {
      if (!t.is_string() || std::none_of(std::begin(kTypes), std::end(kTypes), [&](const char* k) { return t == k; }))
        return wrong(where, fmt::format("'type' is {}; expected one of object, array, string, number, integer, boolean, null", t.dump()));
      types.push_back(t);
    }
    if (types.empty()) return wrong(where, "'type' lists no type");
    return types;
  }

  Result<int> typed(const Json& s, const std::string& where, int depth) {
    std::vector<std::string> types = TRY(types_of(s, where));
    if (types.empty()) {
      // What it speaks of is what is meant.
      const auto any = [&](std::initializer_list<const char*> keys) {
        return std::any_of(keys.begin(), keys.end(), [&](const char* k) { return s.contains(k); });
      };
      if (any({"properties", "required", "additionalProperties"})) types = {"object"};
      else if (any({"items", "prefixItems", "minItems", "maxItems"})) types = {"array"};
      else if (any({"minLength", "maxLength", "pattern", "format"})) types = {"string"};
      else if (any({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})) types = {"number"};
      else return parts_.value();
    }
    std::vector<int> choices;
    for (const std::string& type : types) choices.push_back(TRY(of_type(s, type, where, depth)));
    return g_.choice(std::move(choices));
  }

  Result<int> of_type(const Json& s, const std::string& type, const std::string& where, int depth) {
    if (type == "null") return g_.bytes("null");
    if (type == "boolean") return g_.choice({g_.bytes("true"), g_.bytes("false")});
    if (type == "string") return string(s, where);
    if (type == "array") return array(s, where, depth);
    if (type == "object") return object(s, where, depth);
    return number(s, type == "integer", where);
  }

  Result<int64_t> count(const Json& s, const char* key, int64_t otherwise, const std::string& where) {
    if (!s.contains(key)) return otherwise;
    if (!s[key].is_number() || s[key].get<double>() < 0 || s[key].get<double>() != std::floor(s[key].get<double>()))
      return wrong(where, fmt::format("'{}' must be a whole number that is not negative", key));
    if (s[key].get<double>() > static_cast<double>(kMaxCount)) {
      // Beyond what anybody generates: an upper end that large is none.
      if (std::string_view(key).starts_with("max")) return int64_t{kUnbounded};
      return cannot(where, fmt::format("'{}' is above {}", key, kMaxCount));
    }
    return static_cast<int64_t>(s[key].get<double>());
  }

  Result<int> string(const Json& s, const std::string& where) {
    const int64_t min = TRY(count(s, "minLength", 0, where)), max = TRY(count(s, "maxLength", kUnbounded, where));
    if (max != kUnbounded && max < min) return wrong(where, "'maxLength' is less than 'minLength'");
    const bool bounded = s.contains("minLength") || s.contains("maxLength");
    const char* pattern = nullptr;
    std::string own;
    if (s.contains("pattern")) {
      if (!s["pattern"].is_string()) return wrong(where, "'pattern' must be a string");
      own = s["pattern"];
      pattern = own.c_str();
    }
    if (s.contains("format")) {
      if (pattern) return cannot(where, "'pattern' beside 'format' is not supported");
      pattern = s["format"].is_string() ? format_pattern(s["format"].get<std::string>()) : nullptr;
      if (!pattern) return cannot(where, fmt::format("the format {} is not supported", s["format"].dump()));
    }
    if (!pattern) return bounded ? parts_.string_between(static_cast<int>(min), static_cast<int>(max)) : parts_.string();
    if (bounded) return cannot(where, "'pattern' or 'format' beside 'minLength' or 'maxLength' is not supported");
    auto body = regex_node(g_, pattern);
    if (!body) return std::move(body).error().within("JSON Schema, " + where);
    return parts_.string_of(*body);
  }

  Result<int> number(const Json& s, bool whole, const std::string& where) {
    constexpr double kMost = 999'999'999'999'999'999.0;
    bool bounded = false;
    JsonParts::Bound low{-static_cast<int64_t>(kMost), false}, high{static_cast<int64_t>(kMost), false};
    for (const char* key : {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"}) {
      if (!s.contains(key)) continue;
      if (!s[key].is_number()) return wrong(where, fmt::format("'{}' must be a number", key));
      bounded = true;
      const double v = std::clamp(s[key].get<double>(), -kMost, kMost);
      const bool is_low = std::string_view(key).ends_with("inimum");
      // Bounds between whole numbers move inwards.
      const double to = is_low ? std::ceil(v) : std::floor(v);
      const JsonParts::Bound bound{static_cast<int64_t>(std::clamp(to, -9e17, 9e17)), to == v && std::string_view(key).starts_with("ex")};
      JsonParts::Bound& held = is_low ? low : high;
      const bool tighter = is_low ? bound.value > held.value : bound.value < held.value;
      if (tighter || (bound.value == held.value && bound.excluded)) held = bound;
    }
    if (!bounded) return whole ? parts_.integer() : parts_.number();
    int node = -1;
    if (whole) {
      const int64_t a = low.value + low.excluded, b = high.value - high.excluded;
      if (a <= b) node = parts_.integer_between(a, b);
    } else {
      node = parts_.number_between(low, high);
    }
    if (node < 0) return cannot(where, "no number with few digits lies between its bounds");
    return node;
  }

  Result<int> array(const Json& s, const std::string& where, int depth) {
    const int64_t min = TRY(count(s, "minItems", 0, where)), max = TRY(count(s, "maxItems", kUnbounded, where));
    if (max != kUnbounded && max < min) return wrong(where, "'maxItems' is less than 'minItems'");
    std::vector<int> prefix;
    if (s.contains("prefixItems")) {
      if (!s["prefixItems"].is_array()) return wrong(where, "'prefixItems' must be a list of schemas");
      int i = 0;
      for (const Json& item : s["prefixItems"])
        prefix.push_back(TRY(schema(item, fmt::format("{}/prefixItems/{}", where, i++), depth + 1)));
    }
    int item = -1;  // none may follow the prefix
    if (!s.contains("items")) item = parts_.value();
    else if (s["items"] != false) item = TRY(schema(s["items"], where + "/items", depth + 1));
    const auto k = static_cast<int64_t>(prefix.size());
    const int64_t most = max == kUnbounded ? (item < 0 ? k : max) : item < 0 ? std::min(max, k) : max;
    if (most != kUnbounded && most < min) return wrong(where, "it admits fewer items than 'minItems' asks for");
    const auto open = [&](int64_t n) { return most == kUnbounded || n < most; };  // after n items another may come
    const int comma = g_.sequence({g_.bytes(","), parts_.space()});
    // What follows n items, from the last of the prefix backwards.
    const int64_t from = std::max<int64_t>(k, 1);
    int tail = g_.empty();
    if (item >= 0 && open(from))
      tail = g_.repeat(g_.sequence({comma, item}), static_cast<int>(std::max<int64_t>(0, min - from)),
                       most == kUnbounded ? kUnbounded : static_cast<int>(most - from));
    for (int64_t n = k - 1; n >= 1; --n) {
      if (!open(n)) {
        tail = g_.empty();
        continue;
      }
      const int more = named(g_.sequence({comma, prefix[n], tail}));
      tail = n >= min ? g_.optional(more) : more;
    }
    int body = g_.empty();
    if (open(0) && (k > 0 || item >= 0)) {
      const int some = g_.sequence({k > 0 ? prefix[0] : item, tail, parts_.space()});
      body = min == 0 ? g_.optional(some) : some;
    }
    return g_.sequence({g_.bytes("["), parts_.space(), body, g_.bytes("]")});
  }

  Result<int> object(const Json& s, const std::string& where, int depth) {
    struct Property {
      int pair;
      bool required;
    };
    std::vector<Property> properties;
    std::vector<std::string> names;
    std::set<std::string> required;
    if (s.contains("required")) {
      if (!s["required"].is_array()) return wrong(where, "'required' must be a list of names");
      for (const Json& name : s["required"]) {
        if (!name.is_string()) return wrong(where, "'required' must be a list of names");
        required.insert(name.get<std::string>());
      }
    }
    const bool listed = s.contains("properties");
    // A schema that lists properties and says nothing of others is closed here; one that lists none is open.
    const Json others = s.contains("additionalProperties") ? s["additionalProperties"] : Json(!listed && required.empty());
    if (listed) {
      if (!s["properties"].is_object()) return wrong(where, "'properties' must be an object");
      for (const auto& [name, property] : s["properties"].items()) {
        const bool needed = required.erase(name) > 0;
        names.push_back(name);
        if (property == false && !needed) continue;
        const int value = TRY(schema(property, fmt::format("{}/properties/{}", where, name), depth + 1));
        properties.push_back({parts_.pair(parts_.literal(name), value), needed});
      }
    }
    for (const std::string& name : required) {
      if (s.contains("additionalProperties") && others == false)
        return wrong(where, fmt::format("'{}' is required, and neither listed nor admitted", name));
      const int value = others.is_object() ? TRY(schema(others, where + "/additionalProperties", depth + 1)) : parts_.value();
      properties.push_back({parts_.pair(parts_.literal(name), value), true});
      names.push_back(name);
    }
    const int comma = g_.sequence({g_.bytes(","), parts_.space()});
    // After the listed ones: others, with something before them, or first of all.
    int after = g_.empty(), first = g_.empty();
    if (others != false) {
      const int value = others.is_object() ? TRY(schema(others, where + "/additionalProperties", depth + 1)) : parts_.value();
      const int extra = parts_.pair(names.empty() ? parts_.string() : parts_.string_except(names), value);
      after = named(g_.repeat(g_.sequence({comma, extra}), 0, kUnbounded));
      first = g_.optional(g_.sequence({extra, after}));
    }
    for (auto p = properties.rbegin(); p != properties.rend(); ++p) {
      const int with = named(g_.sequence({p->pair, after}));
      first = p->required ? with : named(g_.choice({with, first}));
      const int next = g_.sequence({comma, with});
      after = named(p->required ? next : g_.choice({next, after}));
    }
    return g_.sequence({g_.bytes("{"), parts_.space(), first, parts_.space(), g_.bytes("}")});
  }

  // A node that stands in several places, as a rule, so that it is compiled once.
  int named(int node) {
    const std::string rule = fmt::format("part:{}", n_parts_++);
    g_.define(rule, node);
    return g_.reference(rule);
  }

  const Json& root_;
  const SchemaValues values_;
  Grammar g_;
  JsonParts parts_;
  std::set<std::string> requested_;
  int n_parts_ = 0;
};

}  // namespace

Result<Grammar> json_schema_grammar(const nlohmann::ordered_json& schema) { return Builder(schema).run(); }

Grammar json_object_grammar() {
  Grammar g;
  g.reference("root");
  JsonParts parts(g);
  g.define("root", parts.object());
  return g;
}

}  // namespace venturi::grammar
