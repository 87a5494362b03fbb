// Changes for the micro-benchmarks, as a master would send them: alike on every run.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "proto/batch.h"
#include "proto/replication.pb.h"
#include "wal/pgoutput_decoder.h"

namespace bitacora::bench {

struct PlayedChanges {
  std::string name;
  std::vector<std::string> messages;  // of pgoutput
  std::size_t rows = 0;
  std::size_t columns = 0;  // of the relation with most rows

  std::size_t bytes() const;  // of the messages
};

// Many transactions of pgbench's own kind: three UPDATEs and an INSERT, each of another relation.
PlayedChanges small_transactions();
// A few of those: what a live sender has at a time.
PlayedChanges trickle();
// One transaction that inserts rows of ten columns.
PlayedChanges bulk_insert();
// All of them.
std::vector<PlayedChanges> played_changes();

inline constexpr wal::PgOutputOptions kPlayedOptions{1, false};
inline constexpr std::uint32_t kAccounts = 1;  // of small_transactions(): the relation's OID
inline constexpr std::uint32_t kOrders = 5;    // of bulk_insert()

// As the sender makes it of them.
proto::EncodedBatch encoded(const PlayedChanges& changes);
// The blocks of rows of one relation.
std::vector<pb::Rows> blocks(const PlayedChanges& changes, std::uint32_t relation_oid);

}  // namespace bitacora::bench
