#include <cmath>

#include "chat/builtins.h"
#include "chat/evaluator.h"
#include "chat/parser.h"
#include "chat/print.h"
#include "chat/text_ops.h"

namespace venturi::chat {

// What a filter, test or method may read costs steps, since it may read it all.
void Evaluator::charge_inputs(const Value& value, const Args& args) {
  const auto charge = [&](const Value& v) {
    if (const Text* t = v.text()) meter_.spend(t->size() / 16);
  };
  charge(value);
  for (const Value& v : args.positional) charge(v);
  for (const auto& [name, v] : args.named) charge(v);
}

Result<Value> Evaluator::evaluate(const Expr& expr) {
  const Nesting nesting(depth_);
  if (depth_ > limits_.depth)
    return located(expr.offset,
                   error(Code::kInvalidArgument, "expressions and calls nest more than {} deep",
                         limits_.depth));
  if (!meter_.spend(1)) return located(expr.offset, meter_.error());
  auto value = evaluate_kind(expr);
  if (!value) return located(expr.offset, std::move(value).error());
  return value;
}

Result<Value> Evaluator::evaluate_kind(const Expr& expr) {
  switch (expr.kind) {
    case ExprKind::kConstant:
      return expr.constant;
    case ExprKind::kName:
      return look_up(expr.name);
    case ExprKind::kList:
    case ExprKind::kTuple: {
      std::vector<Value> items;
      for (const ExprPtr& child : expr.children) items.push_back(TRY(evaluate(*child)));
      return make_list(meter_, std::move(items),
                       expr.kind == ExprKind::kList ? ListKind::kList : ListKind::kTuple);
    }
    case ExprKind::kDict:
      return evaluate_mapping(expr);
    case ExprKind::kAttribute:
      return evaluate_attribute(expr);
    case ExprKind::kItem: {
      const Value owner = TRY(evaluate(*expr.children[0]));
      const Value key = TRY(evaluate(*expr.children[1]));
      const auto* loop = owner.as<std::shared_ptr<LoopState>>();
      if (loop && key.text()) return loop_attribute(*loop, key.text()->bytes());
      return get_item(meter_, owner, key);
    }
    case ExprKind::kSlice:
      return evaluate_slice(expr);
    case ExprKind::kCall:
      return evaluate_call(expr, nullptr);
    case ExprKind::kFilter:
      return evaluate_filter(expr);
    case ExprKind::kTest:
      return evaluate_test(expr);
    case ExprKind::kUnary:
      return evaluate_unary(expr);
    case ExprKind::kBinary:
      return evaluate_binary(expr);
    case ExprKind::kCompare:
      return evaluate_compare(expr);
    case ExprKind::kAnd:
    case ExprKind::kOr: {
      Value value;
      for (const ExprPtr& child : expr.children) {
        value = TRY(evaluate(*child));
        if (truth(value) == (expr.kind == ExprKind::kOr)) break;
      }
      return value;
    }
    case ExprKind::kConcat:
      return evaluate_concat(expr);
    case ExprKind::kConditional: {
      if (truth(TRY(evaluate(*expr.children[1])))) return evaluate(*expr.children[0]);
      if (expr.children[2]) return evaluate(*expr.children[2]);
      return Value::undefined("an inline if without else");
    }
  }
  return Value();
}

Result<Value> Evaluator::evaluate_mapping(const Expr& expr) {
  std::vector<Dict::Item> items;
  for (size_t i = 0; i < expr.children.size(); i += 2) {
    Value key = TRY(evaluate(*expr.children[i]));
    Value value = TRY(evaluate(*expr.children[i + 1]));
    items.emplace_back(std::move(key), std::move(value));
  }
  return make_dict(meter_, std::move(items));
}

Result<Value> Evaluator::loop_attribute(const std::shared_ptr<LoopState>& loop,
                                        std::string_view name) {
  const auto& items = *loop->items;
  const size_t i = loop->index;
  const auto number = [](size_t n) { return Value::integer(static_cast<int64_t>(n)); };
  if (name == "index") return number(i + 1);
  if (name == "index0") return number(i);
  if (name == "first") return Value::boolean(i == 0);
  if (name == "last") return Value::boolean(i + 1 == items.size());
  if (name == "length") return number(items.size());
  if (name == "revindex") return number(items.size() - i);
  if (name == "revindex0") return number(items.size() - i - 1);
  if (name == "depth") return number(static_cast<size_t>(loop->depth));
  if (name == "depth0") return number(static_cast<size_t>(loop->depth - 1));
  if (name == "previtem" && i > 0) return items[i - 1];
  if (name == "nextitem" && i + 1 < items.size()) return items[i + 1];
  if (name == "cycle") {
    return Value(std::shared_ptr<Callable>(
        std::make_shared<Function>([i](const Args& args) -> Result<Value> {
          if (args.positional.empty()) return error(Code::kInvalidArgument, "cycle needs values");
          return args.positional[i % args.positional.size()];
        })));
  }
  return Value::undefined(fmt::format("'{}' of a loop", name));
}

Result<Value> Evaluator::evaluate_attribute(const Expr& expr) {
  const Value owner = TRY(evaluate(*expr.children[0]));
  if (const auto* loop = owner.as<std::shared_ptr<LoopState>>())
    return loop_attribute(*loop, expr.name);
  return get_attribute(meter_, owner, expr.name);
}

Result<Value> Evaluator::evaluate_slice(const Expr& expr) {
  const Value owner = TRY(evaluate(*expr.children[0]));
  std::optional<int64_t> bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    if (!expr.children[i + 1]) continue;
    const Value bound = TRY(evaluate(*expr.children[i + 1]));
    if (bound.is_none()) continue;
    if (!bound.is_integral())
      return error(Code::kInvalidArgument, "a slice needs integers, not a {}", bound.type_name());
    bounds[i] = bound.integer_or(0);
  }
  const int64_t step = bounds[2].value_or(1);
  if (step == 0) return error(Code::kInvalidArgument, "a slice's step is 0");
  if (const Text* t = owner.text()) {
    meter_.spend(t->size() / 16);
    return make_text(meter_, slice_chars(*t, bounds[0], bounds[1], step));
  }
  const List* l = owner.list();
  if (!l || l->kind > ListKind::kRange) {
    if (owner.is_undefined())
      return error(Code::kInvalidArgument, "{} is undefined, so it has no slices",
                   *owner.as<Undefined>()->what);
    return error(Code::kInvalidArgument, "a {} has no slices", owner.type_name());
  }
  std::vector<Value> items;
  for (const size_t i : slice_positions(l->items.size(), bounds[0], bounds[1], step))
    items.push_back(l->items[i]);
  return make_list(meter_, std::move(items), l->kind);
}

