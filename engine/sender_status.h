// What a sender's status page says.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/sender_state.h"
#include "transport/subscription_hub.h"
#include "wal/table_traffic.h"

namespace bitacora::engine {

// Positions are the master's LSNs, zero while they are not known.
struct SenderStatus {
  std::string stream;
  std::string slot;
  bool catching_up = false;  // the common reader
  std::uint64_t wal_lsn = 0;
  std::uint64_t read_lsn = 0;
  std::uint64_t confirmed_lsn = 0;
  std::uint64_t retained_bytes = 0;
  std::vector<transport::ReceiverState> receivers = {};
  std::map<std::string, DroppedReceiver> dropped = {};
  std::vector<wal::TableShare> tables = {};
};

// As JSON.
std::string status_document(const SenderStatus& status);

}  // namespace bitacora::engine
