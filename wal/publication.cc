#include "wal/publication.h"

#include <optional>

#include <fmt/format.h>

#include "proto/relation.h"
#include "wal/publication_catalogue.h"
#include "wal/publication_probe.h"

namespace bitacora::wal {
namespace {

// A partition root that somebody listed ships its leaves, those to come too: it stays when all of
// them are wanted whole.
void keep_listed_roots(pqxx::work& tx, const std::optional<Publication>& as_is,
                       PublicationChoice& choice) {
  if (!as_is || as_is->via_root) return;
  auto& wanted = choice.wanted.tables;
  for (const auto& [root, table] : as_is->tables) {
    if (!table.partitioned || wanted.contains(root)) continue;
    const auto leaves = leaves_of(tx, root);
    bool all = !leaves.empty();
    for (const auto& leaf : leaves) all &= wanted.contains(leaf) && !choice.rules.contains(leaf);
    if (!all || !table.ships_as({})) continue;
    for (const auto& leaf : leaves) {
      if (!as_is->tables.contains(leaf)) wanted.erase(leaf);
    }
    wanted.emplace(root, table);
  }
}

struct Planned {
  PublicationPlan plan;
  bool in_recovery = false;
};

Result<Planned> plan_in(pqxx::work& tx, const std::string& name, const PublicationOptions& options,
                        std::optional<Error>& refusal) {
  const auto as_is = find_publication(tx, name);
  const auto catalogue = read_catalogue(tx, options.publish_via_partition_root);
  ASSIGN_OR_RETURN(auto choice, choose(options, catalogue, as_is));
  std::vector<std::string> not_compared;
  if (catalogue.in_recovery) {
    take_rules_as_they_are(as_is, choice, not_compared);
  } else {
    RETURN_IF_ERROR(spell_rules(tx, name, choice, refusal));
  }
  keep_listed_roots(tx, as_is, choice);
  Planned planned{plan_changes(name, as_is, choice.wanted), catalogue.in_recovery};
  planned.plan.unmatched = std::move(choice.unmatched);
  planned.plan.not_compared = std::move(not_compared);
  return planned;
}

Error with_superuser_hint(Error error, const std::string& name, const PublicationOptions& options) {
  if (error.heals() || !error.hint.empty()) return error;
  error.hint = fmt::format(
      "as a superuser (FOR ALL TABLES, TABLES IN SCHEMA) or the tables' owner, run: CREATE "
      "PUBLICATION {} FOR ALL TABLES WITH (publish_via_partition_root = {}), then start the sender "
      "again",
      proto::sql_identifier(name), options.publish_via_partition_root);
  return error;
}

std::string doing(const std::string& name) {
  return fmt::format("cannot set up publication {}", name);
}

// Changes nothing, also in what goes wrong. What it locks is locked no longer.
Result<Planned> plan_and_roll_back(pqxx::work& tx, const std::string& name,
                                   const PublicationOptions& options,
                                   std::optional<Error>& refusal) {
  refusal.reset();
  tx.exec("SAVEPOINT planning");
  auto planned = plan_in(tx, name, options, refusal);
  tx.exec("ROLLBACK TO SAVEPOINT planning");
  return planned;
}

Result<Planned> plan(MasterSession& master, const std::string& name,
                     const PublicationOptions& options, const LockPatience& patience,
                     const std::stop_token& stop) {
  std::optional<Error> refusal;
  std::optional<Result<Planned>> planned;
  const auto done = transact_patiently(
      master, doing(name), {}, patience, stop,
      [&](pqxx::work& tx) { planned = plan_and_roll_back(tx, name, options, refusal); });
  if (refusal) return *refusal;
  if (!done.ok()) return with_superuser_hint(done.error(), name, options);
  return *planned;
}

bool same_work(const PublicationPlan& a, const PublicationPlan& b) {
  return a.lock == b.lock && a.statements == b.statements;
}

// Does what was planned, if that is still what is to be done once its locks are held. Answers the
// plan as it is then; when it is another one, nothing was changed.
Result<Planned> carry_out(MasterSession& master, const std::string& name,
                          const PublicationOptions& options, const PublicationPlan& plan,
                          const LockPatience& patience, const std::stop_token& stop) {
  std::optional<Error> refusal;
  std::optional<Result<Planned>> now;
  const auto done =
      transact_patiently(master, doing(name), plan.locked, patience, stop, [&](pqxx::work& tx) {
        for (const auto& statement : plan.lock) tx.exec(statement);
        now = plan_and_roll_back(tx, name, options, refusal);
        if (!now->ok() || !same_work((*now)->plan, plan)) return;
        for (const auto& statement : plan.statements) tx.exec(statement);
      });
  if (refusal) return *refusal;
  if (!done.ok()) return with_superuser_hint(done.error(), name, options);
  return *now;
}

// It may be long until the locks are there, and others change the publication meanwhile.
constexpr int kPlansMax = 5;

Error changed_by_others(const std::string& name) {
  return {ErrorCode::kMaster,
          fmt::format("{}: whenever its locks were there, the publication or the tables that it "
                      "ships had been changed by somebody else, {} times",
                      doing(name), kPlansMax),
          "nothing was changed; let the other changes end, then try again", Recovery::kRetry};
}

// A standby is read-only, and gets its catalogue from the primary.
Error for_the_primary(const std::string& name, const PublicationPlan& plan) {
  std::string what = "is not what is asked for";
  if (!plan.added.empty()) what = "lacks tables that are asked for";
  if (plan.creates) what = "does not exist";
  return Error{
      ErrorCode::kMaster,
      fmt::format("publication {} {}, and the master is a standby, where it cannot be made", name,
                  what),
      fmt::format("run on the primary: {}; then start the sender again", as_transaction(plan))};
}

}  // namespace

Result<PublicationPlan> plan_publication(MasterSession& master, const std::string& name,
                                         const PublicationOptions& options,
                                         const LockPatience& patience,
                                         const std::stop_token& stop) {
  ASSIGN_OR_RETURN(auto planned, plan(master, name, options, patience, stop));
  return std::move(planned.plan);
}

Result<PublicationPlan> ensure_publication(MasterSession& master, const std::string& name,
                                           const PublicationOptions& options,
                                           const LockPatience& patience,
                                           const std::stop_token& stop) {
  ASSIGN_OR_RETURN(auto planned, plan(master, name, options, patience, stop));
  if (planned.plan.changes_nothing()) return std::move(planned.plan);
  if (planned.in_recovery) return for_the_primary(name, planned.plan);
  for (int plans = 0; plans < kPlansMax; ++plans) {
    ASSIGN_OR_RETURN(auto now, carry_out(master, name, options, planned.plan, patience, stop));
    const bool done = same_work(now.plan, planned.plan);
    planned = std::move(now);
    if (done || planned.plan.changes_nothing()) return std::move(planned.plan);
  }
  return changed_by_others(name);
}

Result<bool> drop_publication(MasterSession& master, const std::string& name) {
  bool dropped = false;
  RETURN_IF_ERROR(
      master.transact(fmt::format("cannot drop publication {}", name), [&](pqxx::work& tx) {
        dropped = !tx.exec_params("SELECT FROM pg_publication WHERE pubname = $1", name).empty();
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
        " WHERE p.pubname = $1 AND n.nspname <> 'bitacora' AND (c.relreplident = 'n' OR "
        "c.relreplident = 'd' AND NOT EXISTS"
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

Result<std::vector<std::string>> tables_with_partial_inserts(MasterSession& master,
                                                             const std::string& publication) {
  std::vector<std::string> tables;
  RETURN_IF_ERROR(master.execute("cannot look up row filters", [&](pqxx::nontransaction& tx) {
    const auto rows = tx.exec_params(
        "SELECT n.nspname, c.relname FROM pg_publication_tables p JOIN pg_publication u USING "
        "(pubname)"
        " JOIN pg_namespace n ON n.nspname = p.schemaname"
        " JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename"
        " WHERE p.pubname = $1 AND u.pubupdate AND c.relreplident IN ('d', 'i')"
        " AND pg_catalog.to_jsonb(p) ->> 'rowfilter' IS NOT NULL AND EXISTS"
        " (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0"
        "  AND NOT a.attisdropped AND a.attstorage <> 'p'"
        "  AND pg_catalog.to_jsonb(p) -> 'attnames' ? a.attname::text) ORDER BY 1, 2",
        publication);
    for (const auto row : rows)
      tables.push_back(proto::qualified_name(row[0].as<std::string>(), row[1].as<std::string>()));
  }));
  return tables;
}

}  // namespace bitacora::wal
