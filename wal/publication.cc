#include "wal/publication.h"

#include <algorithm>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "proto/relation.h"

namespace bitacora::wal {
namespace {

using TableName = std::pair<std::string, std::string>;  // schema, table

std::string qualified(const TableName& table) {
  return proto::qualified_name(table.first, table.second);
}

// For SQL.
std::string joined(const std::vector<TableName>& tables) {
  std::vector<std::string> names;
  for (const auto& [schema, table] : tables) {
    names.push_back(proto::sql_identifier(schema) + "." + proto::sql_identifier(table));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

// Tables that can be published and that the patterns choose; of a partition tree its root when rows
// are published under the root's name, else its leaves.
std::vector<TableName> matching_tables(pqxx::work& tx, const PublicationOptions& options) {
  const auto rows = tx.exec(std::string("SELECT n.nspname, c.relname FROM pg_class c JOIN "
                                        "pg_namespace n ON n.oid = c.relnamespace"
                                        " WHERE c.relpersistence = 'p' AND n.nspname <> "
                                        "'information_schema' AND n.nspname !~ '^pg_'"
                                        " AND n.nspname <> 'bitacora' AND ") +
                            (options.publish_via_partition_root
                                 ? "c.relkind IN ('r', 'p') AND NOT c.relispartition"
                                 : "c.relkind = 'r'") +
                            " ORDER BY 1, 2");
  std::vector<TableName> tables;
  for (const auto row : rows) {
    TableName table{row[0].as<std::string>(), row[1].as<std::string>()};
    if (options.tables.matches(table.first, table.second)) tables.push_back(std::move(table));
  }
  return tables;
}

struct Existing {
  bool all_tables = false;
  bool via_root = false;
  std::set<TableName> tables;
};

std::optional<Existing> find_publication(pqxx::work& tx, const std::string& name) {
  const auto rows = tx.exec_params(
      "SELECT puballtables, pubviaroot FROM pg_publication WHERE pubname = $1", name);
  if (rows.empty()) return std::nullopt;
  Existing existing{rows[0][0].as<bool>(), rows[0][1].as<bool>(), {}};
  for (const auto row : tx.exec_params(
           "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = $1", name)) {
    existing.tables.emplace(row[0].as<std::string>(), row[1].as<std::string>());
  }
  return existing;
}

Error nothing_matches() {
  return Error{ErrorCode::kConfiguration, "no table on the master matches --tables",
               "compare the patterns with: SELECT schemaname, tablename FROM pg_tables"};
}

using Statements = std::vector<std::string>;  // to be run together

Result<Statements> creation(pqxx::work& tx, const std::string& name,
                            const PublicationOptions& options) {
  std::string what = "FOR ALL TABLES";
  if (!options.tables.matches_everything()) {
    const auto tables = matching_tables(tx, options);
    if (tables.empty()) return nothing_matches();
    what = "FOR TABLE " + joined(tables);
  }
  return Statements{fmt::format("CREATE PUBLICATION {} {} WITH (publish_via_partition_root = {})",
                                proto::sql_identifier(name), what,
                                options.publish_via_partition_root)};
}

// A table is locked before it is added: otherwise a transaction that is writing to it could be half
// published.
Statements addition(const std::string& name, const std::vector<TableName>& tables) {
  return {
      "LOCK TABLE " + joined(tables) + " IN SHARE ROW EXCLUSIVE MODE",
      fmt::format("ALTER PUBLICATION {} ADD TABLE {}", proto::sql_identifier(name), joined(tables)),
  };
}

Error broader_than_asked(const std::string& name, const Existing& existing,
                         const TableName& table) {
  // Nothing can be taken out of a publication for all tables.
  const std::string mend = existing.all_tables
                               ? fmt::format("DROP PUBLICATION {}", proto::sql_identifier(name))
                               : fmt::format("ALTER PUBLICATION {} DROP TABLE {}",
                                             proto::sql_identifier(name), joined({table}));
  return Error{ErrorCode::kConfiguration,
               fmt::format("publication {} also ships {}, which --tables leaves out", name,
                           qualified(table)),
               fmt::format("choose another --stream, or run on the master: {}", mend)};
}

Result<Statements> reconciliation(pqxx::work& tx, const std::string& name,
                                  const PublicationOptions& options, const Existing& existing) {
  if (existing.via_root != options.publish_via_partition_root) {
    return Error{
        ErrorCode::kConfiguration,
        fmt::format("publication {} has publish_via_partition_root = {}", name, existing.via_root),
        "run the sender with the same setting, or: ALTER PUBLICATION ... SET "
        "(publish_via_partition_root)"};
  }
  if (!options.tables_given || (existing.all_tables && options.tables.matches_everything()))
    return Statements{};
  for (const auto& table : existing.tables) {
    if (options.tables.matches(table.first, table.second)) continue;
    return broader_than_asked(name, existing, table);
  }
  std::vector<TableName> missing;
  for (auto& table : matching_tables(tx, options)) {
    if (!existing.tables.contains(table)) missing.push_back(std::move(table));
  }
  return missing.empty() ? Statements{} : addition(name, missing);
}

// A standby is read-only, and gets its catalogue from the primary.
Error for_the_primary(const std::string& name, const Statements& statements, bool exists) {
  const auto work = statements.size() == 1
                        ? statements.front()
                        : fmt::format("BEGIN; {}; COMMIT", fmt::join(statements, "; "));
  return Error{
      ErrorCode::kMaster,
      fmt::format("publication {} {}, and the master is a standby, where it cannot be made", name,
                  exists ? "lacks tables that --tables chooses" : "does not exist"),
      fmt::format("run on the primary: {}; then start the sender again", work)};
}

Result<void> set_up(pqxx::work& tx, const std::string& name, const PublicationOptions& options,
                    const std::optional<Existing>& existing) {
  ASSIGN_OR_RETURN(const auto statements, existing ? reconciliation(tx, name, options, *existing)
                                                   : creation(tx, name, options));
  if (!statements.empty() && tx.exec1("SELECT pg_is_in_recovery()")[0].as<bool>())
    return for_the_primary(name, statements, existing.has_value());
  for (const auto& statement : statements) tx.exec(statement);
  return {};
}

}  // namespace

Result<bool> ensure_publication(MasterSession& master, const std::string& name,
                                const PublicationOptions& options) {
  bool created = false;
  Result<void> outcome;
  auto done =
      master.transact(fmt::format("cannot set up publication {}", name), [&](pqxx::work& tx) {
        const auto existing = find_publication(tx, name);
        created = !existing;
        outcome = set_up(tx, name, options, existing);
      });
  if (!done.ok()) {
    Error error = done.error();
    if (!error.heals()) {
      error.hint = fmt::format(
          "as a superuser (FOR ALL TABLES) or the tables' owner, run: CREATE PUBLICATION {} FOR "
          "ALL TABLES WITH "
          "(publish_via_partition_root = {}), then start the sender again",
          proto::sql_identifier(name), options.publish_via_partition_root);
    }
    return error;
  }
  if (!outcome.ok()) return outcome.error();
  return created;
}

Result<bool> drop_publication(MasterSession& master, const std::string& name) {
  bool dropped = false;
  RETURN_IF_ERROR(
      master.transact(fmt::format("cannot drop publication {}", name), [&](pqxx::work& tx) {
        dropped = find_publication(tx, name).has_value();
        if (dropped) tx.exec("DROP PUBLICATION " + tx.quote_name(name));
      }));
  return dropped;
}

Result<std::vector<std::string>> tables_without_identity(MasterSession& master,
                                                         const std::string& publication) {
  std::vector<std::string> tables;
  RETURN_IF_ERROR(master.execute("cannot look up replica identities", [&](pqxx::nontransaction&
                                                                              tx) {
    const auto rows = tx.exec_params(
        "SELECT n.nspname, c.relname FROM pg_publication_tables p JOIN pg_namespace n ON n.nspname "
        "= p.schemaname"
        " JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename"
        " WHERE p.pubname = $1 AND (c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS"
        " (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate)"
        " OR c.relreplident = 'i' AND NOT EXISTS"  // the index was dropped
        " (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident)) ORDER BY 1, 2",
        publication);
    for (const auto row : rows) {
      tables.push_back(proto::qualified_name(row[0].as<std::string>(), row[1].as<std::string>()));
    }
  }));
  return tables;
}

}  // namespace bitacora::wal
