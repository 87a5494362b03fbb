#include "wal/replication_slot.h"

#include <fmt/format.h>

namespace bitacora::wal {
namespace {

MasterLsn lsn_of(const pqxx::field& field) {
  return MasterLsn{field.is_null() ? 0 : parse_lsn(field.c_str()).value_or(0)};
}

}  // namespace

Result<std::optional<ReplicationSlot>> find_slot(MasterSession& master, const std::string& name) {
  std::optional<ReplicationSlot> slot;
  RETURN_IF_ERROR(master.execute("cannot look up the slot", [&](pqxx::nontransaction& tx) {
    const auto rows = tx.exec_params(
        "SELECT plugin, database, restart_lsn, confirmed_flush_lsn, wal_status,"
        " greatest(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint, active_pid,"
        " safe_wal_size"
        " FROM pg_replication_slots WHERE slot_name = $1",
        name);
    if (rows.empty()) return;
    const auto row = rows[0];
    slot = ReplicationSlot{
        row[0].as<std::string>(""), row[1].as<std::string>(""), lsn_of(row[2]), lsn_of(row[3]),
        row[4].as<std::string>(""), row[5].as<std::uint64_t>(0)};
    if (!row[6].is_null()) slot->active_pid = row[6].as<int>();
    if (!row[7].is_null()) slot->safe_wal_bytes = row[7].as<std::int64_t>();
  }));
  return slot;
}

Result<MasterLsn> create_slot(MasterSession& master, const std::string& name) {
  MasterLsn point;
  const std::string doing = fmt::format("cannot create slot {}", name);
  auto created = master.execute(doing, [&](pqxx::nontransaction& tx) {
    point = lsn_of(tx.exec_params(
        "SELECT lsn FROM pg_create_logical_replication_slot($1, 'pgoutput')", name)[0][0]);
  });
  if (created.ok()) return point;
  Error error = created.error();
  if (error.message.find("max_replication_slots") != std::string::npos ||
      error.message.find("all replication slots are in use") != std::string::npos) {
    error.hint =
        "drop an unused slot (SELECT pg_drop_replication_slot(...)) or raise max_replication_slots "
        "on the "
        "master and restart it";
  }
  return error;
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
