#include "wal/publication_plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "proto/relation.h"

namespace bitacora::wal {
namespace {

using Tables = std::map<QualifiedTable, ListedTable>;

std::string readable(const QualifiedTable& name) {
  return proto::qualified_name(name.first, name.second);
}

// All of it in one pair, as PostgreSQL spells most filters: (a > 1), but (a)::boolean.
bool in_parentheses(const std::string& sql) {
  int depth = 0;
  char quote = 0;
  for (std::size_t i = 0; i < sql.size(); ++i) {
    const char c = sql[i];
    if (quote != 0) {
      if (c == quote) quote = 0;
      continue;
    }
    if (c == '\'' || c == '"') quote = c;
    depth += c == '(' ? 1 : 0;
    depth -= c == ')' ? 1 : 0;
    if (depth == 0) return i > 0 && i + 1 == sql.size();
  }
  return false;
}

std::string entry(const QualifiedTable& name, const ListedTable& table) {
  std::string sql = sql_table(name, table);
  if (!table.columns.empty()) sql += " (" + table.columns + ")";
  if (!table.where.empty())
    sql += in_parentheses(table.where) ? " WHERE " + table.where : " WHERE (" + table.where + ")";
  return sql;
}

std::string entries(const Tables& tables) {
  std::vector<std::string> list;
  for (const auto& [name, table] : tables) list.push_back(entry(name, table));
  return fmt::format("{}", fmt::join(list, ", "));
}

std::string names(const Tables& tables) {
  std::vector<std::string> list;
  for (const auto& [name, table] : tables) list.push_back(sql_table(name, table));
  return fmt::format("{}", fmt::join(list, ", "));
}

std::string identifiers(const std::set<std::string>& schemas) {
  std::vector<std::string> list;
  for (const auto& schema : schemas) list.push_back(proto::sql_identifier(schema));
  return fmt::format("{}", fmt::join(list, ", "));
}

// In the order in which PostgreSQL documents them.
std::string spelled(const std::set<std::string>& operations) {
  std::vector<std::string> list;
  for (const auto& operation : all_operations()) {
    if (operations.contains(operation)) list.push_back(operation);
  }
  return fmt::format("{}", fmt::join(list, ", "));
}

std::set<std::string> without(const std::set<std::string>& from, const std::set<std::string>& of) {
  std::set<std::string> rest;
  for (const auto& one : from) {
    if (!of.contains(one)) rest.insert(one);
  }
  return rest;
}

Tables without(const Tables& from, const Tables& of) {
  Tables rest;
  for (const auto& [name, table] : from) {
    if (!of.contains(name)) rest.emplace(name, table);
  }
  return rest;
}

std::string in_brackets(const std::string& columns) {
  return columns.empty() ? "all" : "(" + columns + ")";
}

std::string or_every_row(const std::string& where) { return where.empty() ? "true" : where; }

class Planner {
 public:
  Planner(const std::string& name, const Publication& wanted)
      : name_(proto::sql_identifier(name)), wanted_(wanted) {}

  PublicationPlan creation() {
    plan_.creates = true;
    create();
    if (wanted_.all_tables) plan_.lines.emplace_back("+ all tables, those to come too");
    for (const auto& schema : wanted_.schemas) plan_.lines.push_back("+ schema " + schema);
    for (const auto& [name, table] : wanted_.tables) say_added(name, table);
    if (!ships_everything()) plan_.lines.push_back("+ publish: " + spelled(wanted_.operations));
    return std::move(plan_);
  }

  PublicationPlan change(const Publication& as_is) {
    const Tables changed = changed_tables(as_is);
    compare_kind(as_is);
    compare_tables(as_is, changed);
    compare_operations(as_is);
    if (as_is.all_tables != wanted_.all_tables) {
      plan_.statements.push_back("DROP PUBLICATION " + name_);
      create();
    } else {
      alter(as_is, changed);
    }
    if (!plan_.changes_nothing()) lock(without(wanted_.published, as_is.published));
    return std::move(plan_);
  }

 private:
  bool ships_everything() const { return wanted_.operations.size() == all_operations().size(); }

  void create() {
    std::vector<std::string> what;
    if (!wanted_.tables.empty()) what.push_back("TABLE " + entries(wanted_.tables));
    if (!wanted_.schemas.empty())
      what.push_back("TABLES IN SCHEMA " + identifiers(wanted_.schemas));
    const auto objects =
        wanted_.all_tables ? std::string("ALL TABLES") : fmt::format("{}", fmt::join(what, ", "));
    const auto publish =
        ships_everything() ? "" : fmt::format(", publish = '{}'", spelled(wanted_.operations));
    plan_.statements.push_back(
        fmt::format("CREATE PUBLICATION {} FOR {} WITH (publish_via_partition_root = {}{})", name_,
                    objects, wanted_.via_root, publish));
  }

  // Listed before and after, in another shape.
  Tables changed_tables(const Publication& as_is) const {
    Tables changed;
    for (const auto& [name, table] : wanted_.tables) {
      const auto before = as_is.tables.find(name);
      if (before != as_is.tables.end() && !before->second.ships_as(table))
        changed.emplace(name, table);
    }
    return changed;
  }

  void compare_kind(const Publication& as_is) {
    if (as_is.all_tables && !wanted_.all_tables)
      plan_.lines.emplace_back("~ all tables, those to come too -> these only");
    if (!as_is.all_tables && wanted_.all_tables)
      plan_.lines.emplace_back("~ these tables only -> all tables, those to come too");
    for (const auto& schema : without(wanted_.schemas, as_is.schemas)) {
      plan_.lines.push_back("+ schema " + schema);
      plan_.added.push_back("schema " + schema);
    }
    for (const auto& schema : without(as_is.schemas, wanted_.schemas)) {
      plan_.lines.push_back("- schema " + schema);
      plan_.dropped.push_back("schema " + schema);
    }
  }

