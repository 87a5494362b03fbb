#include "engine/sender_status.h"

#include <nlohmann/json.hpp>

#include "base/lsn.h"

namespace bitacora::engine {
namespace {

using Json = nlohmann::ordered_json;

Json lsn(std::uint64_t value) { return value == 0 ? Json() : Json(format_lsn(value)); }

// Null while it is not connected, or waits for the common reader to begin.
Json reader(const transport::ReceiverState& receiver) {
  switch (receiver.read_by) {
    case transport::ReadBy::kCommon:
      return "live";
    case transport::ReadBy::kOwn:
      return "catch_up";
    case transport::ReadBy::kNobody:
      break;
  }
  return {};
}

}  // namespace

std::string status_document(const SenderStatus& status) {
  Json receivers = Json::array();
  for (const auto& receiver : status.receivers) {
    receivers.push_back({{"name", receiver.receiver},
                         {"connected", receiver.connected},
                         {"reader", reader(receiver)},
                         {"received_lsn", lsn(receiver.positions.received.value)},
                         {"flushed_lsn", lsn(receiver.positions.flushed.value)},
                         {"applied_lsn", lsn(receiver.positions.applied.value)},
                         {"queued_bytes", receiver.queued_bytes}});
  }
  Json dropped = Json::array();
  for (const auto& [name, each] : status.dropped) {
    dropped.push_back({{"name", name},
                       {"flushed_lsn", lsn(each.flushed.value)},
                       {"wal_lsn", lsn(each.wal_lsn.value)},
                       {"limit_bytes", each.limit_bytes},
                       {"dropped_at", each.at}});
  }
  Json tables = Json::array();
  for (const auto& share : status.tables)
    tables.push_back({{"table", share.table}, {"rows", share.rows}, {"bytes", share.bytes}});
  const Json document = {{"role", "sender"},
                         {"stream", status.stream},
                         {"slot", status.slot},
                         {"reader", status.catching_up ? "catch_up" : "live"},
                         {"wal_lsn", lsn(status.wal_lsn)},
                         {"read_lsn", lsn(status.read_lsn)},
                         {"confirmed_lsn", lsn(status.confirmed_lsn)},
                         {"retained_bytes", status.retained_bytes},
                         {"receivers", receivers},
                         {"dropped_receivers", dropped},
                         {"tables", tables}};
  return document.dump();
}

}  // namespace bitacora::engine
