// Filters over sequences and mappings.
#include <algorithm>

#include "chat/builtins.h"
#include "chat/print.h"
#include "chat/text_ops.h"

namespace venturi::chat {
namespace {

Args rest_of(const Args& args, size_t used) {
  Args rest;
  rest.positional.assign(args.positional.begin() + static_cast<std::ptrdiff_t>(used),
                         args.positional.end());
  rest.named = args.named;
  return rest;
}

// `attribute` of the filters: an index, a name, or names joined by dots.
Result<Value> attribute_of(Meter& meter, const Value& item, const Value& attribute) {
  if (!attribute.text()) return get_item(meter, item, attribute);
  Value value = item;
  const Text dot = Text::trusted(".");
  for (const Text& part : split(*attribute.text(), &dot, -1)) {
    const std::string& name = part.bytes();
    const bool is_index =
        !name.empty() && name.size() < 10 &&
        std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
    value = TRY(get_item(meter, value,
                         is_index ? Value::integer(std::stoll(name)) : make_text(meter, part)));
  }
  return value;
}

Result<Value> attribute_if(Meter& meter, const Value& item, const Value* attribute) {
  if (attribute == nullptr || attribute->is_none()) return item;
  return attribute_of(meter, item, *attribute);
}

// What sorting and uniqueness look at: without case unless asked.
Result<Value> sort_key(Meter& meter, const Value& item, const Value* attribute,
                       bool case_sensitive) {
  Value key = TRY(attribute_if(meter, item, attribute));
  if (case_sensitive || !key.text()) return key;
  return make_text(meter, lower(*key.text()));
}

// For sort, which takes several attributes joined by commas.
Result<Value> sort_keys(Meter& meter, const Value& item, const Value* attributes,
                        bool case_sensitive) {
  const Text comma = Text::trusted(",");
  if (!attributes || !attributes->text()) return sort_key(meter, item, attributes, case_sensitive);
  std::vector<Value> keys;
  for (const Text& part : split(*attributes->text(), &comma, -1)) {
    const Value attribute = make_text(meter, part);
    keys.push_back(TRY(sort_key(meter, item, &attribute, case_sensitive)));
  }
  return make_list(meter, std::move(keys));
}

Status sort_by_keys(Meter& meter, std::vector<std::pair<Value, Value>>& keyed, bool reverse) {
  // The comparison may fail, and a sort that is lied to may read outside: order is checked first.
  for (size_t i = 1; i < keyed.size(); ++i)
    if (auto order = compare(meter, keyed[0].first, keyed[i].first); !order)
      return std::move(order).error();
  std::optional<Error> failed;
  const auto less = [&](const auto& a, const auto& b) {
    if (failed) return false;
    auto order = compare(meter, a.first, b.first);
    if (!order) failed = std::move(order).error();
    return !failed && (reverse ? *order > 0 : *order < 0);
  };
  // A merge sort by hand: it stays inside its arrays whatever the comparison answers.
  std::vector<std::pair<Value, Value>> from = keyed;
  for (size_t width = 1; width < from.size(); width *= 2) {
    std::vector<std::pair<Value, Value>> to;
    to.reserve(from.size());
    for (size_t i = 0; i < from.size(); i += 2 * width) {
      const size_t middle = std::min(i + width, from.size());
      const size_t end = std::min(i + 2 * width, from.size());
      size_t a = i;
      size_t b = middle;
      while (a < middle || b < end) {
        const bool take_b = a >= middle || (b < end && less(from[b], from[a]));
        to.push_back(std::move(from[take_b ? b++ : a++]));
      }
    }
    from = std::move(to);
  }
  if (failed) return std::move(*failed);
  keyed = std::move(from);
  return {};
}

Result<Value> sorted(Meter& meter, std::vector<std::pair<Value, Value>> keyed, bool reverse) {
  if (auto status = sort_by_keys(meter, keyed, reverse); !status) return std::move(status).error();
  std::vector<Value> out;
  for (auto& [key, item] : keyed) out.push_back(std::move(item));
  return make_list(meter, std::move(out));
}

Result<Value> filter_sort(Meter& meter, const Value& value, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "sort", {"reverse", "case_sensitive", "attribute"}));
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : TRY(items_of(meter, value)))
    keyed.emplace_back(TRY(sort_keys(meter, item, a[2], a.flag(1, false))), item);
  return sorted(meter, std::move(keyed), a.flag(0, false));
}

