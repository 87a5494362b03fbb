// The publication of a stream: which tables the slot's changes are taken from.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "base/name_pattern.h"
#include "wal/master_session.h"

namespace bitacora::wal {

struct PublicationOptions {
  TablePatterns tables;       // which tables the stream ships
  bool tables_given = false;  // --tables was given: an existing publication must agree with it
  bool publish_via_partition_root = false;  // rows of partitions arrive under the root's name
};

// Makes the publication what the options ask for: creates it when absent, adds tables that match
// and are missing. Every table as FOR ALL TABLES (a superuser's right), a choice as a list of
// tables as they are now. True when it was created. kConfiguration: nothing matches, or an existing
// publication ships more than asked. kMaster on a standby, which cannot make it: the hint has the
// statement for the primary.
Result<bool> ensure_publication(MasterSession& master, const std::string& name,
                                const PublicationOptions& options);

// False when there was none.
Result<bool> drop_publication(MasterSession& master, const std::string& name);

// Published tables whose UPDATEs and DELETEs the master refuses, because they have no replica
// identity.
Result<std::vector<std::string>> tables_without_identity(MasterSession& master,
                                                         const std::string& publication);

}  // namespace bitacora::wal
