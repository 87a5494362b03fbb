// Errors as values. `code` decides the process's exit code, `recovery` what the caller does next,
// `hint` what a person does next.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "base/check.h"

namespace bitacora {

// The numeric values are the process exit codes of the command line (fixed: scripts rely on them).
enum class ErrorCode {
  kUsage = 1,
  kConfiguration = 2,
  kState = 3,     // a gap, a foreign identity: needs a person
  kMaster = 4,    // the master refused or is not reachable
  kStandby = 5,   // the standby refused or is not reachable
  kNetwork = 6,   // between sender and receiver
  kInternal = 7,  // our own bug or an exhausted machine
};

enum class Recovery {
  kStop,     // trying again changes nothing
  kRetry,    // heals by itself: reconnect with backoff
  kInDoubt,  // a COMMIT whose outcome is unknown: reconnect and read the progress row
};

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
  std::string hint = {};
  Recovery recovery = Recovery::kStop;

  bool heals() const { return recovery != Recovery::kStop; }
};

// "message; hint" in one line, whatever line breaks a server's message carries.
std::string one_line(const Error& error);

inline int exit_code(const Error& error) { return static_cast<int>(error.code); }

// A value or an Error. Both convert implicitly, so functions `return value;` or `return
// Error{...};`.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value)
      : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(Error error)
      : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & {
    CHECK(ok());
    return *std::get_if<0>(&state_);
  }
  const T& value() const& {
    CHECK(ok());
    return *std::get_if<0>(&state_);
  }
  T&& value() && {
    CHECK(ok());
    return std::move(*std::get_if<0>(&state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const {
    CHECK(!ok());
    return *std::get_if<1>(&state_);
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  const Error& error() const {
    CHECK(!ok());
    return *error_;
  }

 private:
  std::optional<Error> error_;
};

}  // namespace bitacora

// Leaves the function with the error of a Result<void>-like expression.
#define RETURN_IF_ERROR(expression)                   \
  do {                                                \
    if (auto result_ = (expression); !result_.ok()) { \
      return result_.error();                         \
    }                                                 \
  } while (false)

// ASSIGN_OR_RETURN(auto x, f()): declares x from f()'s value or leaves the function with its error.
#define ASSIGN_OR_RETURN(declaration, expression) \
  ASSIGN_OR_RETURN_IMPL_(BITACORA_CONCAT_(result_, __LINE__), declaration, expression)
#define ASSIGN_OR_RETURN_IMPL_(name, declaration, expression) \
  auto name = (expression);                                   \
  if (!name.ok()) return name.error();                        \
  declaration = std::move(name).value()
#define BITACORA_CONCAT_(a, b) BITACORA_CONCAT_IMPL_(a, b)
#define BITACORA_CONCAT_IMPL_(a, b) a##b