Value pair_of(Meter& meter, const Dict::Item& item) {
  return make_list(meter, {item.first, item.second}, ListKind::kTuple);
}

Result<Value> filter_dictsort(Meter& meter, const Value& value, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "dictsort", {"case_sensitive", "by", "reverse"}));
  const Text by = TRY(a.text(1, "key"));
  if (by.bytes() != "key" && by.bytes() != "value")
    return error(Code::kInvalidArgument, "dictsort: 'by' is \"key\" or \"value\"");
  const Dict* dict = value.dict();
  if (!dict)
    return error(Code::kInvalidArgument, "dictsort needs a mapping, not a {}", value.type_name());
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& item : dict->items) {
    const Value& by_what = by.bytes() == "key" ? item.first : item.second;
    keyed.emplace_back(TRY(sort_key(meter, by_what, nullptr, a.flag(0, false))),
                       pair_of(meter, item));
  }
  return sorted(meter, std::move(keyed), a.flag(2, false));
}

Result<Value> filter_unique(Meter& meter, const Value& value, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "unique", {"case_sensitive", "attribute"}));
  std::unordered_map<std::string, bool> seen;
  std::vector<Value> out;
  for (const Value& item : TRY(items_of(meter, value))) {
    const Value key = TRY(sort_key(meter, item, a[1], a.flag(0, false)));
    if (seen.try_emplace(TRY(key_of(meter, key)), true).second) out.push_back(item);
  }
  return make_list(meter, std::move(out), ListKind::kGenerator);
}

template <int sign>
Result<Value> filter_extreme(Meter& meter, const Value& value, const Args& args) {
  const auto a =
      TRY(BoundArgs::bind(args, sign < 0 ? "min" : "max", {"case_sensitive", "attribute"}));
  const auto items = TRY(items_of(meter, value));
  if (items.empty()) return Value::undefined("the extreme of nothing");
  const Value* best = nullptr;
  Value best_key;
  for (const Value& item : items) {
    const Value key = TRY(sort_key(meter, item, a[1], a.flag(0, false)));
    if (best == nullptr || TRY(compare(meter, key, best_key)) * sign > 0) {
      best = &item;
      best_key = key;
    }
  }
  return *best;
}

Result<Value> filter_first(Meter& meter, const Value& value, const Args&) {
  const auto items = TRY(items_of(meter, value));
  return items.empty() ? Value::undefined("the first of nothing") : items.front();
}

Result<Value> filter_last(Meter& meter, const Value& value, const Args&) {
  if (const List* l = value.list(); l && l->kind == ListKind::kGenerator)
    return error(Code::kInvalidArgument, "last needs a list: put |list before it");
  const auto items = TRY(items_of(meter, value));
  return items.empty() ? Value::undefined("the last of nothing") : items.back();
}

Result<Value> filter_length(Meter& meter, const Value& value, const Args&) {
  if (const Text* t = value.text()) {
    meter.spend(t->size() / 16);
    return Value::integer(static_cast<int64_t>(count_chars(t->bytes())));
  }
  if (const List* l = value.list(); l && l->kind != ListKind::kGenerator)
    return Value::integer(static_cast<int64_t>(l->items.size()));
  if (const Dict* d = value.dict()) return Value::integer(static_cast<int64_t>(d->items.size()));
  if (value.is_undefined()) return Value::integer(0);
  return error(Code::kInvalidArgument, "a {} has no length", value.type_name());
}

Result<Value> filter_list(Meter& meter, const Value& value, const Args&) {
  return make_list(meter, TRY(items_of(meter, value)));
}

