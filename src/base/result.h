// How anything the outside can cause is reported: Result<T> holds a value or an Error.
//
// An Error's message is one or two lines for a person: what is wrong, where (file, field, offset),
// what was expected and found, and what to do about it. Our own mistakes are asserts instead.
#pragma once

#include <fmt/format.h>

#include <cassert>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

namespace venturi {

enum class Code {
  kInvalidArgument,  // a flag, a request, a value out of range
  kNotFound,         // a file, a tensor, a key that is not there
  kCorrupt,          // bytes that contradict their format
  kUnsupported,      // well-formed, but nothing here can run it
  kOutOfBudget,      // the ledger refused
  kIo,               // the operating system refused
  kCancelled,
};

struct Error {
  Code code;
  std::string message;

  // The same error with "where" in front, for a caller that knows the file or the flag.
  Error within(std::string_view where) && {
    message = fmt::format("{}: {}", where, message);
    return std::move(*this);
  }
};

template <typename... Args>
Error error(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return Error{code, fmt::format(format, std::forward<Args>(args)...)};
}

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit by design
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT
  template <typename U>
    requires(std::is_convertible_v<U &&, T> && !std::is_same_v<std::decay_t<U>, Result> &&
             !std::is_same_v<std::decay_t<U>, Error> && !std::is_same_v<std::decay_t<U>, T>)
  Result(U&& value) : state_(std::in_place_index<0>, std::forward<U>(value)) {}  // NOLINT

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & { assert(ok()); return *std::get_if<0>(&state_); }
  const T& value() const& { assert(ok()); return *std::get_if<0>(&state_); }
  T value() && { assert(ok()); return std::move(*std::get_if<0>(&state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const& { assert(!ok()); return *std::get_if<1>(&state_); }
  Error error() && { assert(!ok()); return std::move(*std::get_if<1>(&state_)); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT

  bool ok() const { return !error_; }
  explicit operator bool() const { return ok(); }
  void value() const { assert(ok()); }
  const Error& error() const& { return *error_; }
  Error error() && { return std::move(*error_); }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

}  // namespace venturi

// Evaluates to the value of a Result, or returns its error from the enclosing function:
//   auto file = TRY(File::open(path));
// A statement expression (GCC and Clang); no template can return from its caller.
#define TRY(...)                                                \
  ({                                                            \
    auto try_result_ = (__VA_ARGS__);                           \
    if (!try_result_.ok()) return std::move(try_result_).error(); \
    std::move(try_result_).value();                             \
  })
