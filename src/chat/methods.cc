// Attributes and methods of values: what Python's str, list, tuple and dict offer that changes
// nothing. Those that would change a value exist only to say so.
#include <algorithm>
#include <map>

#include "chat/builtins.h"
#include "chat/print.h"
#include "chat/text_ops.h"

namespace venturi::chat {
namespace {

using Method = Result<Value> (*)(Meter& meter, const Value& self, const Args& args);

struct BoundMethod : Callable {
  BoundMethod(Meter& m, Value s, Method f) : meter(m), self(std::move(s)), method(f) {}
  Result<Value> call(const Args& args) override { return method(meter, self, args); }
  Meter& meter;
  Value self;
  Method method;
};

Value list_of(Meter& meter, std::vector<Text> texts, ListKind kind = ListKind::kList) {
  std::vector<Value> items;
  items.reserve(texts.size());
  for (Text& text : texts) items.push_back(make_text(meter, std::move(text)));
  return make_list(meter, std::move(items), kind);
}

using TextFunction = Text (*)(const Text&);
template <TextFunction function>
Result<Value> plain(Meter& meter, const Value& self, const Args& args) {
  TRY(BoundArgs::bind(args, "this method", {}));
  return make_text(meter, function(*self.text()));
}

template <bool left, bool right>
Result<Value> text_strip(Meter& meter, const Value& self, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "strip", {"chars"}));
  const Text chars = a.given(0) ? TRY(a.text(0, "")) : Text();
  return make_text(meter, strip(*self.text(), a.given(0) ? &chars : nullptr, left, right));
}

template <bool from_right>
Result<Value> text_split(Meter& meter, const Value& self, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "split", {"sep", "maxsplit"}));
  const Text separator = a.given(0) ? TRY(a.text(0, "")) : Text();
  if (a.given(0) && separator.empty())
    return error(Code::kInvalidArgument, "split: an empty separator");
  const int64_t limit = TRY(a.integer(1, -1));
  const Text* sep = a.given(0) ? &separator : nullptr;
  return list_of(meter, from_right ? split_from_right(*self.text(), sep, limit)
                                   : split(*self.text(), sep, limit));
}

Result<Value> text_splitlines(Meter& meter, const Value& self, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "splitlines", {"keepends"}));
  return list_of(meter, split_lines(*self.text(), a.flag(0, false)));
}

template <bool from_right>
Result<Value> text_partition(Meter& meter, const Value& self, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "partition", {"sep"}));
  const Text sep = TRY(a.text(0, ""));
  if (sep.empty()) return error(Code::kInvalidArgument, "partition: an empty separator");
  const Text& t = *self.text();
  const size_t at =
      from_right ? rfind_bytes(t.bytes(), sep.bytes()) : find_bytes(t.bytes(), sep.bytes(), 0);
  std::vector<Text> parts = {t.slice(0, at), sep,
                             at < t.size() ? t.slice(at + sep.size(), t.size()) : Text()};
  if (at == std::string::npos) parts = {t, Text(), Text()};
  if (at == std::string::npos && from_right) std::swap(parts[0], parts[2]);
  return list_of(meter, std::move(parts), ListKind::kTuple);
}

template <bool at_end>
Result<Value> text_starts(Meter&, const Value& self, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, at_end ? "endswith" : "startswith", {"prefix"}));
  if (!a[0]) return error(Code::kInvalidArgument, "startswith and endswith need a string");
  const std::string_view s = self.text()->bytes();
  const auto fits = [&](const Value& v) -> Result<bool> {
    if (!v.text())
      return error(Code::kInvalidArgument, "startswith and endswith need strings, not a {}",
                   v.type_name());
    return at_end ? s.ends_with(v.text()->bytes()) : s.starts_with(v.text()->bytes());
  };
  const List* many = a[0]->list();
  if (!many || many->kind != ListKind::kTuple) return Value::boolean(TRY(fits(*a[0])));
  for (const Value& one : many->items)
    if (TRY(fits(one))) return Value::boolean(true);
  return Value::boolean(false);
}

Result<Value> text_replace(Meter& meter, const Value& self, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "replace", {"old", "new", "count"}));
  if (!a[0] || !a[1]) return error(Code::kInvalidArgument, "replace needs two strings");
  const Text from = TRY(a.text(0, ""));
  const Text to = TRY(a.text(1, ""));
  return make_text(meter, replace(*self.text(), from, to, TRY(a.integer(2, -1))));
}

Result<Value> text_join(Meter& meter, const Value& self, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "join", {"iterable"}));
  if (!a[0]) return error(Code::kInvalidArgument, "join needs a sequence");
  Text out;
  bool first = true;
  for (const Value& item : TRY(items_of(meter, *a[0]))) {
    if (!item.text())
      return error(Code::kInvalidArgument, "join needs strings, not a {}", item.type_name());
    if (!std::exchange(first, false)) out.append(*self.text());
    out.append(*item.text());
    if (out.overflowed() || !meter.spend(1)) break;
  }
  return make_text(meter, std::move(out));
}

