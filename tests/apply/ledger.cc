#include "tests/apply/ledger.h"

#include <algorithm>
#include <functional>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/bytes.h"
#include "base/check.h"
#include "proto/row_block.h"
#include "tests/apply/played_master.h"

namespace bitacora::apply {
namespace {

constexpr std::uint32_t kAccounts = 70001;
constexpr std::uint32_t kLog = 70002;
constexpr std::uint32_t kInt8 = 20;
constexpr std::int64_t kFirstBalance = 1000;
constexpr std::int64_t kLogRows = 20;  // the older ones are deleted
constexpr std::uint64_t kLsnStep = 0x100;

pb::Relation relation(std::uint32_t oid, const char* name, std::vector<const char*> columns) {
  pb::Relation made;
  made.set_oid(oid);
  made.set_schema("public");
  made.set_name(name);
  for (const char* column : columns) {
    auto& described = *made.add_columns();
    described.set_name(column);
    described.set_type_oid(kInt8);
    described.set_type_modifier(-1);
    described.set_key(made.columns_size() == 1);
  }
  return made;
}

}  // namespace

Ledger::Ledger(std::int64_t accounts, unsigned seed)
    : random_(seed),
      balances_(static_cast<std::size_t>(accounts), kFirstBalance),
      end_(PlayedMaster::kStart),
      batch_(std::make_shared<pb::ChangeBatch>()) {
  *add_part().mutable_relation() = relation(kAccounts, "account", {"id", "balance"});
  *add_part().mutable_relation() = relation(kLog, "log", {"n"});
  digests_.push_back(std::hash<std::string>()(state()));
}

std::string Ledger::schema_sql() const {
  return fmt::format(
      "CREATE TABLE account (id bigint PRIMARY KEY, balance bigint) WITH (fillfactor = 50);"
      "CREATE TABLE log (n bigint PRIMARY KEY);"
      "INSERT INTO account SELECT i, {} FROM generate_series(1, {}) AS i",
      kFirstBalance, balances_.size());
}

void Ledger::transaction() {
  const auto begins = end_.value + kLsnStep;
  auto& begin = *add_part().mutable_begin();
  begin.set_commit_lsn(begins);
  begin.set_commit_time_usec(1'718'100'000'000'000 + ++number_);
  std::uniform_int_distribution<std::size_t> any(0, balances_.size() - 1);
  const auto from = any(random_);
  const auto to = any(random_);
  balances_[from] -= number_ % 97;
  balances_[to] += number_ % 97;
  add_row(kLog, pb::INSERT, {number_});
  for (const auto account : {from, to})
    add_row(kAccounts, pb::UPDATE, {static_cast<std::int64_t>(account) + 1, balances_[account]});
  if (number_ > kLogRows) add_row(kLog, pb::DELETE_KEY, {number_ - kLogRows});
  auto& commit = *add_part().mutable_commit();
  commit.set_commit_lsn(begins);
  end_ = MasterLsn{begins + kLsnStep / 2};
  commit.set_end_lsn(end_.value);
  const auto digest = std::hash<std::string>()(state());
  const std::lock_guard lock(mutex_);
  digests_.push_back(digest);
}

Ledger::Batch Ledger::take() { return std::exchange(batch_, std::make_shared<pb::ChangeBatch>()); }

pb::Part& Ledger::add_part() { return *batch_->add_parts(); }

void Ledger::add_row(std::uint32_t relation, pb::RowOperation operation,
                     const std::vector<std::int64_t>& values) {
  std::vector<std::string> bytes;
  for (const auto value : values) append_big_endian(bytes.emplace_back(), value);
  proto::Row row;
  auto& tuple = operation == pb::DELETE_KEY ? row.old_tuple : row.new_tuple;
  for (const auto& value : bytes) tuple.push_back({proto::ValueKind::kBinary, value});
  proto::RowBlockBuilder builder(relation, operation);
  CHECK(builder.append(relation, operation, row));
  *add_part().mutable_rows() = builder.finish();
}

// As reader_sql() shows it.
std::string Ledger::state() const {
  std::vector<std::int64_t> log;
  for (auto n = std::max<std::int64_t>(1, number_ - kLogRows + 1); n <= number_; ++n)
    log.push_back(n);
  return fmt::format("{} | {} | {}", number_, fmt::join(log, " "), fmt::join(balances_, " "));
}

std::string Ledger::reader_sql() {
  return "SELECT concat_ws(' | ', (SELECT coalesce(max(n), 0) FROM log),"
         " (SELECT coalesce(string_agg(n::text, ' ' ORDER BY n), '') FROM log),"
         " (SELECT string_agg(balance::text, ' ' ORDER BY id) FROM account))";
}

bool Ledger::was_in_state(const std::string& seen, std::int64_t& number) const {
  number = std::stoll(seen);
  const std::lock_guard lock(mutex_);
  const auto index = static_cast<std::size_t>(number);
  return index < digests_.size() && digests_[index] == std::hash<std::string>()(seen);
}

}  // namespace bitacora::apply
