// Values of the template language, and the meter that bounds what a rendering may use.
//
// Values are immutable and shared, except a namespace, whose attributes can be set. Only through a
// namespace (or a macro's closure) can references form a cycle; the evaluator keeps a list of these
// and empties them when it ends. One rendering is one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "chat/text.h"

namespace venturi::chat {

// Steps and live bytes. Sticky: once a limit is passed, `spend` and `alive` stay false, loops that
// ask them unwind at once, and the evaluator reports `error()` at its next node.
class Meter {
 public:
  Meter(uint64_t steps, size_t live_bytes) : steps_left_(steps), live_bytes_max_(live_bytes) {}
  Meter(const Meter&) = delete;
  Meter& operator=(const Meter&) = delete;

  bool spend(uint64_t steps) {
    if (steps > steps_left_) exhaust("it takes more evaluation steps than allowed");
    if (!alive()) return false;
    steps_left_ -= steps;
    return true;
  }
  void hold(size_t bytes) {
    live_bytes_ += bytes;
    if (live_bytes_ > live_bytes_max_) exhaust("its values take more memory than allowed");
  }
  void release(size_t bytes) { live_bytes_ -= bytes; }
  void exhaust(const char* why) {
    if (why_ == nullptr) why_ = why;
  }
  bool alive() const { return why_ == nullptr; }
  Error error() const;

 private:
  uint64_t steps_left_;
  size_t live_bytes_max_;
  size_t live_bytes_ = 0;
  const char* why_ = nullptr;
};

class Value;
struct TextObject;
struct List;
struct Dict;
struct Namespace;
struct LoopState;
struct Args;

struct Undefined {
  std::shared_ptr<const std::string> what;  // how the template named it, for the error
};
struct None {};

// Something that can be called: a macro, a bound method, a global function.
struct Callable {
  virtual ~Callable() = default;
  virtual Result<Value> call(const Args& args) = 0;
};

class Value {
 public:
  using Variant = std::variant<None, Undefined, bool, int64_t, double,
                               std::shared_ptr<const TextObject>, std::shared_ptr<const List>,
                               std::shared_ptr<const Dict>, std::shared_ptr<Namespace>,
                               std::shared_ptr<LoopState>, std::shared_ptr<Callable>>;

  Value() : v_(None{}) {}
  Value(Variant v) : v_(std::move(v)) {}  // NOLINT: implicit by design
  static Value boolean(bool b) { return Value(Variant(b)); }
  static Value integer(int64_t i) { return Value(Variant(i)); }
  static Value real(double d) { return Value(Variant(d)); }
  static Value undefined(std::string what);

  const Variant& get() const { return v_; }
  template <typename T>
  bool is() const {
    return std::holds_alternative<T>(v_);
  }
  template <typename T>
  const T* as() const {
    return std::get_if<T>(&v_);
  }

  bool is_none() const { return is<None>(); }
  bool is_undefined() const { return is<Undefined>(); }
  bool is_bool() const { return is<bool>(); }
  bool is_integral() const {
    return is<int64_t>() || is<bool>();
  }  // as in Python, a bool is an int
  bool is_number() const { return is_integral() || is<double>(); }
  const Text* text() const;  // null unless a string
  const List* list() const;  // null unless a list, tuple or other sequence
  const Dict* dict() const;
  int64_t integer_or(int64_t otherwise) const;  // of an int or a bool
  double number() const;                        // of any number

  std::string_view type_name() const;  // as an error message names it

 private:
  Variant v_;
};

struct TextObject {
  TextObject(Text t, Meter* m) : text(std::move(t)), meter(m) {
    if (meter) meter->hold(bytes());
  }
  ~TextObject() {
    if (meter) meter->release(bytes());
  }
  TextObject(const TextObject&) = delete;
  TextObject& operator=(const TextObject&) = delete;
  size_t bytes() const { return 96 + text.size() + text.taint().size() * sizeof(Span); }

  const Text text;
  Meter* meter;  // null for constants of the template
};

// What Python would have where we hold the items: it decides truth, length and printing.
enum class ListKind : uint8_t { kList, kTuple, kRange, kView, kGenerator };

struct List {
  List(std::vector<Value> i, ListKind k, int d, Meter* m);
  ~List();
  List(const List&) = delete;
  List& operator=(const List&) = delete;

  const std::vector<Value> items;
  const ListKind kind;
  const int depth;  // of nesting, 1 for a list of plain values
  Meter* meter;
};

// In order of insertion.
struct Dict {
  using Item = std::pair<Value, Value>;
  Dict(std::vector<Item> i, std::unordered_map<std::string, size_t> x, int d, Meter* m);
  ~Dict();
  Dict(const Dict&) = delete;
  Dict& operator=(const Dict&) = delete;

  const Value* find(const std::string& key) const;  // by key_of, or "s" + text
  const Value* find_text(std::string_view key) const { return find(std::string("s").append(key)); }

  const std::vector<Item> items;
  const std::unordered_map<std::string, size_t> index;
  const int depth;
  Meter* meter;
};

struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;
  const Value* find(std::string_view name) const;
};

struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// Making values, all through one meter.
Value make_text(Meter& meter, Text text);
Value make_text(Meter& meter, std::string_view trusted);
Value make_list(Meter& meter, std::vector<Value> items, ListKind kind = ListKind::kList);
// A later equal key replaces the value and keeps the first position. Unhashable keys are an error.
Result<Value> make_dict(Meter& meter, std::vector<Dict::Item> items);
// Whose words the strings of a JSON value are.
enum class Trust : uint8_t {
  kOutside,   // all tainted
  kMessages,  // as kOutside, but for a known role as the "role" of an object in the outermost array
  kTemplate,  // none tainted
};
Value from_json(Meter& meter, const nlohmann::ordered_json& json, Trust trust);

// The identity of a hashable value: equal values (1, 1.0 and true among them) have equal keys.
Result<std::string> key_of(Meter& meter, const Value& value);

bool truth(const Value& value);
bool equal(Meter& meter, const Value& a, const Value& b);
// Negative, zero or positive; an error where the two have no order.
Result<int> compare(Meter& meter, const Value& a, const Value& b);
// The items of anything a `for` accepts: characters of a string, keys of a mapping.
Result<std::vector<Value>> items_of(Meter& meter, const Value& value);
Result<bool> contains(Meter& meter, const Value& container, const Value& item);

}  // namespace venturi::chat