  void compare_tables(const Publication& as_is, const Tables& changed) {
    for (const auto& [name, table] : without(wanted_.published, as_is.published)) {
      const auto listed = wanted_.tables.find(name);
      say_added(name, listed == wanted_.tables.end() ? table : listed->second);
      plan_.added.push_back(readable(name));
      plan_.to_resync.emplace_back(readable(name), "new in the publication");
    }
    for (const auto& [name, table] : without(as_is.published, wanted_.published)) {
      plan_.lines.push_back("- table " + readable(name));
      plan_.dropped.push_back(readable(name));
    }
    for (const auto& [name, table] : wanted_.tables) {
      const auto before = as_is.tables.find(name);
      const bool was_whole = before == as_is.tables.end() && as_is.published.contains(name);
      if (changed.contains(name)) say_changed(name, before->second, table);
      if (was_whole && !table.ships_as({})) say_changed(name, {}, table);
    }
    for (const auto& [name, table] : as_is.tables) {
      const bool whole_now = !wanted_.tables.contains(name) && wanted_.published.contains(name);
      if (whole_now && !table.ships_as({})) say_changed(name, table, {});
    }
  }

  void say_added(const QualifiedTable& name, const ListedTable& table) {
    std::string line = "+ table " + readable(name);
    if (!table.columns.empty()) line += " (" + table.columns + ")";
    if (!table.where.empty()) line += " where " + table.where;
    plan_.lines.push_back(line);
  }

  void say_changed(const QualifiedTable& name, const ListedTable& before,
                   const ListedTable& after) {
    std::vector<std::string> what;
    std::vector<std::string> why;
    if (before.columns != after.columns) {
      what.push_back(
          fmt::format("columns {} -> {}", in_brackets(before.columns), in_brackets(after.columns)));
      if (!before.columns.empty()) why.emplace_back("other columns");
    }
    if (before.where != after.where) {
      what.push_back(
          fmt::format("where {} -> {}", or_every_row(before.where), or_every_row(after.where)));
      why.emplace_back(before.where.empty() ? "the rows that the filter leaves out stay there"
                                            : "other rows");
    }
    plan_.lines.push_back(fmt::format("~ table {}: {}", readable(name), fmt::join(what, "; ")));
    plan_.changed.push_back(readable(name));
    reshaped_.emplace(name, after);
    if (!why.empty())
      plan_.to_resync.emplace_back(readable(name), fmt::format("{}", fmt::join(why, ", ")));
  }

  void compare_operations(const Publication& as_is) {
    if (as_is.operations == wanted_.operations) return;
    plan_.lines.push_back(
        fmt::format("~ publish: {} -> {}", spelled(as_is.operations), spelled(wanted_.operations)));
    plan_.changed.emplace_back("publish");
  }

  void alter(const Publication& as_is, const Tables& changed) {
    const auto alter = [&](const char* action, const std::string& what) {
      if (!what.empty())
        plan_.statements.push_back(fmt::format("ALTER PUBLICATION {} {} {}", name_, action, what));
    };
    Tables leaving = without(as_is.tables, wanted_.tables);
    Tables coming = without(wanted_.tables, as_is.tables);
    leaving.insert(changed.begin(), changed.end());
    coming.insert(changed.begin(), changed.end());
    alter("DROP TABLE", names(leaving));
    alter("DROP TABLES IN SCHEMA", identifiers(without(as_is.schemas, wanted_.schemas)));
    alter("ADD TABLE", entries(coming));
    alter("ADD TABLES IN SCHEMA", identifiers(without(wanted_.schemas, as_is.schemas)));
    if (as_is.operations != wanted_.operations)
      alter("SET", fmt::format("(publish = '{}')", spelled(wanted_.operations)));
  }

  // Otherwise a transaction that is writing to one could be half published.
  void lock(Tables tables) {
    tables.insert(reshaped_.begin(), reshaped_.end());
    if (tables.empty()) return;
    for (const auto& one : tables) plan_.locked.push_back(one.first);
    plan_.lock = {"LOCK TABLE " + names(tables) + " IN SHARE ROW EXCLUSIVE MODE"};
  }

  const std::string name_;
  const Publication& wanted_;
  Tables reshaped_;  // shipped before and after, in another shape
  PublicationPlan plan_;
};

}  // namespace

const std::vector<std::string>& all_operations() {
  static const std::vector<std::string> operations{"insert", "update", "delete", "truncate"};
  return operations;
}

std::string sql_table(const QualifiedTable& name, const ListedTable& table) {
  const auto sql = proto::sql_identifier(name.first) + "." + proto::sql_identifier(name.second);
  return table.has_children && !table.partitioned ? "ONLY " + sql : sql;
}

PublicationPlan plan_changes(const std::string& name, const std::optional<Publication>& as_is,
                             const Publication& wanted) {
  Planner planner(name, wanted);
  return as_is ? planner.change(*as_is) : planner.creation();
}

std::string as_transaction(const PublicationPlan& plan) {
  auto statements = plan.lock;
  statements.insert(statements.end(), plan.statements.begin(), plan.statements.end());
  if (statements.size() == 1) return statements.front();
  return fmt::format("BEGIN; {}; COMMIT", fmt::join(statements, "; "));
}

}  // namespace bitacora::wal