enum class Seek { kFind, kRfind, kIndex };
template <Seek seek>
Result<Value> text_find(Meter& meter, const Value& self, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "find", {"sub"}));
  const Text part = TRY(a.text(0, ""));
  const std::string_view s = self.text()->bytes();
  meter.spend(s.size() / 16);
  const size_t at =
      seek == Seek::kRfind ? rfind_bytes(s, part.bytes()) : find_bytes(s, part.bytes(), 0);
  if (at != std::string::npos)
    return Value::integer(static_cast<int64_t>(count_chars(s.substr(0, at))));
  if (seek == Seek::kIndex)
    return error(Code::kInvalidArgument, "index: the substring is not found");
  return Value::integer(-1);
}

Result<Value> text_count(Meter& meter, const Value& self, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "count", {"sub"}));
  const Text part = TRY(a.text(0, ""));
  const std::string_view s = self.text()->bytes();
  meter.spend(s.size() / 16);
  if (part.empty()) return Value::integer(static_cast<int64_t>(count_chars(s)) + 1);
  int64_t count = 0;
  for (size_t at = find_bytes(s, part.bytes(), 0); at != std::string::npos;
       at = find_bytes(s, part.bytes(), at + part.size()))
    ++count;
  return Value::integer(count);
}

template <bool at_end>
Result<Value> text_remove(Meter& meter, const Value& self, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "removeprefix", {"prefix"}));
  const Text part = TRY(a.text(0, ""));
  const Text& t = *self.text();
  if (at_end && t.bytes().ends_with(part.bytes()))
    return make_text(meter, t.slice(0, t.size() - part.size()));
  if (!at_end && t.bytes().starts_with(part.bytes()))
    return make_text(meter, t.slice(part.size(), t.size()));
  return self;
}

template <bool left, bool right>
Result<Value> text_pad(Meter& meter, const Value& self, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "center, ljust or rjust", {"width", "fillchar"}));
  const Text fill = TRY(a.text(1, " "));
  if (count_chars(fill.bytes()) != 1)
    return error(Code::kInvalidArgument, "the fill is one character");
  return make_text(meter, pad(*self.text(), TRY(a.integer(0, 0)), fill, left, right));
}

Result<Value> text_zfill(Meter& meter, const Value& self, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "zfill", {"width"}));
  const int64_t width = TRY(a.integer(0, 0));
  const Text& t = *self.text();
  const size_t sign = !t.empty() && (t.bytes()[0] == '-' || t.bytes()[0] == '+') ? 1 : 0;
  Text out = t.slice(0, sign);
  out.append(pad(t.slice(sign, t.size()), width - static_cast<int64_t>(sign), Text::trusted("0"),
                 true, false));
  return make_text(meter, std::move(out));
}

using CharTest = bool (*)(uint32_t);
bool is_alphanumeric(uint32_t c) { return is_alpha(c) || is_digit(c); }
template <CharTest test>
Result<Value> text_all(Meter& meter, const Value& self, const Args&) {
  const std::string_view s = self.text()->bytes();
  meter.spend(s.size() / 16);
  for (size_t i = 0; i < s.size();) {
    const Char c = char_at(s, i);
    if (!c.valid || !test(c.code)) return Value::boolean(false);
    i += c.length;
  }
  return Value::boolean(!s.empty());
}

template <bool is_upper_case>
Result<Value> text_cased(Meter& meter, const Value& self, const Args& args) {
  return Value::boolean(TRY(find_test(is_upper_case ? "upper" : "lower")(meter, self, args)));
}

Result<Value> text_format(Meter& meter, const Value& self, const Args& args) {
  return format_braces(meter, *self.text(), args);
}

Result<Value> dict_get(Meter& meter, const Value& self, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "get", {"key", "default"}));
  if (!a[0]) return error(Code::kInvalidArgument, "get needs a key");
  const Value* found = self.dict()->find(TRY(key_of(meter, *a[0])));
  return found ? *found : (a[1] ? *a[1] : Value());
}

enum class Part { kKeys, kValues, kItems };
template <Part part>
Result<Value> dict_view(Meter& meter, const Value& self, const Args& args) {
  TRY(BoundArgs::bind(args, "keys, values or items", {}));
  std::vector<Value> out;
  for (const auto& [key, value] : self.dict()->items)
    out.push_back(part == Part::kItems ? make_list(meter, {key, value}, ListKind::kTuple)
                                       : (part == Part::kKeys ? key : value));
  return make_list(meter, std::move(out), ListKind::kView);
}

