#include "chat/evaluator.h"

#include <algorithm>

#include "chat/builtins.h"
#include "chat/lexer.h"
#include "chat/parser.h"
#include "chat/print.h"

namespace venturi::chat {

struct Evaluator::Macro : Callable {
  Macro(Evaluator& e, const Stmt& s, std::shared_ptr<Frame> f)
      : evaluator(e), stmt(s), closure(std::move(f)) {}
  Result<Value> call(const Args& args) override { return evaluator.call_macro(*this, args); }
  Evaluator& evaluator;
  const Stmt& stmt;
  std::shared_ptr<Frame> closure;
};

// A frame while it lives.
class Evaluator::Scope {
 public:
  Scope(Evaluator& e, std::shared_ptr<Frame> parent) : evaluator_(e), outer_(e.frame_) {
    e.frame_ = std::make_shared<Frame>();
    e.frame_->parent = std::move(parent);
  }
  explicit Scope(Evaluator& e) : Scope(e, e.frame_) {}
  ~Scope() { evaluator_.frame_ = std::move(outer_); }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Evaluator& evaluator_;
  std::shared_ptr<Frame> outer_;
};

Evaluator::Evaluator(Meter& meter, std::string_view source, const std::tm& now, Limits limits)
    : meter_(meter),
      source_(source),
      now_(now),
      limits_(limits),
      frame_(std::make_shared<Frame>()) {
  add_globals();
  auto variables = std::make_shared<Frame>();
  variables->parent = frame_;
  frame_ = std::move(variables);
}

Evaluator::~Evaluator() {
  for (const auto& space : namespaces_) space->attributes.clear();
  for (const auto& frame : captured_) frame->names.clear();
  while (!captured_.empty()) captured_.pop_back();  // children first, or a long chain would recurse
}

void Evaluator::set(std::string_view name, Value value) { define(name, std::move(value)); }

Result<Text> Evaluator::run(const Body& body) {
  out_ = &output_;
  TRY(execute(body));
  if (!meter_.alive()) return meter_.error();
  return std::move(output_);
}

Error Evaluator::located(size_t offset, Error error) {
  if (std::exchange(located_, true)) return error;
  return std::move(error).within(fmt::format("template {}", position_of(source_, offset)));
}

void Evaluator::define(std::string_view name, Value value) {
  for (auto& [key, old] : frame_->names)
    if (key == name) {
      old = std::move(value);
      return;
    }
  frame_->names.emplace_back(name, std::move(value));
}

Result<Value> Evaluator::look_up(std::string_view name) {
  for (const Frame* frame = frame_.get(); frame != nullptr; frame = frame->parent.get()) {
    if (!meter_.spend(1)) return meter_.error();
    for (const auto& [key, value] : frame->names)
      if (key == name) return value;
  }
  return Value::undefined(fmt::format("'{}'", name));
}

Status Evaluator::print(const Text& text, size_t offset) {
  if (text.size() > limits_.output_bytes - std::min(limits_.output_bytes, out_->size()))
    return located(offset, error(Code::kInvalidArgument, "the template writes more than {} bytes",
                                 limits_.output_bytes));
  meter_.spend(text.size() / 16);
  out_->append(text);
  return {};
}

Result<Evaluator::Flow> Evaluator::execute(const Body& body) {
  for (const StmtPtr& stmt : body) {
    const Flow flow = TRY(execute(*stmt));
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::execute_in_scope(const Body& body) {
  const Scope scope(*this);
  return execute(body);
}

Result<Evaluator::Flow> Evaluator::execute(const Stmt& stmt) {
  const Nesting nesting(depth_);
  if (depth_ > limits_.depth)
    return located(stmt.offset, error(Code::kInvalidArgument,
                                      "blocks and calls nest more than {} deep", limits_.depth));
  if (!meter_.spend(1)) return located(stmt.offset, meter_.error());
  Status status;
  switch (stmt.kind) {
    case StmtKind::kData:
      status = print(Text::trusted(stmt.text), stmt.offset);
      break;
    case StmtKind::kPrint:
      status = print(to_text(meter_, TRY(evaluate(*stmt.expr))), stmt.offset);
      break;
    case StmtKind::kIf:
      return execute(truth(TRY(evaluate(*stmt.expr))) ? stmt.body : stmt.otherwise);
    case StmtKind::kFor:
      return run_for(stmt);
    case StmtKind::kSet:
      status = assign(*stmt.target, TRY(evaluate(*stmt.expr)));
      break;
    case StmtKind::kSetBlock:
      status = run_set_block(stmt);
      break;
    case StmtKind::kMacro:
      define(stmt.text, make_macro(stmt));
      break;
    case StmtKind::kCall:
      status = run_call_block(stmt);
      break;
    case StmtKind::kFilter:
      status = run_filter_block(stmt);
      break;
    case StmtKind::kWith:
      return run_with(stmt);
    case StmtKind::kScope:
      return execute_in_scope(stmt.body);
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  if (!status) return std::move(status).error();
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::run_for(const Stmt& stmt) {
  const Value over = TRY(evaluate(*stmt.expr));
  auto items = items_of(meter_, over);
  if (!items) return located(stmt.expr->offset, std::move(items).error());
  return loop_over(stmt, std::move(items).value(), 1);
}

Result<std::vector<Value>> Evaluator::filtered(const Stmt& stmt, std::vector<Value> items) {
  std::vector<Value> kept;
  for (Value& item : items) {
    const Scope scope(*this);
    if (auto status = assign(*stmt.target, item); !status) return std::move(status).error();
    if (truth(TRY(evaluate(*stmt.condition)))) kept.push_back(std::move(item));
  }
  return kept;
}

Result<Evaluator::Flow> Evaluator::loop_over(const Stmt& stmt, std::vector<Value> items,
                                             int depth) {
  if (stmt.condition) items = TRY(filtered(stmt, std::move(items)));
  if (items.empty()) return execute_in_scope(stmt.otherwise);
  auto state = std::make_shared<LoopState>();
  state->items = std::make_shared<const std::vector<Value>>(std::move(items));
  state->depth = depth;
  state->statement = &stmt;
  state->outside = frame_;
  for (state->index = 0; state->index < state->items->size(); ++state->index) {
    if (!meter_.spend(1)) return located(stmt.offset, meter_.error());
    const Scope scope(*this);
    if (auto status = assign(*stmt.target, (*state->items)[state->index]); !status)
      return std::move(status).error();
    define("loop", Value(state));
    if (TRY(execute(stmt.body)) == Flow::kBreak) break;
  }
  return Flow::kNext;
}

Result<Value> Evaluator::capture(const Body& body) {
  Text text;
  Text* const outer = std::exchange(out_, &text);
  auto flow = execute_in_scope(body);
  out_ = outer;
  if (!flow) return std::move(flow).error();
  return make_text(meter_, std::move(text));
}

Result<Value> Evaluator::through_filters(const Expr& chain, Value text) {
  const Scope scope(*this);
  define("", std::move(text));  // the chain's leaf is the name that no template can spell
  return evaluate(chain);
}

Status Evaluator::run_set_block(const Stmt& stmt) {
  Value value = TRY(capture(stmt.body));
  if (stmt.expr) value = TRY(through_filters(*stmt.expr, std::move(value)));
  return assign(*stmt.target, std::move(value));
}

Status Evaluator::run_filter_block(const Stmt& stmt) {
  Value text = TRY(capture(stmt.body));
  return print(to_text(meter_, TRY(through_filters(*stmt.expr, std::move(text)))), stmt.offset);
}

Status Evaluator::run_call_block(const Stmt& stmt) {
  const Value caller = make_macro(stmt);
  return print(to_text(meter_, TRY(evaluate_call(*stmt.expr, &caller))), stmt.offset);
}

Result<Evaluator::Flow> Evaluator::run_with(const Stmt& stmt) {
  std::vector<Value> values;  // all are evaluated outside
  for (const auto& [target, value] : stmt.bindings) values.push_back(TRY(evaluate(*value)));
  const Scope scope(*this);
  for (size_t i = 0; i < values.size(); ++i)
    if (auto status = assign(*stmt.bindings[i].first, std::move(values[i])); !status)
      return std::move(status).error();
  return execute(stmt.body);
}

Status Evaluator::assign(const Expr& target, Value value) {
  if (target.kind == ExprKind::kName) {
    define(target.name, std::move(value));
    return {};
  }
  if (target.kind == ExprKind::kAttribute) {
    const Value owner = TRY(evaluate(*target.children[0]));
    const auto* space = owner.as<std::shared_ptr<Namespace>>();
    if (!space)
      return located(
          target.offset,
          error(Code::kInvalidArgument,
                "only a namespace's attributes can be set, not those of a {}", owner.type_name()));
    meter_.spend((*space)->attributes.size() / 8);
    for (auto& [name, old] : (*space)->attributes)
      if (name == target.name) {
        old = std::move(value);
        return {};
      }
    meter_.hold(sizeof(Value) + 64);
    (*space)->attributes.emplace_back(target.name, std::move(value));
    return {};
  }
  auto items = items_of(meter_, value);
  if (!items) return located(target.offset, std::move(items).error());
  if (items->size() != target.children.size())
    return located(target.offset, error(Code::kInvalidArgument, "{} values for {} names",
                                        items->size(), target.children.size()));
  for (size_t i = 0; i < items->size(); ++i)
    if (auto status = assign(*target.children[i], std::move((*items)[i])); !status) return status;
  return {};
}

Value Evaluator::make_macro(const Stmt& stmt) {
  if (captured_.empty() || captured_.back() != frame_) {
    meter_.hold(256);
    captured_.push_back(frame_);
  }
  meter_.hold(sizeof(Macro) + 64);  // macros live as long as the frame that knows them
  return Value(std::shared_ptr<Callable>(std::make_shared<Macro>(*this, stmt, frame_)));
}

Result<Value> Evaluator::call_macro(const Macro& macro, const Args& args) {
  const Stmt& stmt = macro.stmt;
  const size_t n = stmt.parameters.size();
  std::vector<std::optional<Value>> given(n);
  std::vector<Value> varargs;
  std::vector<Dict::Item> kwargs;
  Value caller = Value::undefined("'caller'");
  for (size_t i = 0; i < args.positional.size(); ++i) {
    if (i < n)
      given[i] = args.positional[i];
    else
      varargs.push_back(args.positional[i]);
  }
  for (const auto& [name, value] : args.named) {
    size_t i = 0;
    while (i < n && stmt.parameters[i].name != name) ++i;
    if (i < n && given[i])
      return error(Code::kInvalidArgument, "macro '{}' is given '{}' twice", stmt.text, name);
    if (i < n)
      given[i] = value;
    else if (name == "caller" && stmt.takes_caller)
      caller = value;
    else
      kwargs.emplace_back(make_text(meter_, name), value);
  }
  if (!varargs.empty() && !stmt.takes_varargs)
    return error(Code::kInvalidArgument, "macro '{}' takes {} arguments, {} given", stmt.text, n,
                 args.positional.size());
  if (!kwargs.empty() && !stmt.takes_kwargs)
    return error(Code::kInvalidArgument, "macro '{}' has no argument '{}'", stmt.text,
                 kwargs[0].first.text()->bytes());
  const Scope scope(*this, macro.closure);
  if (stmt.takes_caller) define("caller", std::move(caller));
  if (stmt.takes_varargs)
    define("varargs", make_list(meter_, std::move(varargs), ListKind::kTuple));
  if (stmt.takes_kwargs) define("kwargs", TRY(make_dict(meter_, std::move(kwargs))));
  for (size_t i = 0; i < n; ++i) {
    const Parameter& parameter = stmt.parameters[i];
    if (!given[i])
      given[i] = parameter.otherwise
                     ? TRY(evaluate(*parameter.otherwise))
                     : Value::undefined(fmt::format("parameter '{}'", parameter.name));
    define(parameter.name, *std::move(given[i]));
  }
  return capture(stmt.body);
}

Result<Value> Evaluator::call_loop(const std::shared_ptr<LoopState>& loop, const Args& args) {
  if (!loop->statement->recursive)
    return error(Code::kInvalidArgument, "only a loop marked 'recursive' can be called");
  const auto a = TRY(BoundArgs::bind(args, "loop", {"items"}));
  if (!a[0]) return error(Code::kInvalidArgument, "loop() needs the items to go over");
  auto outside = loop->outside.lock();
  if (!outside) return error(Code::kInvalidArgument, "this loop has ended");
  auto items = TRY(items_of(meter_, *a[0]));
  Text text;
  Text* const outer = std::exchange(out_, &text);
  const Scope scope(*this, std::move(outside));
  auto flow = loop_over(*loop->statement, std::move(items), loop->depth + 1);
  out_ = outer;
  if (!flow) return std::move(flow).error();
  return make_text(meter_, std::move(text));
}

namespace {

Result<Value> make_range(Meter& meter, const Args& args) {
  int64_t bounds[3] = {0, 0, 1};
  const size_t n = args.positional.size();
  if (n < 1 || n > 3 || !args.named.empty())
    return error(Code::kInvalidArgument, "range takes one to three integers");
  for (size_t i = 0; i < n; ++i) {
    if (!args.positional[i].is_integral())
      return error(Code::kInvalidArgument, "range takes integers, not a {}",
                   args.positional[i].type_name());
    bounds[n == 1 ? 1 : i] = args.positional[i].integer_or(0);
  }
  const auto [from, to, step] = bounds;
  if (step == 0) return error(Code::kInvalidArgument, "range: the step is 0");
  constexpr size_t kMaxItems = 100'000;  // as Jinja's sandbox
  std::vector<Value> items;
  for (int64_t i = from; step > 0 ? i < to : i > to;) {
    if (items.size() >= kMaxItems)
      return error(Code::kInvalidArgument, "range has more than {} items", kMaxItems);
    items.push_back(Value::integer(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return make_list(meter, std::move(items), ListKind::kRange);
}

// Conversions of strftime, one by one, so that none is passed on that is not known.
Result<Value> format_time(Meter& meter, const std::tm& now, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "strftime_now", {"format"}));
  const Text format = TRY(a.text(0, ""));
  const std::string_view s = format.bytes();
  Text out;
  for (size_t i = 0; i < s.size(); ++i) {
    const size_t flag = i + 2 < s.size() && s[i] == '%' && s[i + 1] == '-' ? 1 : 0;  // %-d: no zero
    constexpr std::string_view kKnown = "aAbBcCdDeFgGhHIjklmMnprRStTuUVwWxXyYzZ%";
    if (s[i] != '%' || i + 1 + flag >= s.size() ||
        kKnown.find(s[i + 1 + flag]) == std::string_view::npos) {
      out.append_slice(format, i, i + 1);
      continue;
    }
    char piece[128];
    const std::string conversion(s.substr(i, 2 + flag));
    out.append(
        std::string_view(piece, std::strftime(piece, sizeof piece, conversion.c_str(), &now)),
        false);
    i += 1 + flag;
  }
  return make_text(meter, std::move(out));
}

// Mappings and sequences of pairs first, then the named arguments.
Result<std::vector<Dict::Item>> dict_items(Meter& meter, const Args& args) {
  std::vector<Dict::Item> items;
  for (const Value& value : args.positional) {
    if (const Dict* d = value.dict()) {
      items.insert(items.end(), d->items.begin(), d->items.end());
      continue;
    }
    for (const Value& pair : TRY(items_of(meter, value))) {
      auto parts = TRY(items_of(meter, pair));
      if (parts.size() != 2)
        return error(Code::kInvalidArgument, "dict needs pairs of a key and a value");
      items.emplace_back(std::move(parts[0]), std::move(parts[1]));
    }
  }
  for (const auto& [name, value] : args.named) items.emplace_back(make_text(meter, name), value);
  return items;
}

}  // namespace

void Evaluator::add_globals() {
  const auto add = [&](std::string_view name, std::function<Result<Value>(const Args&)> body) {
    define(name, Value(std::shared_ptr<Callable>(std::make_shared<Function>(std::move(body)))));
  };
  add("range", [this](const Args& args) { return make_range(meter_, args); });
  add("strftime_now", [this](const Args& args) { return format_time(meter_, now_, args); });
  add("dict", [this](const Args& args) -> Result<Value> {
    return make_dict(meter_, TRY(dict_items(meter_, args)));
  });
  add("namespace", [this](const Args& args) -> Result<Value> {
    auto space = std::make_shared<Namespace>();
    const Value initial = TRY(make_dict(meter_, TRY(dict_items(meter_, args))));
    for (const auto& [key, value] : initial.dict()->items)
      space->attributes.emplace_back(to_text(meter_, key).bytes(), value);
    meter_.hold(128 + space->attributes.size() * (sizeof(Value) + 64));
    namespaces_.push_back(space);
    return Value(std::move(space));
  });
  add("raise_exception", [this](const Args& args) -> Result<Value> {
    const auto a = TRY(BoundArgs::bind(args, "raise_exception", {"message"}));
    const Text message = a[0] ? to_text(meter_, *a[0]) : Text();
    located_ =
        true;  // the message is for who wrote the conversation, not for who wrote the template
    return error(Code::kInvalidArgument, "the chat template refuses the conversation: {}",
                 message.bytes());
  });
}

}  // namespace venturi::chat