Result<Value> filter_reverse(Meter& meter, const Value& value, const Args&) {
  if (const Text* t = value.text()) return make_text(meter, slice_chars(*t, {}, {}, -1));
  auto items = TRY(items_of(meter, value));
  std::reverse(items.begin(), items.end());
  return make_list(meter, std::move(items), ListKind::kGenerator);
}

Result<Value> filter_items(Meter& meter, const Value& value, const Args&) {
  std::vector<Value> out;
  if (const Dict* d = value.dict()) {
    for (const auto& item : d->items) out.push_back(pair_of(meter, item));
  } else if (!value.is_undefined()) {
    return error(Code::kInvalidArgument, "items needs a mapping, not a {}", value.type_name());
  }
  return make_list(meter, std::move(out), ListKind::kGenerator);
}

Result<Value> filter_join(Meter& meter, const Value& value, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "join", {"d", "attribute"}));
  const Text separator = a[0] ? to_text(meter, *a[0]) : Text();
  Text out;
  bool first = true;
  for (const Value& item : TRY(items_of(meter, value))) {
    if (!std::exchange(first, false)) out.append(separator);
    out.append(to_text(meter, TRY(attribute_if(meter, item, a[1]))));
    if (out.overflowed() || !meter.spend(1)) break;
  }
  return make_text(meter, std::move(out));
}

Result<Value> filter_sum(Meter& meter, const Value& value, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "sum", {"attribute", "start"}));
  Value total = a[1] ? *a[1] : Value::integer(0);
  for (const Value& item : TRY(items_of(meter, value))) {
    const Value x = TRY(attribute_if(meter, item, a[0]));
    if (!x.is_number() || !total.is_number())
      return error(Code::kInvalidArgument, "sum adds numbers, not a {}", x.type_name());
    int64_t sum = 0;
    if (!x.is_integral() || !total.is_integral()) {
      total = Value::real(total.number() + x.number());
    } else if (__builtin_add_overflow(total.integer_or(0), x.integer_or(0), &sum)) {
      return error(Code::kInvalidArgument, "sum passes 64 bits");
    } else {
      total = Value::integer(sum);
    }
  }
  return total;
}

// map and select take none, false and 0 for nothing, as Jinja does.
Result<std::vector<Value>> items_if_true(Meter& meter, const Value& value) {
  if (!truth(value)) return std::vector<Value>();
  return items_of(meter, value);
}

// map('filter', args…) or map(attribute=name, default=value)
Result<Value> filter_map(Meter& meter, const Value& value, const Args& args) {
  std::vector<Value> out;
  const auto items = TRY(items_if_true(meter, value));
  if (args.positional.empty()) {
    const auto a = TRY(BoundArgs::bind(args, "map", {"attribute", "default"}));
    if (!a[0]) return error(Code::kInvalidArgument, "map needs a filter's name or 'attribute'");
    for (const Value& item : items) {
      Value x = TRY(attribute_of(meter, item, *a[0]));
      out.push_back(x.is_undefined() && a[1] ? *a[1] : std::move(x));
    }
  } else {
    const Text* name = args.positional[0].text();
    const Filter filter = name ? find_filter(name->bytes()) : nullptr;
    if (!filter)
      return error(Code::kInvalidArgument, "map: there is no filter '{}'",
                   name ? name->bytes() : "");
    const Args rest = rest_of(args, 1);
    for (const Value& item : items) {
      if (!meter.spend(1)) return meter.error();
      out.push_back(TRY(filter(meter, item, rest)));
    }
  }
  return make_list(meter, std::move(out), ListKind::kGenerator);
}

