// What a publication lets through now. The plan of a copy was made under what it was then, and a
// snapshot goes on showing that.
#pragma once

#include <cstdint>
#include <set>
#include <stop_token>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "proto/replication.pb.h"
#include "wal/copy_plan.h"
#include "wal/master_session.h"

namespace bitacora::engine {

class PublicationLimits {
 public:
  // A table that somebody holds locked may have to be waited for; at `stop` not any longer.
  static Result<PublicationLimits> load(const std::string& conninfo, const std::string& publication,
                                        const wal::OnWaiting& waiting, const std::stop_token& stop);

  const std::vector<pb::Relation>& relations() const { return relations_; }

  // kConfiguration: the table is not published.
  Result<void> check(const std::string& schema, const std::string& table) const;
  // False: the table, or a column of it, is not published any more, or its row filter is another.
  bool allow(const wal::CopyPlanTable& planned) const;

 private:
  PublicationLimits(std::string publication, std::vector<pb::Relation> relations);

  std::string publication_;
  std::vector<pb::Relation> relations_;
  std::set<std::pair<std::string, std::string>> names_;     // schema and table
  std::unordered_map<std::uint32_t, std::size_t> by_oid_;   // where in relations_
  std::unordered_map<std::uint32_t, std::string> filters_;  // by the table's OID; SQL
};

// No table of the database is left out of the publication; but for those that no publication can
// have (temporary, unlogged).
Result<bool> publishes_every_table(wal::MasterSession& master, const std::string& publication);

}  // namespace bitacora::engine
