// What a publication ships today, from the master's catalogue: for the receiver's preflight, before
// any change has arrived. In the shape of pgoutput's own Relation and Type messages.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "proto/replication.pb.h"
#include "wal/master_session.h"

namespace bitacora::wal {

struct PublishedTables {
  std::vector<pb::Relation> relations;
  std::vector<pb::Type> types;
};

Result<PublishedTables> published_tables(MasterSession& master, const std::string& publication);

}  // namespace bitacora::wal
