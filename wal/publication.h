// The publication of a stream: which tables the slot's changes are taken from, and what of them.
#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "base/error.h"
#include "wal/lock_patience.h"
#include "wal/master_session.h"
#include "wal/publication_choice.h"
#include "wal/publication_plan.h"

namespace bitacora::wal {

// What would have to be done for the publication to be what the options ask for. Every table is
// FOR ALL TABLES (a superuser's right), a choice a list of tables as they are now, and schemas that
// are shipped whole (a superuser's right too). Changes nothing. Errors: see choose();
// kConfiguration also for columns and filters that PostgreSQL refuses, or for which it would refuse
// the application's UPDATEs; kMaster.
Result<PublicationPlan> plan_publication(MasterSession& master, const std::string& name,
                                         const PublicationOptions& options,
                                         const LockPatience& patience = {},
                                         const std::stop_token& stop = {});

// Does it, in one transaction, and answers what was done. Errors: as above; kMaster when a table
// that is added or changed stays locked, when others keep changing the publication (that heals),
// and on a standby, which cannot change anything: the hint has the statements for the primary.
Result<PublicationPlan> ensure_publication(MasterSession& master, const std::string& name,
                                           const PublicationOptions& options,
                                           const LockPatience& patience = {},
                                           const std::stop_token& stop = {});

// False when there was none.
Result<bool> drop_publication(MasterSession& master, const std::string& name);

// Published tables whose UPDATEs and DELETEs the master refuses, because they have no replica
// identity.
Result<std::vector<std::string>> tables_without_identity(MasterSession& master,
                                                         const std::string& publication);

// Published tables with a filter, columns that may be stored out of line (TOAST) and a key as their
// identity: an UPDATE that brings a row in is shipped as an INSERT, without what of those columns
// it left as it was.
Result<std::vector<std::string>> tables_with_partial_inserts(MasterSession& master,
                                                             const std::string& publication);

}  // namespace bitacora::wal
