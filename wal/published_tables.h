// What a publication ships today, from the master's catalogue: for the receiver's preflight, before
// any change has arrived. In the shape of pgoutput's own Relation and Type messages.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "proto/replication.pb.h"
#include "wal/master_session.h"
#include "wal/patient_query.h"

namespace bitacora::wal {

struct PublishedTables {
  std::vector<pb::Relation> relations;
  std::vector<pb::Type> types;
};

Result<PublishedTables> published_tables(MasterSession& master, const std::string& publication);

// The relations alone, as the transaction of the query's connection sees them.
Result<std::vector<pb::Relation>> published_relations(PatientQuery& query,
                                                      const std::string& publication);

// False when a published column is an array, composite or range around a type without a send
// function (aclitem[] is one): pgoutput asked for binary fails on its first value and has to be
// asked for text.
Result<bool> binary_can_be_sent(MasterSession& master, const std::string& publication);

}  // namespace bitacora::wal
