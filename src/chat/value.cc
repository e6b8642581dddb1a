#include "chat/value.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace venturi::chat {
namespace {

constexpr int kMaxValueDepth = 100;

int depth_of(const Value& value) {
  if (const auto* list = value.list()) return list->depth;
  if (const auto* dict = value.dict()) return dict->depth;
  return 0;
}

size_t list_bytes(size_t n) { return 96 + n * sizeof(Value); }
size_t dict_bytes(size_t n) { return 160 + n * (2 * sizeof(Value) + 96); }

}  // namespace

Error Meter::error() const {
  return venturi::error(Code::kInvalidArgument, "the template is stopped: {}", why_ ? why_ : "");
}

Value Value::undefined(std::string what) {
  return Value(Undefined{std::make_shared<const std::string>(std::move(what))});
}

const Text* Value::text() const {
  const auto* p = as<std::shared_ptr<const TextObject>>();
  return p ? &(*p)->text : nullptr;
}
const List* Value::list() const {
  const auto* p = as<std::shared_ptr<const List>>();
  return p ? p->get() : nullptr;
}
const Dict* Value::dict() const {
  const auto* p = as<std::shared_ptr<const Dict>>();
  return p ? p->get() : nullptr;
}
int64_t Value::integer_or(int64_t otherwise) const {
  if (const auto* i = as<int64_t>()) return *i;
  if (const auto* b = as<bool>()) return *b ? 1 : 0;
  return otherwise;
}
double Value::number() const {
  if (const auto* d = as<double>()) return *d;
  return static_cast<double>(integer_or(0));
}

std::string_view Value::type_name() const {
  if (const List* l = list()) {
    constexpr std::string_view kNames[] = {"list", "tuple", "range", "view", "generator"};
    return kNames[static_cast<size_t>(l->kind)];
  }
  constexpr std::string_view kNames[] = {"none",      "undefined", "boolean", "integer",
                                         "float",     "string",    "list",    "mapping",
                                         "namespace", "loop",      "callable"};
  return kNames[v_.index()];
}

List::List(std::vector<Value> i, ListKind k, int d, Meter* m)
    : items(std::move(i)), kind(k), depth(d), meter(m) {
  meter->hold(list_bytes(items.size()));
}
List::~List() { meter->release(list_bytes(items.size())); }

Dict::Dict(std::vector<Item> i, std::unordered_map<std::string, size_t> x, int d, Meter* m)
    : items(std::move(i)), index(std::move(x)), depth(d), meter(m) {
  meter->hold(dict_bytes(items.size()));
}
Dict::~Dict() { meter->release(dict_bytes(items.size())); }

const Value* Dict::find(const std::string& key) const {
  const auto at = index.find(key);
  return at == index.end() ? nullptr : &items[at->second].second;
}

const Value* Namespace::find(std::string_view name) const {
  for (const auto& [key, value] : attributes)
    if (key == name) return &value;
  return nullptr;
}

Value make_text(Meter& meter, Text text) {
  if (text.overflowed()) meter.exhaust("a string passes 64 MiB");
  meter.spend(text.size() / 16);
  return Value(std::make_shared<const TextObject>(std::move(text), &meter));
}
Value make_text(Meter& meter, std::string_view trusted) {
  return make_text(meter, Text::trusted(trusted));
}

Value make_list(Meter& meter, std::vector<Value> items, ListKind kind) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, depth_of(item));
  if (depth >= kMaxValueDepth) {  // the destructor recurses this deep
    meter.exhaust("its values nest more than 100 deep");
    items.clear();
    depth = 0;
  }
  meter.spend(items.size() / 4);
  return Value(std::make_shared<const List>(std::move(items), kind, depth + 1, &meter));
}

Result<Value> make_dict(Meter& meter, std::vector<Dict::Item> items) {
  std::vector<Dict::Item> unique;
  std::unordered_map<std::string, size_t> index;
  int depth = 0;
  for (auto& [key, value] : items) {
    depth = std::max({depth, depth_of(value), depth_of(key)});
    const auto [at, fresh] = index.try_emplace(TRY(key_of(meter, key)), unique.size());
    if (fresh) {
      unique.emplace_back(std::move(key), std::move(value));
    } else {
      unique[at->second].second = std::move(value);
    }
  }
  if (depth >= kMaxValueDepth) {
    meter.exhaust("its values nest more than 100 deep");
    unique.clear();
    index.clear();
    depth = 0;
  }
  meter.spend(unique.size());
  return Value(
      std::make_shared<const Dict>(std::move(unique), std::move(index), depth + 1, &meter));
}

