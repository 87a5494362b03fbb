// The master's schema as pg_dump gives it, cut into its entries.
#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "base/error.h"
#include "proto/replication.pb.h"
#include "wal/master_session.h"

namespace bitacora::engine {

struct SchemaDumpOptions {
  std::string conninfo;  // of the master; its password goes to pg_dump by the environment
  std::string publication;
  std::string bin_dir;  // where pg_dump and pg_restore are; empty: they are looked for
  std::vector<pb::TableName> tables;    // with all they need; none: everything in the database
  std::vector<pb::TableName> existing;  // nothing of these tables
  std::string snapshot;                 // of the master; empty: as it is now
};

// Without owners, privileges, tablespaces, publications, subscriptions and event triggers, and
// without the schema bitacora. Errors: kConfiguration, no pg_dump, or one that is older than the
// master (names the version that is needed and how it is installed); kMaster, with pg_dump's words.
Result<pb::DumpedSchema> dump_schema(wal::MasterSession& master, const SchemaDumpOptions& options,
                                     const std::stop_token& stop = {});

}  // namespace bitacora::engine
