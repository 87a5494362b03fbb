// What a reader of the slot has described so far: pgoutput does so once per session, before the
// first row, and who joins in the middle has missed it.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "proto/replication.pb.h"

namespace bitacora::proto {

// One thread at a time.
class Descriptions {
 public:
  // Later ones replace those of the same OID; parts of other kinds are passed over.
  void take_in(const pb::ChangeBatch& batch);

  // All of it, types first, as a serialized pb::ChangeBatch: what is behind it in the same bytes is
  // part of that batch too. Empty when there is nothing.
  std::string encoded() const;

 private:
  std::map<std::uint32_t, pb::Part> types_;
  std::map<std::uint32_t, pb::Part> relations_;
};

}  // namespace bitacora::proto