namespace {

// A role outside this list works too, but what a template spells with it is no control token.
bool is_known_role(const nlohmann::ordered_json& json) {
  constexpr std::string_view kRoles[] = {"assistant",   "bot",           "chatbot", "developer",
                                         "environment", "function",      "human",   "ipython",
                                         "model",       "observation",   "system",  "tool",
                                         "tools",       "tool_response", "user"};
  if (!json.is_string()) return false;
  return std::find(std::begin(kRoles), std::end(kRoles), json.get_ref<const std::string&>()) !=
         std::end(kRoles);
}

Value from_json_at(Meter& meter, const nlohmann::ordered_json& json, Trust trust, int depth) {
  if (depth > kMaxValueDepth) meter.exhaust("the values given nest more than 100 deep");
  if (!meter.spend(1)) return {};
  const auto text = [&](const std::string& s) {
    return make_text(meter, trust == Trust::kTemplate ? Text::trusted(s) : Text::tainted(s));
  };
  using Kind = nlohmann::ordered_json::value_t;
  switch (json.type()) {
    case Kind::boolean:
      return Value::boolean(json.get<bool>());
    case Kind::number_integer:
      return Value::integer(json.get<int64_t>());
    case Kind::number_unsigned: {
      const auto n = json.get<uint64_t>();
      if (n > uint64_t{INT64_MAX}) return Value::real(static_cast<double>(n));
      return Value::integer(static_cast<int64_t>(n));
    }
    case Kind::number_float:
      return Value::real(json.get<double>());
    case Kind::string:
      return text(json.get_ref<const std::string&>());
    case Kind::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const auto& item : json) items.push_back(from_json_at(meter, item, trust, depth + 1));
      return make_list(meter, std::move(items));
    }
    case Kind::object: {
      std::vector<Dict::Item> items;
      items.reserve(json.size());
      for (const auto& [key, item] : json.items()) {
        const bool is_role =
            trust == Trust::kMessages && depth == 1 && key == "role" && is_known_role(item);
        items.emplace_back(
            text(key), from_json_at(meter, item, is_role ? Trust::kTemplate : trust, depth + 1));
      }
      return make_dict(meter, std::move(items)).value();  // string keys are always hashable
    }
    default:
      return {};  // null; binary and discarded have no text form
  }
}

}  // namespace

Value from_json(Meter& meter, const nlohmann::ordered_json& json, Trust trust) {
  return from_json_at(meter, json, trust, 0);
}

Result<std::string> key_of(Meter& meter, const Value& value) {
  if (!meter.spend(1)) return meter.error();
  if (const Text* t = value.text()) {
    meter.spend(t->size() / 16);
    return std::string("s").append(t->bytes());
  }
  if (value.is_none()) return std::string("n");
  if (value.is_integral()) return fmt::format("i{}", value.integer_or(0));
  if (const double* d = value.as<double>()) {
    if (std::trunc(*d) == *d && std::abs(*d) < 0x1p62)
      return fmt::format("i{}", static_cast<int64_t>(*d));
    return fmt::format("f{}", *d);
  }
  if (const List* l = value.list(); l && l->kind == ListKind::kTuple) {
    std::string key = "(";
    for (const Value& item : l->items) {
      const std::string part = TRY(key_of(meter, item));
      key += fmt::format("{}:", part.size()) + part;
      if (key.size() > Text::kMaxBytes) return error(Code::kInvalidArgument, "a key is too long");
    }
    return key;
  }
  return error(Code::kInvalidArgument, "a {} cannot be the key of a mapping", value.type_name());
}

bool truth(const Value& value) {
  if (value.is_none() || value.is_undefined()) return false;
  if (value.is_integral()) return value.integer_or(0) != 0;
  if (const double* d = value.as<double>()) return *d != 0;
  if (const Text* t = value.text()) return !t->empty();
  // A generator is true even when it yields nothing: Python cannot know before asking it.
  if (const List* l = value.list()) return l->kind == ListKind::kGenerator || !l->items.empty();
  if (const Dict* d = value.dict()) return !d->items.empty();
  return true;
}

