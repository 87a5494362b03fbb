#include "wal/sequences.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "proto/relation.h"

namespace bitacora::wal {
namespace {

constexpr const char* kReading = "cannot read the master's sequences";
constexpr std::size_t kPerStatement = 200;

// A column of a published table has a sequence that goes with it (serial: 'a', identity: 'i'), or
// one that its default mentions.
constexpr const char* kServedQuery = R"(
WITH published AS (
  SELECT c.oid, p.schemaname, p.tablename FROM pg_publication_tables p
  JOIN pg_namespace n ON n.nspname = p.schemaname
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
  WHERE p.pubname = $1
)
SELECT d.objid, p.schemaname, p.tablename, c.attname
FROM pg_depend d JOIN published p ON p.oid = d.refobjid
JOIN pg_attribute c ON c.attrelid = d.refobjid AND c.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
  AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
UNION
SELECT d.refobjid, p.schemaname, p.tablename, NULL
FROM pg_depend d JOIN pg_attrdef a ON a.oid = d.objid JOIN published p ON p.oid = a.adrelid
WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
ORDER BY 4, 2, 3)";

// Temporary ones are in a system schema.
constexpr const char* kSequencesQuery = R"(
SELECT s.oid, n.nspname, s.relname,
       pg_catalog.has_sequence_privilege(s.oid, 'SELECT') AND pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
       pg_catalog.format('%I.%I', n.nspname, s.relname)
FROM pg_class s JOIN pg_namespace n ON n.oid = s.relnamespace
WHERE s.relkind = 'S' AND n.nspname !~ '^pg_'
  AND n.nspname NOT IN ('information_schema', 'bitacora')
ORDER BY 2, 3)";

// What published tables a sequence serves.
struct Served {
  std::vector<pb::TableName> tables;
  std::string column;  // of the first one, which it goes with; empty: with none
};

struct Sequence {
  std::string schema;
  std::string name;
  std::string sql;  // its name
  Served served;
};

std::map<std::uint32_t, Served> served_tables(pqxx::work& tx, const std::string& publication) {
  std::map<std::uint32_t, Served> all;
  for (const auto row : tx.exec_params(kServedQuery, publication)) {
    auto& served = all[row[0].as<std::uint32_t>()];
    pb::TableName table;
    table.set_schema(row[1].as<std::string>());
    table.set_name(row[2].as<std::string>());
    // A serial column's default mentions the sequence, too.
    const bool known =
        std::any_of(served.tables.begin(), served.tables.end(), [&](const pb::TableName& other) {
          return other.schema() == table.schema() && other.name() == table.name();
        });
    if (known) continue;
    if (served.tables.empty()) served.column = row[3].as<std::string>("");
    served.tables.push_back(std::move(table));
  }
  return all;
}

// A receiver learns of those only that it may have.
void narrow(Served& served, const TablePatterns& may) {
  auto& tables = served.tables;
  const auto hidden = [&](const pb::TableName& table) {
    return !may.matches(table.schema(), table.name());
  };
  if (!tables.empty() && hidden(tables.front())) served.column.clear();
  std::erase_if(tables, hidden);
}

std::vector<Sequence> choose(pqxx::work& tx, const std::string& publication,
                             const TablePatterns& tables, const TablePatterns& may,
                             pb::SequenceValues& values) {
  const auto served = served_tables(tx, publication);
  std::vector<Sequence> chosen;
  for (const auto row : tx.exec(kSequencesQuery)) {
    Sequence sequence{
        row[1].as<std::string>(), row[2].as<std::string>(), row[4].as<std::string>(), {}};
    const auto found = served.find(row[0].as<std::uint32_t>());
    if (found != served.end()) sequence.served = found->second;
    const bool chosen_itself = sequence.served.tables.empty() &&
                               tables.matches(sequence.schema, sequence.name) &&
                               may.matches(sequence.schema, sequence.name);
    narrow(sequence.served, may);
    if (sequence.served.tables.empty() && !chosen_itself) continue;
    if (row[3].as<bool>(false)) {
      chosen.push_back(std::move(sequence));
    } else {
      values.add_unreadable(proto::qualified_name(sequence.schema, sequence.name));
    }
  }
  return chosen;
}

void read_values(pqxx::work& tx, const Sequence* begin, const Sequence* end,
                 pb::SequenceValues& values) {
  std::string sql;
  for (const auto* sequence = begin; sequence != end; ++sequence) {
    sql += fmt::format("{}SELECT {}, last_value, is_called FROM {}",
                       sql.empty() ? "" : " UNION ALL ", sequence - begin, sequence->sql);
  }
  for (const auto row : tx.exec(sql)) {
    const Sequence& sequence = begin[row[0].as<int>()];
    auto* value = values.add_values();
    value->set_schema(sequence.schema);
    value->set_name(sequence.name);
    value->set_last_value(row[1].as<std::int64_t>());
    value->set_is_called(row[2].as<bool>());
    const auto& served = sequence.served;
    value->mutable_tables()->Assign(served.tables.begin(), served.tables.end());
    value->set_column(served.column);
  }
}

}  // namespace

Result<pb::SequenceValues> read_sequences(MasterSession& master, const std::string& publication,
                                          const TablePatterns& tables, const TablePatterns& may) {
  pb::SequenceValues values;
  RETURN_IF_ERROR(master.transact(kReading, [&](pqxx::work& tx) {
    const auto chosen = choose(tx, publication, tables, may, values);
    for (std::size_t i = 0; i < chosen.size(); i += kPerStatement) {
      const auto count = std::min(kPerStatement, chosen.size() - i);
      read_values(tx, &chosen[i], &chosen[i] + count, values);
    }
  }));
  return values;
}

}  // namespace bitacora::wal
