#include "wal/publication_probe.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/sqlstate.h"
#include "proto/relation.h"

namespace bitacora::wal {
namespace {

// What its filter reads.
constexpr const char* kFilterColumnsQuery = R"(
SELECT a.attname FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
JOIN pg_depend d ON d.classid = 'pg_publication_rel'::regclass AND d.objid = r.oid
     AND d.refclassid = 'pg_class'::regclass AND d.refobjid = r.prrelid
JOIN pg_attribute a ON a.attrelid = r.prrelid AND a.attnum = d.refobjsubid
WHERE p.pubname = $1 AND d.refobjsubid > 0)";

// Of the table, or of the leaves of a partition tree, by which rows are written there.
constexpr const char* kIdentitiesQuery = R"(
WITH asked AS (
  SELECT c.oid, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = $1 AND c.relname = $2
), written AS (
  SELECT oid FROM asked WHERE relkind = 'r'
  UNION SELECT t.relid FROM asked CROSS JOIN LATERAL pg_partition_tree(asked.oid) t WHERE t.isleaf
)
SELECT c.oid, n.nspname, c.relname, c.relreplident = 'f', a.attname
FROM written w JOIN pg_class c ON c.oid = w.oid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index i ON i.indrelid = c.oid
     AND (c.relreplident = 'd' AND i.indisprimary AND i.indimmediate
          OR c.relreplident = 'i' AND i.indisreplident)
LEFT JOIN pg_attribute a ON a.attrelid = c.oid
     AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
ORDER BY 2, 3, a.attnum)";

struct Identity {
  std::string table;
  bool full = false;
  std::set<std::string> columns = {};
};

// Without the place in a statement that nobody wrote.
std::string words_of(const std::string& message) {
  std::string words;
  for (std::size_t at = 0; at < message.size();) {
    const auto end = std::min(message.find('\n', at), message.size());
    const auto line = message.substr(at, end - at);
    at = end + 1;
    if (line.starts_with("LINE ") || line.find_first_not_of(" ^") == std::string::npos) continue;
    words += (words.empty() ? "" : " ") + line;
  }
  return words;
}

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size()))
    text.replace(at, what.size(), by);
  return text;
}

std::string list(const std::set<std::string>& names) {
  std::vector<std::string> quoted;
  for (const auto& name : names) quoted.push_back(proto::quoted_name(name));
  return fmt::format("{}", fmt::join(quoted, ", "));
}

std::set<std::string> outside(const std::set<std::string>& columns,
                              const std::set<std::string>& of) {
  std::set<std::string> rest;
  for (const auto& column : columns) {
    if (!of.contains(column)) rest.insert(column);
  }
  return rest;
}

// Whatever their order and quoting.
std::set<std::string> plain_names(std::string columns) {
  std::erase(columns, '"');
  std::set<std::string> names;
  for (std::size_t at = 0; at < columns.size();) {
    const auto end = std::min(columns.find(", ", at), columns.size());
    names.insert(columns.substr(at, end - at));
    at = end + 2;
  }
  return names;
}

class Probe {
 public:
  Probe(pqxx::work& tx, std::string publication, PublicationChoice& choice,
        std::optional<Error>& refusal)
      : tx_(tx), publication_(std::move(publication)), choice_(choice), refusal_(refusal) {
    name_ =
        fmt::format("bitacora_probe_{}", tx_.exec1("SELECT pg_backend_pid()")[0].as<std::string>());
  }

  Result<void> run() {
    tx_.exec("SAVEPOINT probe");
    tx_.exec(fmt::format("CREATE PUBLICATION {} WITH (publish_via_partition_root = {})", name_,
                         choice_.wanted.via_root));
    for (const auto& schema : choice_.wanted.schemas)
      alter("ADD TABLES IN SCHEMA " + proto::sql_identifier(schema));
    for (const auto& [table, rule] : choice_.rules) RETURN_IF_ERROR(spell(table, rule));
    tx_.exec("ROLLBACK TO SAVEPOINT probe");
    return {};
  }

 private:
  // One statement, whatever a rule says.
  void alter(const std::string& action) {
    tx_.exec_params(fmt::format("ALTER PUBLICATION {} {}", name_, action));
  }

  void try_entry(const QualifiedTable& name, const PublicationRule& rule, bool columns) {
    auto& table = choice_.wanted.tables.at(name);
    auto sql = "ADD TABLE " + sql_table(name, table);
    if (columns && !rule.columns.empty()) {
      std::vector<std::string> identifiers;
      for (const auto& column : rule.columns) identifiers.push_back(proto::sql_identifier(column));
      sql += fmt::format(" ({})", fmt::join(identifiers, ", "));
    }
    if (!rule.where.empty()) sql += " WHERE (" + rule.where + "\n)";
    try {
      alter(sql);
    } catch (const pqxx::insufficient_privilege&) {
      throw;
    } catch (const pqxx::sql_error& e) {
      // libpqxx leaves some refusals' SQLSTATE empty.
      const bool heals =
          !e.sqlstate().empty() && recovery_for_sqlstate(e.sqlstate()) != Recovery::kStop;
      if (!heals) refusal_ = refused(name, rule, e);
      throw;
    }
  }

