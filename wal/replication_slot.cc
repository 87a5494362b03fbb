#include "wal/replication_slot.h"

#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "wal/answer_wait.h"
#include "wal/master_connection.h"
#include "wal/system_identity.h"
#include "wal/wal_end.h"

namespace bitacora::wal {
namespace {

// Of a row of pg_replication_slots, whose columns are of a version: 17 has the reason, 16 whether
// it conflicts with recovery, all have lost WAL.
constexpr const char* kInvalidationReason =
    "coalesce(to_jsonb(s) ->> 'invalidation_reason',"
    " CASE WHEN (to_jsonb(s) ->> 'conflicting')::bool THEN 'conflicting'"
    " WHEN s.wal_status = 'lost' THEN 'wal_removed' END, '')";

MasterLsn lsn_of(const pqxx::field& field) {
  return MasterLsn{field.is_null() ? 0 : parse_lsn(field.c_str()).value_or(0)};
}

void say_what_it_waits_for(const std::string& slot, bool standby) {
  spdlog::warn("event=slot_waits slot={} for=\"{}\" hint=\"{}\"", slot,
               standby ? "the primary to write which transactions run there"
                       : "the end of all transactions that are open now",
               standby ? "run on the primary: SELECT pg_log_standby_snapshot()"
                       : "SELECT pid, xact_start, query FROM pg_stat_activity WHERE backend_xid IS "
                         "NOT NULL ORDER BY 2");
}

}  // namespace

Error with_creation_hint(Error error) {
  static constexpr std::array<std::pair<std::string_view, const char*>, 3> kHints = {{
      {"replication slots are in use",
       "drop an unused slot (SELECT pg_drop_replication_slot(...)) or raise max_replication_slots "
       "on the master and restart it"},
      {"max_replication_slots", "raise max_replication_slots on the master and restart it"},
      {"on the primary",
       "run on the primary: ALTER SYSTEM SET wal_level = logical, then restart it"},
  }};
  for (const auto& [words, hint] : kHints) {
    if (error.message.find(words) == std::string::npos) continue;
    error.hint = hint;
    break;
  }
  return error;
}

Result<std::optional<ReplicationSlot>> find_slot(MasterSession& master, const std::string& name) {
  std::optional<ReplicationSlot> slot;
  RETURN_IF_ERROR(master.execute("cannot look up the slot", [&](pqxx::nontransaction& tx) {
    const auto rows = tx.exec_params(
        fmt::format("SELECT plugin, database, restart_lsn, confirmed_flush_lsn, wal_status,"
                    " greatest(pg_wal_lsn_diff({}, restart_lsn), 0)::bigint, {}, active_pid,"
                    " safe_wal_size FROM pg_replication_slots AS s WHERE slot_name = $1",
                    kWalEnd, kInvalidationReason),
        name);
    if (rows.empty()) return;
    const auto row = rows[0];
    slot = ReplicationSlot{row[0].as<std::string>(""),
                           row[1].as<std::string>(""),
                           lsn_of(row[2]),
                           lsn_of(row[3]),
                           row[4].as<std::string>(""),
                           row[6].as<std::string>(""),
                           row[5].as<std::uint64_t>(0)};
    if (!row[7].is_null()) slot->active_pid = row[7].as<int>();
    if (!row[8].is_null()) slot->safe_wal_bytes = row[8].as<std::int64_t>();
  }));
  return slot;
}

Result<MasterLsn> create_slot(const std::string& conninfo, const std::string& name,
                              const std::stop_token& stop) {
  const std::string doing = fmt::format("cannot create slot {}", name);
  MasterConnector connector(conninfo, "bitacora sender");
  ASSIGN_OR_RETURN(const auto connection, connector.connect());
  PGconn* pq = connection.get();
  ASSIGN_OR_RETURN(const auto server, identify_server(pq));
  const auto command =
      fmt::format("SELECT lsn FROM pg_catalog.pg_create_logical_replication_slot({}, 'pgoutput')",
                  quoted_literal(pq, name));
  if (PQsendQuery(pq, command.c_str()) != 1) return master_error(pq, doing);
  const auto say_once = [&, told = false]() mutable {
    if (!std::exchange(told, true)) say_what_it_waits_for(name, server.in_recovery);
  };
  RETURN_IF_ERROR(AnswerWait(pq, doing, say_once, stop).answer());
  const MasterResult result(PQgetResult(pq));
  if (PQresultStatus(result.get()) != PGRES_TUPLES_OK)
    return with_creation_hint(master_error(pq, doing, result.get()));
  return MasterLsn{parse_lsn(PQgetvalue(result.get(), 0, 0)).value_or(0)};
}

Result<void> advance_slot(MasterSession& master, const std::string& name, MasterLsn position) {
  return master.execute(fmt::format("cannot move slot {} forward", name),
                        [&](pqxx::nontransaction& tx) {
                          tx.exec_params("SELECT pg_replication_slot_advance($1, $2::pg_lsn)", name,
                                         to_string(position));
                        });
}

Result<bool> drop_slot(MasterSession& master, const std::string& name) {
  bool dropped = false;
  RETURN_IF_ERROR(
      master.execute(fmt::format("cannot drop slot {}", name), [&](pqxx::nontransaction& tx) {
        dropped = !tx.exec_params(
                         "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                         " WHERE slot_name = $1",
                         name)
                       .empty();
      }));
  return dropped;
}

}  // namespace bitacora::wal
