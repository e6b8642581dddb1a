// Walks the tree of a template and writes the text of a conversation.
//
// One evaluator is one rendering on one thread. It sees the variables put into it and nothing else:
// no files, no environment, no clock but the `now` it is given.
#pragma once

#include <ctime>
#include <functional>
#include <optional>

#include "chat/ast.h"

namespace venturi::chat {

// Names of one scope. A loop's body, a macro's call, a `with` have their own; an `if` has not.
struct Frame {
  std::vector<std::pair<std::string, Value>> names;
  std::shared_ptr<Frame> parent;
};

struct LoopState {
  std::shared_ptr<const std::vector<Value>> items;
  size_t index = 0;
  int depth = 1;
  const Stmt* statement = nullptr;
  std::weak_ptr<Frame> outside;  // where the loop stands, for loop(items) of a recursive one
};

class Evaluator {
 public:
  struct Limits {
    int depth = 400;  // of nested expressions, blocks and calls: bounds the stack
    size_t output_bytes = size_t{32} << 20;
  };

  Evaluator(Meter& meter, std::string_view source, const std::tm& now, Limits limits);
  ~Evaluator();
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  void set(std::string_view name, Value value);
  Result<Text> run(const Body& body);

 private:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };
  struct Macro;
  class Scope;

  // evaluator.cc: statements
  Result<Flow> execute(const Body& body);
  Result<Flow> execute(const Stmt& stmt);
  Result<Flow> execute_in_scope(const Body& body);
  Status print(const Text& text, size_t offset);
  Result<Flow> run_for(const Stmt& stmt);
  Result<Flow> loop_over(const Stmt& stmt, std::vector<Value> items, int depth);
  Result<std::vector<Value>> filtered(const Stmt& stmt, std::vector<Value> items);
  Status run_set_block(const Stmt& stmt);
  Status run_filter_block(const Stmt& stmt);
  Status run_call_block(const Stmt& stmt);
  Result<Flow> run_with(const Stmt& stmt);
  Result<Value> capture(const Body& body);  // what the body prints, in a scope of its own
  Result<Value> through_filters(const Expr& chain, Value text);
  Status assign(const Expr& target, Value value);
  Value make_macro(const Stmt& stmt);
  Result<Value> call_macro(const Macro& macro, const Args& args);
  Result<Value> call_loop(const std::shared_ptr<LoopState>& loop, const Args& args);
  void define(std::string_view name, Value value);
  Result<Value> look_up(std::string_view name);
  void add_globals();

  // evaluator_expression.cc
  Result<Value> evaluate(const Expr& expr);
  Result<Value> evaluate_kind(const Expr& expr);
  Result<Value> evaluate_mapping(const Expr& expr);
  Result<Value> evaluate_attribute(const Expr& expr);
  Result<Value> evaluate_slice(const Expr& expr);
  Result<Value> evaluate_call(const Expr& expr, const Value* caller);
  Result<Value> evaluate_filter(const Expr& expr);
  Result<Value> evaluate_test(const Expr& expr);
  Result<Value> evaluate_unary(const Expr& expr);
  Result<Value> evaluate_binary(const Expr& expr);
  Result<Value> evaluate_compare(const Expr& expr);
  Result<Value> evaluate_concat(const Expr& expr);
  Result<Args> evaluate_args(const Expr& expr);
  Result<Value> loop_attribute(const std::shared_ptr<LoopState>& loop, std::string_view name);

  // "template line …: …", once: the innermost place is the one that helps.
  Error located(size_t offset, Error error);
  void charge_inputs(const Value& value, const Args& args);

  Meter& meter_;
  std::string_view source_;
  std::tm now_;
  Limits limits_;
  std::shared_ptr<Frame> frame_;
  Text* out_ = nullptr;
  Text output_;
  int depth_ = 0;
  bool located_ = false;
  // What can take part in a cycle of references; emptied by the destructor.
  std::vector<std::shared_ptr<Frame>> captured_;
  std::vector<std::shared_ptr<Namespace>> namespaces_;

  friend struct Macro;
};

// A global function from a lambda.
struct Function : Callable {
  explicit Function(std::function<Result<Value>(const Args&)> f) : body(std::move(f)) {}
  Result<Value> call(const Args& args) override { return body(args); }
  std::function<Result<Value>(const Args&)> body;
};

}  // namespace venturi::chat
