// Tests: value is name(args).
#include <cmath>
#include <map>

#include "chat/builtins.h"
#include "chat/print.h"
#include "chat/text_ops.h"

namespace venturi::chat {
namespace {

Result<const Value*> only_arg(const Args& args, std::string_view test) {
  if (args.positional.size() != 1 || !args.named.empty())
    return error(Code::kInvalidArgument, "the test '{}' needs one argument", test);
  return &args.positional[0];
}

template <typename Accept>
Result<bool> ordered(Meter& meter, const Value& value, const Args& args, Accept accept) {
  return accept(TRY(compare(meter, value, *TRY(only_arg(args, "of order")))));
}

Result<bool> is_divisible(Meter&, const Value& value, const Args& args) {
  const Value* by = TRY(only_arg(args, "divisibleby"));
  if (!value.is_number() || !by->is_number() || by->number() == 0)
    return error(Code::kInvalidArgument, "divisibleby needs two numbers, the second not 0");
  if (!value.is_integral() || !by->is_integral())
    return std::fmod(value.number(), by->number()) == 0;
  return by->integer_or(0) == -1 || value.integer_or(0) % by->integer_or(0) == 0;
}

template <int64_t remainder>
Result<bool> is_parity(Meter&, const Value& value, const Args&) {
  if (!value.is_integral())
    return error(Code::kInvalidArgument, "odd and even need an integer, not a {}",
                 value.type_name());
  return (value.integer_or(0) & 1) == remainder;
}

Result<bool> is_equal(Meter& meter, const Value& value, const Args& args) {
  return equal(meter, value, *TRY(only_arg(args, "eq")));
}
Result<bool> is_not_equal(Meter& meter, const Value& value, const Args& args) {
  return !equal(meter, value, *TRY(only_arg(args, "ne")));
}
Result<bool> is_in(Meter& meter, const Value& value, const Args& args) {
  return contains(meter, *TRY(only_arg(args, "in")), value);
}
Result<bool> is_sequence(Meter&, const Value& value, const Args&) {
  const List* l = value.list();
  return value.text() || value.dict() || value.is_undefined() || (l && l->kind <= ListKind::kRange);
}
Result<bool> is_iterable(Meter&, const Value& value, const Args&) {
  return value.text() || value.dict() || value.list() || value.is_undefined();
}
Result<bool> is_callable(Meter&, const Value& value, const Args&) {
  return value.is<std::shared_ptr<Callable>>();
}
Result<bool> is_same(Meter& meter, const Value& value, const Args& args) {
  const Value* other = TRY(only_arg(args, "sameas"));
  if (value.text() || value.list() || value.dict())
    return value.text() == other->text() && value.list() == other->list() &&
           value.dict() == other->dict();
  return value.get().index() == other->get().index() && equal(meter, value, *other);
}

// All letters that have a case have this one, and there is such a letter.
template <bool wants_upper>
Result<bool> is_cased(Meter& meter, const Value& value, const Args&) {
  const Text text = to_text(meter, value);
  bool found = false;
  for (size_t i = 0; i < text.size();) {
    const Char c = char_at(text.bytes(), i);
    i += c.length;
    if (wants_upper ? is_lower(c.code) : is_upper(c.code)) return false;
    found |= wants_upper ? is_upper(c.code) : is_lower(c.code);
  }
  return found;
}

}  // namespace

Test find_test(std::string_view name) {
  using V = const Value&;
  using A = const Args&;
  static const std::map<std::string_view, Test> table = {
      {"boolean", [](Meter&, V v, A) -> Result<bool> { return v.is_bool(); }},
      {"callable", is_callable},
      {"defined", [](Meter&, V v, A) -> Result<bool> { return !v.is_undefined(); }},
      {"divisibleby", is_divisible},
      {"eq", is_equal},
      {"equalto", is_equal},
      {"even", is_parity<0>},
      {"false", [](Meter&, V v, A) -> Result<bool> { return v.is_bool() && !truth(v); }},
      {"filter",
       [](Meter&, V v, A) -> Result<bool> { return v.text() && find_filter(v.text()->bytes()); }},
      {"float", [](Meter&, V v, A) -> Result<bool> { return v.is<double>(); }},
      {"ge", [](Meter& m, V v, A a) { return ordered(m, v, a, [](int c) { return c >= 0; }); }},
      {"gt", [](Meter& m, V v, A a) { return ordered(m, v, a, [](int c) { return c > 0; }); }},
      {"greaterthan",
       [](Meter& m, V v, A a) { return ordered(m, v, a, [](int c) { return c > 0; }); }},
      {"in", is_in},
      {"integer", [](Meter&, V v, A) -> Result<bool> { return v.is<int64_t>(); }},
      {"iterable", is_iterable},
      {"le", [](Meter& m, V v, A a) { return ordered(m, v, a, [](int c) { return c <= 0; }); }},
      {"lessthan",
       [](Meter& m, V v, A a) { return ordered(m, v, a, [](int c) { return c < 0; }); }},
      {"lower", is_cased<false>},
      {"lt", [](Meter& m, V v, A a) { return ordered(m, v, a, [](int c) { return c < 0; }); }},
      {"mapping", [](Meter&, V v, A) -> Result<bool> { return v.dict() != nullptr; }},
      {"ne", is_not_equal},
      {"none", [](Meter&, V v, A) -> Result<bool> { return v.is_none(); }},
      {"number", [](Meter&, V v, A) -> Result<bool> { return v.is_number(); }},
      {"odd", is_parity<1>},
      {"sameas", is_same},
      {"sequence", is_sequence},
      {"string", [](Meter&, V v, A) -> Result<bool> { return v.text() != nullptr; }},
      {"test",
       [](Meter&, V v, A) -> Result<bool> { return v.text() && find_test(v.text()->bytes()); }},
      {"true", [](Meter&, V v, A) -> Result<bool> { return v.is_bool() && truth(v); }},
      {"undefined", [](Meter&, V v, A) -> Result<bool> { return v.is_undefined(); }},
      {"upper", is_cased<true>},
  };
  const auto at = table.find(name);
  return at == table.end() ? nullptr : at->second;
}

}  // namespace venturi::chat
