// The sender's options as its publication: made and changed as they say, or only told what would
// be.
#pragma once

#include <stop_token>
#include <string>

#include "base/error.h"
#include "engine/options.h"
#include "wal/master_session.h"
#include "wal/publication.h"

namespace bitacora::engine {

// Which tables that is, for what goes with them: the schema and the sequences.
TablePatterns shipped_patterns(const SenderOptions& options);

wal::PublicationOptions publication_options(const SenderOptions& options);

// Logs what it changed, and what is worth a warning. Errors: see wal::ensure_publication().
// `session` must hold nothing that its loss would matter for: a lock that is not had ends it.
Result<wal::PublicationPlan> keep_publication(wal::MasterSession& session,
                                              const SenderOptions& options,
                                              const std::stop_token& stop);

// What --plan prints.
std::string describe(const wal::PublicationPlan& plan, const std::string& publication);

// bitacora sender --plan: changes nothing.
Result<void> run_plan(const SenderOptions& options, const std::stop_token& stop);

}  // namespace bitacora::engine
