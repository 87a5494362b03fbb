#include "engine/publication_limits.h"

#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>

#include "proto/relation.h"
#include "wal/master_connection.h"
#include "wal/patient_query.h"
#include "wal/published_tables.h"

namespace bitacora::engine {
namespace {

// Row filters exist from 15 on.
constexpr const char* kFiltersQuery = R"(
SELECT c.oid, pg_catalog.to_jsonb(p) ->> 'rowfilter' FROM pg_publication_tables p
JOIN pg_namespace n ON n.nspname = p.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
WHERE p.pubname = $1 AND pg_catalog.to_jsonb(p) ->> 'rowfilter' IS NOT NULL)";

// A partition may be published by its root; a partitioned table has no rows of its own. Tables of
// the catalogue (below FirstNormalObjectId) are never published.
constexpr const char* kSomeLeftOutQuery = R"(
WITH published AS (
  SELECT c.oid FROM pg_publication_tables p JOIN pg_namespace n ON n.nspname = p.schemaname
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename WHERE p.pubname = $1
)
SELECT EXISTS (
  SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.oid >= 16384 AND n.nspname <> 'bitacora'
    AND c.oid NOT IN (SELECT oid FROM published)
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(c.oid) a (oid) JOIN published USING (oid))))";

bool has_column(const pb::Relation& relation, const std::string& name) {
  return std::any_of(relation.columns().begin(), relation.columns().end(),
                     [&](const pb::Column& column) { return column.name() == name; });
}

}  // namespace

PublicationLimits::PublicationLimits(std::string publication, std::vector<pb::Relation> relations)
    : publication_(std::move(publication)), relations_(std::move(relations)) {
  for (std::size_t i = 0; i < relations_.size(); ++i) {
    names_.emplace(relations_[i].schema(), relations_[i].name());
    by_oid_.emplace(relations_[i].oid(), i);
  }
}

// By a connection like those that plan copies: the server words a filter by its session's settings.
Result<PublicationLimits> PublicationLimits::load(const std::string& conninfo,
                                                  const std::string& publication,
                                                  const wal::OnWaiting& waiting,
                                                  const std::stop_token& stop) {
  wal::MasterConnector connector(conninfo, "bitacora copy", wal::MasterConnector::Mode::kSql);
  ASSIGN_OR_RETURN(const auto connection, connector.connect());
  wal::PatientQuery ask(connection.get(), conninfo, waiting, stop);
  ASSIGN_OR_RETURN(auto relations, wal::published_relations(ask, publication));
  PublicationLimits limits(publication, std::move(relations));
  ASSIGN_OR_RETURN(const auto rows,
                   ask.rows(kFiltersQuery, {publication}, "cannot list the row filters"));
  for (int i = 0; i < PQntuples(rows.get()); ++i) {
    const auto oid = std::strtoul(wal::field(rows.get(), i, 0), nullptr, 10);
    limits.filters_.emplace(static_cast<std::uint32_t>(oid), wal::field(rows.get(), i, 1));
  }
  return limits;
}

Result<void> PublicationLimits::check(const std::string& schema, const std::string& table) const {
  if (names_.contains({schema, table})) return {};
  return Error{ErrorCode::kConfiguration,
               fmt::format("publication {} does not have table {}", publication_,
                           proto::qualified_name(schema, table)),
               "compare with: SELECT * FROM pg_publication_tables"};
}

bool PublicationLimits::allow(const wal::CopyPlanTable& planned) const {
  const auto& relation = planned.plan.relation();
  const auto now = by_oid_.find(relation.oid());
  if (now == by_oid_.end()) return false;
  const auto filter = filters_.find(relation.oid());
  if (planned.row_filter != (filter == filters_.end() ? "" : filter->second)) return false;
  const auto& published = relations_[now->second];
  return std::all_of(
      relation.columns().begin(), relation.columns().end(),
      [&](const pb::Column& column) { return has_column(published, column.name()); });
}

Result<bool> publishes_every_table(wal::MasterSession& master, const std::string& publication) {
  bool some_left_out = false;
  RETURN_IF_ERROR(master.transact("cannot look for unpublished tables", [&](pqxx::work& tx) {
    some_left_out = tx.exec_params(kSomeLeftOutQuery, publication)[0][0].as<bool>();
  }));
  return !some_left_out;
}

}  // namespace bitacora::engine