Result<Args> Evaluator::evaluate_args(const Expr& expr) {
  Args args;
  for (const Arg& arg : expr.args) {
    Value value = TRY(evaluate(*arg.value));
    switch (arg.kind) {
      case Arg::Kind::kPlain:
        args.positional.push_back(std::move(value));
        break;
      case Arg::Kind::kNamed:
        args.named.emplace_back(arg.name, std::move(value));
        break;
      case Arg::Kind::kSpread:
        for (Value& item : TRY(items_of(meter_, value))) args.positional.push_back(std::move(item));
        break;
      case Arg::Kind::kSpreadNamed:
        if (!value.dict())
          return error(Code::kInvalidArgument, "** needs a mapping, not a {}", value.type_name());
        for (const auto& [key, item] : value.dict()->items)
          args.named.emplace_back(to_text(meter_, key).bytes(), item);
    }
  }
  return args;
}

Result<Value> Evaluator::evaluate_call(const Expr& expr, const Value* caller) {
  const Value callee = TRY(evaluate(*expr.children[0]));
  Args args = TRY(evaluate_args(expr));
  if (caller) args.named.emplace_back("caller", *caller);
  charge_inputs(callee, args);
  if (const auto* function = callee.as<std::shared_ptr<Callable>>()) return (*function)->call(args);
  if (const auto* loop = callee.as<std::shared_ptr<LoopState>>()) return call_loop(*loop, args);
  if (callee.is_undefined())
    return error(Code::kInvalidArgument, "{} is undefined, so it cannot be called",
                 *callee.as<Undefined>()->what);
  return error(Code::kInvalidArgument, "a {} cannot be called", callee.type_name());
}

