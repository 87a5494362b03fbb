#include "tests/apply/played_master.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <sstream>
#include <stdexcept>

#include "proto/relation.h"

namespace bitacora::apply {
namespace {

using proto::ValueKind;

constexpr std::uint64_t kTransactionBytes = 0x100;
constexpr std::uint64_t kCommitRecordBytes = 0x30;
constexpr std::int64_t kCommitTimeUsec = 1'718'100'000'000'000;

constexpr const char* kDescription = R"(
SELECT c.oid, n.nspname, c.relname, c.relreplident, a.attname, a.atttypid, a.atttypmod,
       t.typsend::oid <> 0, bn.nspname, b.typname,
       c.relreplident = 'f' OR EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND a.attnum = ANY (i.indkey)
         AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
LEFT JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type b ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END
LEFT JOIN pg_namespace bn ON bn.oid = b.typnamespace
WHERE c.oid = '{}'::regclass ORDER BY a.attnum)";

pb::ReplicaIdentity identity_of(char relreplident) {
  switch (relreplident) {
    case 'f':
      return pb::REPLICA_IDENTITY_FULL;
    case 'i':
      return pb::REPLICA_IDENTITY_INDEX;
    case 'n':
      return pb::REPLICA_IDENTITY_NOTHING;
    default:
      return pb::REPLICA_IDENTITY_DEFAULT;
  }
}

proto::Tuple views(const auto& owned) {
  proto::Tuple tuple;
  for (const auto& value : owned) tuple.push_back({value.kind, value.bytes});
  return tuple;
}

}  // namespace

PlayedMaster::PlayedMaster(const std::string& conninfo, ValueFormat format)
    : connection_(PQconnectdb(conninfo.c_str())), format_(format) {
  // Rows are updated and read in the order they stand in the table.
  ask("SET enable_indexscan = off");
  ask("SET enable_bitmapscan = off");
  ask("SET client_min_messages = warning");
}

ResultHandle PlayedMaster::ask(const std::string& sql, bool binary) {
  ResultHandle result(PQexecParams(connection_.get(), sql.c_str(), 0, nullptr, nullptr, nullptr,
                                   nullptr, binary ? 1 : 0));
  const auto status = PQresultStatus(result.get());
  if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
    throw std::runtime_error(sql + ": " + PQerrorMessage(connection_.get()));
  }
  return result;
}

void PlayedMaster::execute(const std::string& sql) {
  const ResultHandle result(PQexec(connection_.get(), sql.c_str()));  // may be several statements
  if (PQresultStatus(result.get()) == PGRES_FATAL_ERROR) {
    throw std::runtime_error(sql + ": " + PQerrorMessage(connection_.get()));
  }
  tables_.clear();
}

const PlayedMaster::Table& PlayedMaster::described(const std::string& name) {
  const auto [found, inserted] = tables_.try_emplace(name);
  Table& table = found->second;
  if (!inserted) return table;
  const auto rows = ask(fmt::format(fmt::runtime(kDescription), name));
  const auto field = [&](int row, int column) { return PQgetvalue(rows.get(), row, column); };
  table.sql_name = name;
  table.relation.set_oid(static_cast<std::uint32_t>(std::stoul(field(0, 0))));
  table.relation.set_schema(field(0, 1));
  table.relation.set_name(field(0, 2));
  table.relation.set_replica_identity(identity_of(*field(0, 3)));
  for (int i = 0; i < PQntuples(rows.get()) && PQgetisnull(rows.get(), i, 4) == 0; ++i) {
    auto& column = *table.relation.add_columns();
    column.set_name(field(i, 4));
    column.set_type_oid(static_cast<std::uint32_t>(std::stoul(field(i, 5))));
    column.set_type_modifier(std::stoi(field(i, 6)));
    column.set_key(*field(i, 10) == 't');
    table.has_send.push_back(*field(i, 7) == 't');
    if (column.type_oid() < proto::kFirstGenbkiOid) continue;
    auto& type = *add_part().mutable_type();
    type.set_oid(column.type_oid());
    type.set_schema(field(i, 8));
    type.set_name(field(i, 9));
  }
  *add_part().mutable_relation() = table.relation;
  return table;
}

// Where the rows stand that a statement answers with, as an array of ctids.
std::string PlayedMaster::places(const std::string& sql) {
  const auto rows = ask(sql);
  std::string array;
  for (int i = 0; i < PQntuples(rows.get()); ++i) {
    array += fmt::format("{}\"{}\"", i == 0 ? "" : ",", PQgetvalue(rows.get(), i, 0));
  }
  return "{" + array + "}";
}