Result<Value> copied(Meter&, const Value& self, const Args&) {
  return self;
}  // values never change

Result<Value> list_count(Meter& meter, const Value& self, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "count", {"value"}));
  if (!a[0]) return error(Code::kInvalidArgument, "count needs a value");
  const auto& items = self.list()->items;
  return Value::integer(std::count_if(items.begin(), items.end(),
                                      [&](const Value& v) { return equal(meter, v, *a[0]); }));
}

Result<Value> list_index(Meter& meter, const Value& self, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "index", {"value"}));
  if (!a[0]) return error(Code::kInvalidArgument, "index needs a value");
  const auto& items = self.list()->items;
  for (size_t i = 0; i < items.size(); ++i)
    if (equal(meter, items[i], *a[0])) return Value::integer(static_cast<int64_t>(i));
  return error(Code::kInvalidArgument, "index: the value is not in the list");
}

Result<Value> would_change(Meter&, const Value& self, const Args&) {
  return error(Code::kInvalidArgument,
               "a template may not change a {}: make a new one, or use a namespace",
               self.type_name());
}

using Methods = std::map<std::string_view, Method>;

const Methods& text_methods() {
  static const Methods table = {
      {"capitalize", plain<capitalize>},
      {"casefold", plain<lower>},
      {"center", text_pad<true, true>},
      {"count", text_count},
      {"endswith", text_starts<true>},
      {"find", text_find<Seek::kFind>},
      {"format", text_format},
      {"index", text_find<Seek::kIndex>},
      {"isalnum", text_all<is_alphanumeric>},
      {"isalpha", text_all<is_alpha>},
      {"isdecimal", text_all<is_digit>},
      {"isdigit", text_all<is_digit>},
      {"islower", text_cased<false>},
      {"isnumeric", text_all<is_digit>},
      {"isspace", text_all<is_space>},
      {"isupper", text_cased<true>},
      {"join", text_join},
      {"ljust", text_pad<false, true>},
      {"lower", plain<lower>},
      {"lstrip", text_strip<true, false>},
      {"partition", text_partition<false>},
      {"removeprefix", text_remove<false>},
      {"removesuffix", text_remove<true>},
      {"replace", text_replace},
      {"rfind", text_find<Seek::kRfind>},
      {"rjust", text_pad<true, false>},
      {"rpartition", text_partition<true>},
      {"rsplit", text_split<true>},
      {"rstrip", text_strip<false, true>},
      {"split", text_split<false>},
      {"splitlines", text_splitlines},
      {"startswith", text_starts<false>},
      {"strip", text_strip<true, true>},
      {"swapcase", plain<swap_case>},
      {"title", plain<title>},
      {"upper", plain<upper>},
      {"zfill", text_zfill},
  };
  return table;
}

const Methods& list_methods() {
  static const Methods table = {
      {"append", would_change},  {"clear", would_change},  {"copy", copied},
      {"count", list_count},     {"extend", would_change}, {"index", list_index},
      {"insert", would_change},  {"pop", would_change},    {"remove", would_change},
      {"reverse", would_change}, {"sort", would_change},
  };
  return table;
}

const Methods& dict_methods() {
  static const Methods table = {
      {"clear", would_change},
      {"copy", copied},
      {"get", dict_get},
      {"items", dict_view<Part::kItems>},
      {"keys", dict_view<Part::kKeys>},
      {"pop", would_change},
      {"popitem", would_change},
      {"setdefault", would_change},
      {"update", would_change},
      {"values", dict_view<Part::kValues>},
  };
  return table;
}

}  // namespace

Result<Value> get_attribute(Meter& meter, const Value& value, std::string_view name) {
  if (value.is_undefined())
    return error(Code::kInvalidArgument, "{} is undefined, so it has no '{}'",
                 *value.as<Undefined>()->what, name);
  const Methods* methods = nullptr;
  if (value.text()) methods = &text_methods();
  if (const List* l = value.list(); l && l->kind <= ListKind::kTuple) {
    methods = &list_methods();
    if (l->kind == ListKind::kTuple && name != "count" && name != "index") methods = nullptr;
  }
  if (value.dict()) methods = &dict_methods();
  if (methods) {
    if (const auto at = methods->find(name); at != methods->end())
      return Value(
          std::shared_ptr<Callable>(std::make_shared<BoundMethod>(meter, value, at->second)));
  }
  if (const Dict* d = value.dict())
    if (const Value* item = d->find_text(name)) return *item;
  if (const auto* space = value.as<std::shared_ptr<Namespace>>())
    if (const Value* attribute = (*space)->find(name)) return *attribute;
  return Value::undefined(fmt::format("'{}' of a {}", name, value.type_name()));
}

}  // namespace venturi::chat