Result<Value> Evaluator::evaluate_filter(const Expr& expr) {
  const Value value = TRY(evaluate(*expr.children[0]));
  const Args args = TRY(evaluate_args(expr));
  const Filter filter = find_filter(expr.name);
  if (!filter) return error(Code::kUnsupported, "there is no filter '{}'", expr.name);
  charge_inputs(value, args);
  return filter(meter_, value, args);
}

Result<Value> Evaluator::evaluate_test(const Expr& expr) {
  const Value value = TRY(evaluate(*expr.children[0]));
  const Args args = TRY(evaluate_args(expr));
  const Test test = find_test(expr.name);
  if (!test) return error(Code::kUnsupported, "there is no test '{}'", expr.name);
  charge_inputs(value, args);
  return Value::boolean(TRY(test(meter_, value, args)));
}

Result<Value> Evaluator::evaluate_unary(const Expr& expr) {
  const Value value = TRY(evaluate(*expr.children[0]));
  if (expr.name == "not") return Value::boolean(!truth(value));
  if (!value.is_number())
    return error(Code::kInvalidArgument, "a sign needs a number, not a {}", value.type_name());
  if (const double* d = value.as<double>()) return Value::real(expr.name == "-" ? -*d : *d);
  const int64_t i = value.integer_or(0);
  if (expr.name == "-" && i == INT64_MIN)
    return error(Code::kInvalidArgument, "the result passes 64 bits");
  return Value::integer(expr.name == "-" ? -i : i);
}

Result<Value> Evaluator::evaluate_concat(const Expr& expr) {
  Text out;
  for (const ExprPtr& child : expr.children) out.append(to_text(meter_, TRY(evaluate(*child))));
  return make_text(meter_, std::move(out));
}