std::vector<PlayedMaster::OwnedTuple> PlayedMaster::rows_at(const Table& table,
                                                            const std::string& places) {
  const bool binary = format_ == ValueFormat::kBinary;
  std::string list;
  for (int i = 0; i < table.relation.columns_size(); ++i) {
    const auto name = "r." + proto::sql_identifier(table.relation.columns(i).name());
    const bool as_is = !binary || table.has_send[static_cast<std::size_t>(i)];
    list += (i == 0 ? "" : ", ") + (as_is ? name : "CAST(" + name + " AS text)");
  }
  const auto result = ask(
      fmt::format("SELECT {} FROM unnest('{}'::tid[]) WITH ORDINALITY AS at (place, n) JOIN {} AS r"
                  " ON r.ctid = at.place ORDER BY n",
                  list, places, table.sql_name),
      binary);
  std::vector<OwnedTuple> tuples(static_cast<std::size_t>(PQntuples(result.get())));
  for (int row = 0; row < PQntuples(result.get()); ++row) {
    for (int column = 0; column < PQnfields(result.get()); ++column) {
      const bool sent = binary && table.has_send[static_cast<std::size_t>(column)];
      OwnedValue value{sent ? ValueKind::kBinary : ValueKind::kText,
                       {PQgetvalue(result.get(), row, column),
                        static_cast<std::size_t>(PQgetlength(result.get(), row, column))}};
      if (PQgetisnull(result.get(), row, column) != 0) value = {ValueKind::kNull, {}};
      tuples[static_cast<std::size_t>(row)].push_back(std::move(value));
    }
  }
  return tuples;
}

void PlayedMaster::change(const std::string& sql) {
  std::istringstream words(sql);
  std::string verb;
  std::string name;
  words >> verb;
  if (verb != "UPDATE") words >> name;  // INTO, FROM
  words >> name;
  const Table& table = described(name);
  if (verb == "INSERT") {
    for (const auto& row : rows_at(table, places(sql + " RETURNING ctid"))) {
      append(table, pb::INSERT, {}, row);
    }
    return;
  }
  const auto where = sql.substr(sql.find(" WHERE "));
  auto before = rows_at(table, places("SELECT ctid FROM " + name + where));
  if (verb == "UPDATE") {
    return update(table, std::move(before), rows_at(table, places(sql + " RETURNING ctid")));
  }
  ask(sql);
  const bool full = table.relation.replica_identity() == pb::REPLICA_IDENTITY_FULL;
  for (const auto& row : before) {
    append(table, full ? pb::DELETE_FULL : pb::DELETE_KEY, full ? row : key_of(table, row), {});
  }
}

void PlayedMaster::update(const Table& table, std::vector<OwnedTuple> before,
                          std::vector<OwnedTuple> after) {
  for (std::size_t row = 0; row < after.size(); ++row) {
    bool key_changed = false;
    for (std::size_t i = 0; i < after[row].size(); ++i) {
      const auto& column = table.relation.columns(static_cast<int>(i));
      const bool same = before[row][i].bytes == after[row][i].bytes;
      key_changed |= column.key() && !same;
      if (same && toasted_.contains(column.name())) after[row][i] = {ValueKind::kUnchanged, {}};
    }
    if (table.relation.replica_identity() == pb::REPLICA_IDENTITY_FULL) {
      append(table, pb::UPDATE_FULL, before[row], after[row]);
    } else if (key_changed) {
      append(table, pb::UPDATE_KEY, key_of(table, before[row]), after[row]);
    } else {
      append(table, pb::UPDATE, {}, after[row]);
    }
  }
}

PlayedMaster::OwnedTuple PlayedMaster::key_of(const Table& table, const OwnedTuple& whole) {
  OwnedTuple key = whole;
  for (std::size_t i = 0; i < key.size(); ++i) {
    if (!table.relation.columns(static_cast<int>(i)).key()) key[i] = {ValueKind::kNull, {}};
  }
  return key;
}

void PlayedMaster::append(const Table& table, pb::RowOperation operation, const OwnedTuple& before,
                          const OwnedTuple& after) {
  const auto oid = table.relation.oid();
  const proto::Row row{views(before), views(after)};
  if (block_ && block_->append(oid, operation, row)) return;
  end_block();
  block_.emplace(oid, operation);
  if (!block_->append(oid, operation, row)) throw std::runtime_error("no block holds this row");
}

void PlayedMaster::truncate(const std::vector<std::string>& tables, bool restart_identity) {
  std::vector<std::uint32_t> oids;
  for (const auto& name : tables) oids.push_back(described(name).relation.oid());
  ask(fmt::format("TRUNCATE {}", fmt::join(tables, ", ")));
  auto& truncate = *add_part().mutable_truncate();
  for (const auto oid : oids) truncate.add_relation_oids(oid);
  truncate.set_restart_identity(restart_identity);
}

void PlayedMaster::begin() {
  auto& begin = *add_part().mutable_begin();
  begin.set_xid(733);
  begin.set_commit_lsn(end_.value + kTransactionBytes);
  begin.set_commit_time_usec(kCommitTimeUsec);
}

void PlayedMaster::commit() {
  auto& commit = *add_part().mutable_commit();
  commit.set_commit_lsn(end_.value + kTransactionBytes);
  end_.value += kTransactionBytes + kCommitRecordBytes;
  commit.set_end_lsn(end_.value);
}

void PlayedMaster::transaction(const std::vector<std::string>& changes) {
  begin();
  for (const auto& sql : changes) change(sql);
  commit();
}

void PlayedMaster::idle() {
  end_.value += kTransactionBytes;
  add_part().mutable_idle_position()->set_lsn(end_.value);
}

PlayedMaster::Batch PlayedMaster::take() {
  end_block();
  return std::exchange(batch_, std::make_shared<pb::ChangeBatch>());
}

pb::Part& PlayedMaster::add_part() {
  end_block();
  return *batch_->add_parts();
}

void PlayedMaster::end_block() {
  if (block_) *batch_->add_parts()->mutable_rows() = block_->finish();
  block_.reset();
}

}  // namespace bitacora::apply