bool equal(Meter& meter, const Value& a, const Value& b) {
  if (!meter.spend(1)) return false;
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return a.integer_or(0) == b.integer_or(0);
    return a.number() == b.number();
  }
  if (a.get().index() != b.get().index()) return false;
  if (a.is_none() || a.is_undefined()) return true;
  if (const Text* t = a.text()) {
    meter.spend(t->size() / 64);
    return t->bytes() == b.text()->bytes();
  }
  if (const List* x = a.list()) {
    const List* y = b.list();
    if (x == y) return true;
    return x->kind == y->kind && x->items.size() == y->items.size() &&
           std::equal(x->items.begin(), x->items.end(), y->items.begin(),
                      [&](const Value& p, const Value& q) { return equal(meter, p, q); });
  }
  if (const Dict* x = a.dict()) {
    const Dict* y = b.dict();
    if (x == y) return true;
    if (x->items.size() != y->items.size()) return false;
    for (const auto& [key, at] : x->index) {
      const Value* other = y->find(key);
      if (other == nullptr || !equal(meter, x->items[at].second, *other)) return false;
    }
    return true;
  }
  if (const auto* p = a.as<std::shared_ptr<Namespace>>())
    return *p == *b.as<std::shared_ptr<Namespace>>();
  if (const auto* p = a.as<std::shared_ptr<LoopState>>())
    return *p == *b.as<std::shared_ptr<LoopState>>();
  return *a.as<std::shared_ptr<Callable>>() == *b.as<std::shared_ptr<Callable>>();
}

Result<int> compare(Meter& meter, const Value& a, const Value& b) {
  if (!meter.spend(1)) return meter.error();
  const auto sign = [](auto x, auto y) { return x < y ? -1 : (y < x ? 1 : 0); };
  if (a.is_integral() && b.is_integral()) return sign(a.integer_or(0), b.integer_or(0));
  if (a.is_number() && b.is_number()) return sign(a.number(), b.number());
  if (a.text() && b.text()) {
    meter.spend(std::min(a.text()->size(), b.text()->size()) / 64);
    // UTF-8 bytes order as code points do.
    return sign(a.text()->bytes().compare(b.text()->bytes()), 0);
  }
  const List* x = a.list();
  const List* y = b.list();
  if (x && y && x->kind == y->kind) {
    for (size_t i = 0; i < std::min(x->items.size(), y->items.size()); ++i)
      if (!equal(meter, x->items[i], y->items[i])) return compare(meter, x->items[i], y->items[i]);
    return sign(x->items.size(), y->items.size());
  }
  return error(Code::kInvalidArgument, "a {} and a {} have no order", a.type_name(), b.type_name());
}

Result<std::vector<Value>> items_of(Meter& meter, const Value& value) {
  std::vector<Value> items;
  if (value.is_undefined()) return items;
  if (const List* l = value.list()) {
    if (!meter.spend(l->items.size() / 4)) return meter.error();
    return l->items;
  }
  if (const Dict* d = value.dict()) {
    for (const auto& [key, unused] : d->items) items.push_back(key);
    return items;
  }
  if (const Text* t = value.text()) {
    for (size_t i = 0; i < t->size();) {
      const size_t length = char_at(t->bytes(), i).length;
      items.push_back(make_text(meter, t->slice(i, i + length)));
      i += length;
      if (!meter.spend(1)) return meter.error();
    }
    return items;
  }
  return error(Code::kInvalidArgument, "a {} cannot be iterated", value.type_name());
}

Result<bool> contains(Meter& meter, const Value& container, const Value& item) {
  if (const Text* t = container.text()) {
    const Text* part = item.text();
    if (!part)
      return error(Code::kInvalidArgument, "'in' a string needs a string, not a {}",
                   item.type_name());
    meter.spend(t->size() / 16);
    return t->bytes().find(part->bytes()) != std::string::npos;
  }
  if (const Dict* d = container.dict()) return d->find(TRY(key_of(meter, item))) != nullptr;
  if (const List* l = container.list()) {
    return std::any_of(l->items.begin(), l->items.end(),
                       [&](const Value& v) { return equal(meter, v, item); });
  }
  if (container.is_undefined()) return false;
  return error(Code::kInvalidArgument, "'in' cannot look into a {}", container.type_name());
}

}  // namespace venturi::chat
