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
  std::string conninfo;      // of the master; its password goes to pg_dump by the environment
  std::string bin_dir = {};  // where pg_dump and pg_restore are; empty: they are looked for
  std::vector<pb::TableName> tables = {};    // with all they need; none: everything in the database
  std::vector<pb::TableName> existing = {};  // nothing of these tables
  std::string snapshot = {};                 // of the master; empty: as it is now
};

// Without owners, privileges, tablespaces, publications, subscriptions, event triggers, user
// mappings and large objects, and without the schema bitacora. A foreign key is there when what it
// refers to is among the tables. Each entry can be run by itself, in a session with
// check_function_bodies off. Errors: kConfiguration, no pg_dump, or one that is older than the
// master (names the version that is needed and how it is installed), or a table that the master
// does not have; kMaster, with pg_dump's words, also at `stop`.
Result<pb::DumpedSchema> dump_schema(wal::MasterSession& master, const SchemaDumpOptions& options,
                                     const std::stop_token& stop = {});

}  // namespace bitacora::engine
