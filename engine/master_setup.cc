#include "engine/master_setup.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>

#include <fmt/format.h>

#include "base/interruptible_sleep.h"
#include "base/log.h"
#include "engine/connect_hint.h"
#include "engine/publication_keeper.h"
#include "proto/relation.h"
#include "wal/master_connection.h"
#include "wal/publication.h"
#include "wal/replication_slot.h"
#include "wal/system_identity.h"

namespace bitacora::engine {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kStartingServerPatience{60};
constexpr std::chrono::seconds kPredecessorPatience{
    15};  // a killed sender's connections, until the master notices
constexpr std::chrono::milliseconds kRetryInterval{100};
constexpr const char* kBeginAnew =
    "begin anew: bitacora drop, empty --state-dir and the receivers' --data-dir, delete their rows "
    "of bitacora.progress, start the receivers with --truncate";
constexpr const char* kFeedback =
    "set hot_standby_feedback = on and primary_slot_name on the standby";

bool is_starting_up(const Error& error) {
  for (const char* words : {"starting up", "not yet accepting connections", "in recovery mode",
                            "not accepting connections"}) {
    if (error.message.find(words) != std::string::npos) return true;
  }
  return false;
}

Result<wal::SystemIdentity> identify(const SenderOptions& options, const std::stop_token& stop) {
  const auto deadline = Clock::now() + kStartingServerPatience;
  wal::MasterConnector connector(options.master, "bitacora");
  while (true) {
    auto connection = connector.connect();
    if (connection.ok()) return wal::identify_system(connection->get());
    const bool wait =
        is_starting_up(connection.error()) && Clock::now() < deadline && !stop.stop_requested();
    if (!wait) return with_connect_hint(connection.error(), "--master");
    interruptible_sleep(kRetryInterval, stop);
  }
}

Result<void> lock_slot(wal::MasterSession& session, const std::string& slot,
                       const std::stop_token& stop) {
  const auto deadline = Clock::now() + kPredecessorPatience;
  while (true) {
    ASSIGN_OR_RETURN(const bool locked, session.try_lock_slot(slot));
    if (locked) return {};
    if (Clock::now() >= deadline || stop.stop_requested()) break;
    interruptible_sleep(kRetryInterval, stop);
  }
  return Error{ErrorCode::kMaster,
               fmt::format("another sender serves slot {} of this master", slot),
               "stop it (SELECT pid, client_addr FROM pg_stat_activity WHERE application_name LIKE "
               "'bitacora%'), or use "
               "another --stream"};
}

Result<void> check_state(const SenderStateFile& state, const pb::Identity& identity) {
  if (!state.state() || proto::same_identity(state.state()->identity, identity)) return {};
  return Error{ErrorCode::kState,
               fmt::format("the state directory belongs to ({}), this is ({})",
                           proto::describe(state.state()->identity), proto::describe(identity)),
               "give each stream its own --state-dir"};
}

Error slot_gone(const std::string& slot, MasterLsn from) {
  return {ErrorCode::kState,
          fmt::format("slot {} is gone from the master: it was made at {}, and what was written "
                      "since is lost to the receivers",
                      slot, to_string(from)),
          kBeginAnew};
}

// What an invalidated slot says of itself, in words.
struct Invalidation {
  std::string_view reason;
  std::string_view meaning;
  std::string_view remedy;
};

constexpr std::array<Invalidation, 5> kInvalidations = {{
    {"wal_removed", "the master removed WAL that it needed", "raise max_slot_wal_keep_size"},
    {"rows_removed", "the primary removed rows of its catalogue that it needed", kFeedback},
    {"wal_level_insufficient", "the primary's wal_level was not logical for a time",
     "set wal_level = logical on the primary"},
    {"conflicting",
     "the primary removed rows of its catalogue that it needed, or its wal_level was not logical "
     "for a time",
     kFeedback},
    {"idle_timeout", "nobody read it for idle_replication_slot_timeout",
     "raise idle_replication_slot_timeout on the master"},
}};

Error invalidated(const std::string& slot, const std::string& reason) {
  const auto* const known =
      std::find_if(kInvalidations.begin(), kInvalidations.end(),
                   [&](const Invalidation& one) { return one.reason == reason; });
  const bool is_known = known != kInvalidations.end();
  return {ErrorCode::kState,
          fmt::format("slot {} was invalidated: {}", slot, is_known ? known->meaning : reason),
          fmt::format("{}; then {}", is_known ? known->remedy : "find out why in the master's log",
                      kBeginAnew)};
}

Result<void> check_found(const wal::ReplicationSlot& slot, const std::string& name,
                         const std::string& database) {
  if (slot.plugin != "pgoutput" || slot.database != database) {
    return Error{
        ErrorCode::kState,
        fmt::format("slot {} is of plugin {} and database {}", name, slot.plugin, slot.database),
        "use another --stream, or drop that slot"};
  }
  if (!slot.invalidation_reason.empty()) return invalidated(name, slot.invalidation_reason);
  return {};
}

Result<void> warn_of_large_objects(wal::MasterSession& session) {
  std::int64_t count = 0;
  RETURN_IF_ERROR(session.execute("cannot count large objects", [&](pqxx::nontransaction& tx) {
    count =
        tx.exec("SELECT count(*) FROM pg_catalog.pg_largeobject_metadata")[0][0].as<std::int64_t>();
  }));
  if (count == 0) return {};
  spdlog::warn(
      "event=large_objects count={} meaning=\"logical decoding does not see them: neither they nor "
      "their changes are shipped\" hint=\"keep such values in bytea columns\"",
      count);
  return {};
}

void warn_of_missing_feedback(const std::string& slot) {
  spdlog::warn(
      "event=no_hot_standby_feedback slot={} meaning=\"the primary may remove rows of its "
      "catalogue "
      "that the slot needs, which ends it\" hint=\"{}\"",
      slot, kFeedback);
}

// The publication comes first: decoding changes written between the two would fail without it.
Result<MasterLsn> make_slot(wal::MasterSession& session, const SenderOptions& options,
                            bool publication_created, const std::stop_token& stop) {
  auto made = wal::create_slot(options.master, options.slot(), stop);
  if (!made.ok() && publication_created) {
    const auto dropped = wal::drop_publication(session, options.publication());
    if (!dropped.ok())
      spdlog::warn("event=cleanup_failed reason=\"{}\"", one_line(dropped.error()));
  }
  return made;
}

Result<void> ensure_publication_and_slot(wal::MasterSession& session, const SenderOptions& options,
                                         SenderStateFile& state, const pb::Identity& identity,
                                         const std::stop_token& stop) {
  ASSIGN_OR_RETURN(const auto found, wal::find_slot(session, options.slot()));
  if (!found && state.state()) return slot_gone(options.slot(), state.state()->slot_from);
  if (found) RETURN_IF_ERROR(check_found(*found, options.slot(), identity.database()));

  // Not our session, which holds the slot's name locked.
  wal::MasterSession publishing(options.master);
  ASSIGN_OR_RETURN(const auto done, keep_publication(publishing, options, stop));
  if (found && state.state()) return {};
  MasterLsn from;
  if (found) {
    from = found->confirmed_flush_lsn;
    spdlog::info("event=slot_taken_over slot={} from={}", options.slot(), to_string(from));
  } else {
    ASSIGN_OR_RETURN(from, make_slot(session, options, done.creates, stop));
    spdlog::info("event=slot_created slot={} from={}", options.slot(), to_string(from));
  }
  return state.save({identity, from, {}});
}

}  // namespace