// select, reject ([test, args…]) and selectattr, rejectattr (attribute [, test, args…])
template <bool keep, bool by_attribute>
Result<Value> filter_select(Meter& meter, const Value& value, const Args& args) {
  constexpr size_t kFirst = by_attribute ? 1 : 0;
  if (args.positional.size() < kFirst)
    return error(Code::kInvalidArgument, "selectattr and rejectattr need an attribute");
  Test test = nullptr;
  Args rest;
  if (args.positional.size() > kFirst) {
    const Text* name = args.positional[kFirst].text();
    test = name ? find_test(name->bytes()) : nullptr;
    if (!test)
      return error(Code::kInvalidArgument, "there is no test '{}'", name ? name->bytes() : "");
    rest = rest_of(args, kFirst + 1);
  }
  std::vector<Value> out;
  for (const Value& item : TRY(items_if_true(meter, value))) {
    if (!meter.spend(1)) return meter.error();
    Value x = item;
    if (by_attribute) x = TRY(attribute_of(meter, item, args.positional[0]));
    const bool passes = test ? TRY(test(meter, x, rest)) : truth(x);
    if (passes == keep) out.push_back(item);
  }
  return make_list(meter, std::move(out), ListKind::kGenerator);
}

Result<Value> filter_batch(Meter& meter, const Value& value, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "batch", {"linecount", "fill_with"}));
  const int64_t size = TRY(a.integer(0, 0));
  if (size < 1 || size > 1'000'000)
    return error(Code::kInvalidArgument, "batch needs a size from 1");
  std::vector<Value> out;
  std::vector<Value> line;
  for (const Value& item : TRY(items_of(meter, value))) {
    if (static_cast<int64_t>(line.size()) == size)
      out.push_back(make_list(meter, std::exchange(line, {})));
    line.push_back(item);
  }
  if (!line.empty()) {
    if (a.given(1)) line.resize(static_cast<size_t>(size), *a[1]);
    out.push_back(make_list(meter, std::move(line)));
  }
  return make_list(meter, std::move(out), ListKind::kGenerator);
}

Result<Value> filter_slice(Meter& meter, const Value& value, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "slice", {"slices", "fill_with"}));
  const int64_t n = TRY(a.integer(0, 0));
  if (n < 1 || n > 100'000)
    return error(Code::kInvalidArgument, "slice needs a count from 1 to 100000");
  const auto items = TRY(items_of(meter, value));
  const auto slices = static_cast<size_t>(n);
  const size_t each = items.size() / slices;
  const size_t longer = items.size() % slices;
  std::vector<Value> out;
  auto at = items.begin();
  for (size_t i = 0; i < slices; ++i) {
    const auto end = at + static_cast<std::ptrdiff_t>(each + (i < longer ? 1 : 0));
    std::vector<Value> part(at, end);
    if (a.given(1) && i >= longer) part.push_back(*a[1]);
    out.push_back(make_list(meter, std::move(part)));
    at = end;
  }
  return make_list(meter, std::move(out), ListKind::kGenerator);
}

Result<Value> filter_attr(Meter& meter, const Value& value, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "attr", {"name"}));
  const Text name = TRY(a.text(0, ""));
  if (value.dict()) return Value::undefined(name.bytes());  // attr never looks at items
  return get_attribute(meter, value, name.bytes());
}

}  // namespace

std::initializer_list<FilterEntry> sequence_filters() {
  static const std::initializer_list<FilterEntry> table = {
      {"attr", filter_attr},
      {"batch", filter_batch},
      {"count", filter_length},
      {"dictsort", filter_dictsort},
      {"first", filter_first},
      {"items", filter_items},
      {"join", filter_join},
      {"last", filter_last},
      {"length", filter_length},
      {"list", filter_list},
      {"map", filter_map},
      {"max", filter_extreme<1>},
      {"min", filter_extreme<-1>},
      {"reject", filter_select<false, false>},
      {"rejectattr", filter_select<false, true>},
      {"reverse", filter_reverse},
      {"select", filter_select<true, false>},
      {"selectattr", filter_select<true, true>},
      {"slice", filter_slice},
      {"sort", filter_sort},
      {"sum", filter_sum},
      {"unique", filter_unique},
  };
  return table;
}

}  // namespace venturi::chat
