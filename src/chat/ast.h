// The tree of a parsed template. Immutable once parsed, so any number of renderings may share it.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "chat/value.h"

namespace venturi::chat {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using StmtPtr = std::unique_ptr<Stmt>;
using Body = std::vector<StmtPtr>;

enum class ExprKind : uint8_t {
  kConstant,   // constant
  kName,       // name
  kList,       // children
  kTuple,      // children
  kDict,       // children: key, value, key, value, …
  kAttribute,  // children[0] . name
  kItem,       // children[0] [ children[1] ]
  kSlice,    // children[0] [ children[1] : children[2] : children[3] ], the last three may be null
  kCall,     // children[0] ( args )
  kFilter,   // children[0] | name ( args )
  kTest,     // children[0] is name ( args )
  kUnary,    // name: "not", "-", "+"
  kBinary,   // name: the operator
  kCompare,  // children[0] names[0] children[1] names[1] children[2] …
  kAnd,
  kOr,
  kConcat,       // children joined by ~
  kConditional,  // children[0] if children[1] else children[2]; the last may be null
};

struct Arg {
  enum class Kind : uint8_t { kPlain, kNamed, kSpread, kSpreadNamed };
  Kind kind = Kind::kPlain;
  std::string name;
  ExprPtr value;
};

struct Expr {
  ExprKind kind = ExprKind::kConstant;
  size_t offset = 0;  // in the normalised source
  int depth = 1;      // of this tree; bounded, since evaluation and destruction recurse
  std::string name;
  Value constant;
  std::vector<ExprPtr> children;
  std::vector<std::string> names;
  std::vector<Arg> args;
};

enum class StmtKind : uint8_t {
  kData,      // text
  kPrint,     // expr
  kIf,        // expr, body, otherwise
  kFor,       // target in expr (if condition, recursive), body, otherwise
  kSet,       // target = expr
  kSetBlock,  // target = body, through `expr` if given (filters over an empty name)
  kMacro,     // text(parameters), body
  kCall,      // expr is the call, parameters are those of caller(), body is what it prints
  kFilter,    // body through expr
  kWith,      // targets = values, body
  kScope,     // body in a scope of its own ({% generation %})
  kBreak,
  kContinue,
};

struct Parameter {
  std::string name;
  ExprPtr otherwise;  // default, or null
};

struct Stmt {
  StmtKind kind = StmtKind::kData;
  size_t offset = 0;
  std::string text;
  ExprPtr target;  // kName, kTuple of them, or kAttribute of a namespace
  ExprPtr expr;
  ExprPtr condition;
  bool recursive = false;
  Body body;
  Body otherwise;
  std::vector<Parameter> parameters;
  bool takes_varargs = false;  // a macro whose body names them
  bool takes_kwargs = false;
  bool takes_caller = false;
  std::vector<std::pair<ExprPtr, ExprPtr>> bindings;  // of kWith
};

}  // namespace venturi::chat