Result<Master> set_up_master(wal::MasterSession& session, const SenderOptions& options,
                             SenderStateFile& state, std::stop_token stop) {
  ASSIGN_OR_RETURN(const auto system, identify(options, stop));
  ASSIGN_OR_RETURN(const auto facts, session.facts());
  RETURN_IF_ERROR(wal::check_master(facts));
  Master master;
  master.history = system.history;
  master.server_version = facts.server_version;
  master.identity.set_system_identifier(system.system_identifier);
  master.identity.set_database(system.database);
  master.identity.set_slot(options.slot());
  master.identity.set_stream(options.stream);
  RETURN_IF_ERROR(check_state(state, master.identity));
  RETURN_IF_ERROR(lock_slot(session, options.slot(), stop));
  RETURN_IF_ERROR(ensure_publication_and_slot(session, options, state, master.identity, stop));
  RETURN_IF_ERROR(warn_of_large_objects(session));
  if (facts.in_recovery && !facts.hot_standby_feedback) warn_of_missing_feedback(options.slot());
  return master;
}

Result<MasterLsn> confirmed_position(wal::MasterSession& session, const std::string& slot,
                                     MasterLsn slot_from) {
  ASSIGN_OR_RETURN(const auto found, wal::find_slot(session, slot));
  if (!found) return slot_gone(slot, slot_from);
  RETURN_IF_ERROR(check_found(*found, slot, found->database));
  return found->confirmed_flush_lsn;
}

}  // namespace bitacora::engine
