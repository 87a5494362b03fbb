#include "apply/guarded_exchange.h"

#include <utility>

namespace bitacora::apply {
namespace {

constexpr const char* kSavepoint = "bitacora_savepoint";
constexpr const char* kRollback = "bitacora_rollback_to";
constexpr const char* kRelease = "bitacora_release";

}  // namespace

Result<void> GuardedExchange::start() {
  for (const auto& [name, sql] : {std::pair{kSavepoint, "SAVEPOINT bitacora_row"},
                                  std::pair{kRollback, "ROLLBACK TO SAVEPOINT bitacora_row"},
                                  std::pair{kRelease, "RELEASE SAVEPOINT bitacora_row"}})
    RETURN_IF_ERROR(exchange_.prepare(name, sql, {}, {Sent::kPrepare}));
  return {};
}

Result<void> GuardedExchange::send(const char* statement) {
  return exchange_.execute(statement, {}, {Sent::kGuarded});
}

Result<void> GuardedExchange::begin() {
  outcome_ = {};
  if (!std::exchange(open_, true)) return send(kSavepoint);
  return std::exchange(refused_, false) ? send(kRollback) : Result<void>{};
}

Result<void> GuardedExchange::ask(const std::string& sql, const Fields& parameters) {
  Parameters texts;
  for (const auto& value : parameters) {
    texts.values.push_back(value ? value->c_str() : nullptr);
    texts.lengths.push_back(value ? static_cast<int>(value->size()) : 0);
    texts.formats.push_back(0);
  }
  return ask(sql, {}, texts);
}

Result<void> GuardedExchange::ask(const std::string& sql, const std::vector<Oid>& types,
                                  const Parameters& parameters) {
  const std::string unnamed;
  RETURN_IF_ERROR(exchange_.prepare(unnamed, sql, types, {Sent::kGuarded}));
  return exchange_.execute(unnamed, parameters, {Sent::kQuestion});
}

Result<GuardedExchange::Outcome> GuardedExchange::look() {
  RETURN_IF_ERROR(exchange_.sync());
  RETURN_IF_ERROR(exchange_.finish());
  refused_ = outcome_.refusal.has_value();
  return std::exchange(outcome_, {});
}

Result<GuardedExchange::Outcome> GuardedExchange::end() {
  RETURN_IF_ERROR(send(kRelease));
  ASSIGN_OR_RETURN(auto outcome, look());
  open_ = outcome.refusal.has_value();
  return outcome;
}

void GuardedExchange::on_reply(const Expected& expected, const PGresult* reply) {
  const auto status = PQresultStatus(reply);
  if (status == PGRES_FATAL_ERROR && !outcome_.refusal) {
    outcome_.refusal = read_refusal(reply);
    outcome_.refused = expected.row;
  }
  if (status != PGRES_TUPLES_OK || expected.sent != Sent::kQuestion) return;
  auto& rows = outcome_.answers.emplace_back(static_cast<std::size_t>(PQntuples(reply)));
  for (int row = 0; row < PQntuples(reply); ++row) {
    for (int column = 0; column < PQnfields(reply); ++column) {
      const bool null = PQgetisnull(reply, row, column) != 0;
      rows[static_cast<std::size_t>(row)].push_back(
          null ? std::nullopt : std::optional<std::string>(PQgetvalue(reply, row, column)));
    }
  }
}

}  // namespace bitacora::apply
