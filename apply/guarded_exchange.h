// Statements whose failure is an answer, not the end: they run under a savepoint of the group's
// transaction, and the savepoint undoes them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apply/exchange.h"
#include "apply/row_failure.h"
#include "base/error.h"

namespace bitacora::apply {

// One thread owns it. A section is begin(), statements (sent as kGuarded or kQuestion), and then
// end() or look(): both wait for the answers. Between sections the connection is free.
class GuardedExchange {
 public:
  using Fields = std::vector<std::optional<std::string>>;
  struct Outcome {
    std::optional<RowRefusal> refusal;         // of the first statement that failed
    RowOrigin refused;                         // what it was for
    std::vector<std::vector<Fields>> answers;  // of the questions, in order
  };

  explicit GuardedExchange(Exchange& exchange) : exchange_(exchange) {}

  Result<void> start();
  void forget() { open_ = refused_ = false; }  // the transaction has ended

  // Sets the savepoint; after a refusal goes back to it.
  Result<void> begin();
  // With text parameters; an empty one is NULL.
  Result<void> ask(const std::string& sql, const Fields& parameters);
  Result<void> ask(const std::string& sql, const std::vector<Oid>& types,
                   const Parameters& parameters);
  // The answers so far; the savepoint stays, and begin() then goes on behind it.
  Result<Outcome> look();
  // The answers; without a refusal what was done stays.
  Result<Outcome> end();

  // For the exchange's owner: answers of kGuarded and kQuestion.
  void on_reply(const Expected& expected, const PGresult* reply);

 private:
  Result<void> send(const char* statement);

  Exchange& exchange_;
  Outcome outcome_;
  bool open_ = false;
  bool refused_ = false;
};

}  // namespace bitacora::apply