Result<Value> Evaluator::evaluate_compare(const Expr& expr) {
  Value left = TRY(evaluate(*expr.children[0]));
  for (size_t i = 0; i < expr.names.size(); ++i) {
    Value right = TRY(evaluate(*expr.children[i + 1]));
    const std::string& op = expr.names[i];
    bool holds = false;
    if (op == "==" || op == "!=") {
      holds = equal(meter_, left, right) == (op == "==");
    } else if (op == "in" || op == "not in") {
      holds = TRY(contains(meter_, right, left)) == (op == "in");
    } else {
      const int order = TRY(compare(meter_, left, right));
      holds = op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0;
    }
    if (!holds) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

namespace {

Error overflow() { return error(Code::kInvalidArgument, "the result passes 64 bits"); }

Result<Value> integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return error(Code::kInvalidArgument, "0 to a negative power");
    return Value::real(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  if (base == 0 || base == 1) return Value::integer(exponent == 0 ? 1 : base);
  if (base == -1) return Value::integer(exponent % 2 ? -1 : 1);
  int64_t out = 1;
  for (; exponent > 0; --exponent)
    if (__builtin_mul_overflow(out, base, &out)) return overflow();  // after 63 steps at most
  return Value::integer(out);
}

// Division rounds down and the remainder has the sign of the divisor, as in Python.
Result<Value> integer_arithmetic(std::string_view op, int64_t a, int64_t b) {
  int64_t out = 0;
  if (op == "+")
    return __builtin_add_overflow(a, b, &out) ? Result<Value>(overflow()) : Value::integer(out);
  if (op == "-")
    return __builtin_sub_overflow(a, b, &out) ? Result<Value>(overflow()) : Value::integer(out);
  if (op == "*")
    return __builtin_mul_overflow(a, b, &out) ? Result<Value>(overflow()) : Value::integer(out);
  if (op == "**") return integer_power(a, b);
  if (b == 0) return error(Code::kInvalidArgument, "division by zero");
  if (op == "/") return Value::real(static_cast<double>(a) / static_cast<double>(b));
  if (b == -1)
    return op == "%" ? Value::integer(0)
                     : (a == INT64_MIN ? Result<Value>(overflow()) : Value::integer(-a));
  const int64_t remainder = a % b;
  const bool turns = remainder != 0 && (remainder < 0) != (b < 0);
  if (op == "%") return Value::integer(turns ? remainder + b : remainder);
  return Value::integer(a / b - (turns ? 1 : 0));
}

Result<Value> real_arithmetic(std::string_view op, double a, double b) {
  if (op == "+") return Value::real(a + b);
  if (op == "-") return Value::real(a - b);
  if (op == "*") return Value::real(a * b);
  if (op == "**") return Value::real(std::pow(a, b));
  if (b == 0) return error(Code::kInvalidArgument, "division by zero");
  if (op == "/") return Value::real(a / b);
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
  if (op == "%") return Value::real(remainder);
  return Value::real(std::nearbyint((a - remainder) / b));
}

Result<Value> repeat_list(Meter& meter, const List& list, int64_t times) {
  std::vector<Value> items;
  const size_t n = list.items.size();
  if (times > 0 && n > 0 && static_cast<uint64_t>(times) > 1'000'000 / n)
    return error(Code::kInvalidArgument, "a list of more than 1000000 items");
  for (int64_t i = 0; i < times; ++i)
    items.insert(items.end(), list.items.begin(), list.items.end());
  return make_list(meter, std::move(items), list.kind);
}

}  // namespace

Result<Value> Evaluator::evaluate_binary(const Expr& expr) {
  const Value a = TRY(evaluate(*expr.children[0]));
  const Value b = TRY(evaluate(*expr.children[1]));
  const std::string_view op = expr.name;
  if (a.is_integral() && b.is_integral())
    return integer_arithmetic(op, a.integer_or(0), b.integer_or(0));
  if (a.is_number() && b.is_number()) return real_arithmetic(op, a.number(), b.number());
  if (op == "+" && a.text() && b.text()) {
    Text out = *a.text();
    out.append(*b.text());
    return make_text(meter_, std::move(out));
  }
  if (op == "+" && a.list() && b.list() && a.list()->kind == b.list()->kind &&
      a.list()->kind <= ListKind::kTuple) {
    std::vector<Value> items = a.list()->items;
    items.insert(items.end(), b.list()->items.begin(), b.list()->items.end());
    return make_list(meter_, std::move(items), a.list()->kind);
  }
  if (op == "*" && (a.is_integral() || b.is_integral())) {
    const Value& many = a.is_integral() ? b : a;
    const int64_t times = (a.is_integral() ? a : b).integer_or(0);
    if (many.text()) return make_text(meter_, repeat(*many.text(), times));
    if (many.list() && many.list()->kind <= ListKind::kTuple)
      return repeat_list(meter_, *many.list(), times);
  }
  if (op == "%" && a.text()) {
    Args args;
    const List* l = b.list();
    args.positional = l && l->kind == ListKind::kTuple ? l->items : std::vector<Value>{b};
    return format_percent(meter_, *a.text(), args);
  }
  for (const Value* side : {&a, &b})
    if (side->is_undefined())
      return error(Code::kInvalidArgument, "{} is undefined, so '{}' cannot use it",
                   *side->as<Undefined>()->what, op);
  return error(Code::kInvalidArgument, "'{}' cannot join a {} and a {}", op, a.type_name(),
               b.type_name());
}

}  // namespace venturi::chat
