#include "chat/builtins.h"

#include <algorithm>
#include <map>

#include "chat/print.h"

namespace venturi::chat {

Filter find_filter(std::string_view name) {
  static const std::map<std::string_view, Filter> table = [] {
    std::map<std::string_view, Filter> t;
    for (const auto& entry : text_filters()) t.emplace(entry.name, entry.filter);
    for (const auto& entry : sequence_filters()) t.emplace(entry.name, entry.filter);
    return t;
  }();
  const auto at = table.find(name);
  return at == table.end() ? nullptr : at->second;
}

Result<BoundArgs> BoundArgs::bind(const Args& args, std::string_view function,
                                  std::initializer_list<std::string_view> names) {
  BoundArgs bound;
  bound.function_ = function;
  std::copy(names.begin(), names.end(), bound.names_);
  if (args.positional.size() > names.size())
    return error(Code::kInvalidArgument, "{} takes at most {} arguments, {} given", function,
                 names.size(), args.positional.size());
  for (size_t i = 0; i < args.positional.size(); ++i) bound.values_[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    size_t i = 0;
    while (i < names.size() && names.begin()[i] != name) ++i;
    if (i == names.size())
      return error(Code::kInvalidArgument, "{} has no argument '{}'", function, name);
    if (bound.values_[i] != nullptr)
      return error(Code::kInvalidArgument, "{} is given '{}' twice", function, name);
    bound.values_[i] = &value;
  }
  return bound;
}

Result<int64_t> BoundArgs::integer(size_t i, int64_t otherwise) const {
  if (!given(i)) return otherwise;
  if (!values_[i]->is_integral())
    return error(Code::kInvalidArgument, "{}: '{}' must be an integer, not a {}", function_,
                 names_[i], values_[i]->type_name());
  return values_[i]->integer_or(0);
}

Result<Text> BoundArgs::text(size_t i, std::string_view otherwise) const {
  if (values_[i] == nullptr) return Text::trusted(otherwise);
  if (const Text* t = values_[i]->text()) return *t;
  return error(Code::kInvalidArgument, "{}: '{}' must be a string, not a {}", function_, names_[i],
               values_[i]->type_name());
}

Result<Value> get_item(Meter& meter, const Value& value, const Value& key) {
  if (value.is_undefined())
    return error(Code::kInvalidArgument, "{} is undefined, so it has no items",
                 *value.as<Undefined>()->what);
  if (const Dict* d = value.dict()) {
    if (const auto hash = key_of(meter, key); hash.ok()) {
      if (const Value* item = d->find(*hash)) return *item;
    }
  } else if (key.is_integral()) {
    int64_t i = key.integer_or(0);
    if (const List* l = value.list(); l && l->kind <= ListKind::kRange) {
      const auto size = static_cast<int64_t>(l->items.size());
      if (i < 0) i += size;
      if (i >= 0 && i < size) return l->items[static_cast<size_t>(i)];
    } else if (const Text* t = value.text()) {
      meter.spend(t->size() / 8);
      const bool ascii = is_ascii(t->bytes());
      const std::vector<size_t> at = ascii ? std::vector<size_t>() : char_offsets(t->bytes());
      const auto size = static_cast<int64_t>(ascii ? t->size() : at.size() - 1);
      if (i < 0) i += size;
      if (i >= 0 && i < size) {
        const auto k = static_cast<size_t>(i);
        return make_text(meter, ascii ? t->slice(k, k + 1) : t->slice(at[k], at[k + 1]));
      }
    }
  }
  if (const Text* name = key.text(); name && !value.dict())
    return get_attribute(meter, value, name->bytes());
  return Value::undefined(fmt::format("an item of a {}", value.type_name()));
}

}  // namespace venturi::chat