  Error refused(const QualifiedTable& name, const PublicationRule& rule,
                const pqxx::sql_error& e) const {
    return {ErrorCode::kConfiguration,
            fmt::format("[table.\"{}\"]: the master refuses it for table {}: {}", rule.pattern,
                        proto::qualified_name(name.first, name.second),
                        replaced(words_of(e.what()), name_, publication_)),
            "mend columns and where of that section"};
  }

  Result<void> spell(const QualifiedTable& name, const PublicationRule& rule) {
    std::set<std::string> filter_columns;
    if (!rule.where.empty()) {
      try_entry(name, rule, false);
      for (const auto row : tx_.exec_params(kFilterColumnsQuery, name_))
        filter_columns.insert(row[0].as<std::string>());
    }
    if (!rule.columns.empty()) {
      if (!rule.where.empty())
        alter("DROP TABLE " + sql_table(name, choice_.wanted.tables.at(name)));
      try_entry(name, rule, true);
    }
    const auto found = find_publication(tx_, name_);
    auto& table = choice_.wanted.tables.at(name);
    table = found->tables.at(name);
    // So that what depends on filters is this table's alone.
    alter("DROP TABLE " + sql_table(name, table));
    const auto& operations = choice_.wanted.operations;
    if (!operations.contains("update") && !operations.contains("delete")) return {};
    for (const auto& identity : identities(name))
      RETURN_IF_ERROR(check_identity(identity, rule, filter_columns));
    return {};
  }

  std::vector<Identity> identities(const QualifiedTable& name) {
    std::vector<Identity> found;
    std::string last;
    for (const auto row : tx_.exec_params(kIdentitiesQuery, name.first, name.second)) {
      if (row[0].c_str() != last)
        found.push_back({proto::qualified_name(row[1].as<std::string>(), row[2].as<std::string>()),
                         row[3].as<bool>()});
      last = row[0].c_str();
      if (!row[4].is_null()) found.back().columns.insert(row[4].as<std::string>());
    }
    return found;
  }

  static Result<void> check_identity(const Identity& identity, const PublicationRule& rule,
                                     const std::set<std::string>& filter_columns) {
    const auto error = [&](const std::string& what, const std::string& hint) {
      return Error{ErrorCode::kConfiguration,
                   fmt::format("[table.\"{}\"]: {}, and the master would refuse UPDATE and DELETE "
                               "on table {}",
                               rule.pattern, what, identity.table),
                   hint + ", or operations = [\"insert\"]"};
    };
    if (identity.full) {
      if (rule.columns.empty()) return {};
      return error("columns goes with no REPLICA IDENTITY FULL",
                   "give the table a primary key and REPLICA IDENTITY DEFAULT, leave columns out");
    }
    const auto missing = outside(identity.columns, {rule.columns.begin(), rule.columns.end()});
    if (!rule.columns.empty() && !missing.empty())
      return error(fmt::format("columns leaves out {} of the replica identity", list(missing)),
                   fmt::format("add {} to columns", list(missing)));
    const auto foreign = outside(filter_columns, identity.columns);
    if (foreign.empty()) return {};
    return error(
        fmt::format("where reads {}, outside of the replica identity", list(foreign)),
        fmt::format("ALTER TABLE {} REPLICA IDENTITY FULL, or USING INDEX of a unique index with "
                    "{}",
                    identity.table, list(foreign)));
  }

  pqxx::work& tx_;
  const std::string publication_;
  PublicationChoice& choice_;
  std::optional<Error>& refusal_;
  std::string name_;
};

}  // namespace

Result<void> spell_rules(pqxx::work& tx, const std::string& publication, PublicationChoice& choice,
                         std::optional<Error>& refusal) {
  if (choice.rules.empty()) return {};
  return Probe(tx, publication, choice, refusal).run();
}

void take_rules_as_they_are(const std::optional<Publication>& as_is, PublicationChoice& choice,
                            std::vector<std::string>& not_compared) {
  for (const auto& [name, rule] : choice.rules) {
    auto& table = choice.wanted.tables.at(name);
    std::vector<std::string> identifiers;
    for (const auto& column : rule.columns) identifiers.push_back(proto::sql_identifier(column));
    table.columns = fmt::format("{}", fmt::join(identifiers, ", "));
    table.where = rule.where;
    if (!as_is || !as_is->tables.contains(name)) continue;
    const auto& found = as_is->tables.at(name);
    if (plain_names(found.columns) == plain_names(table.columns)) table.columns = found.columns;
    if (rule.where.empty() || found.where.empty() || rule.where == found.where) continue;
    table.where = found.where;
    not_compared.push_back(proto::qualified_name(name.first, name.second));
  }
}

}  // namespace bitacora::wal
