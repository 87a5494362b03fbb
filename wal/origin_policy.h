// Which transactions are shipped, by where they came from: a replication origin marks what a
// session applied rather than wrote. Source:
// https://www.postgresql.org/docs/current/replication-origins.html
#pragma once

#include <string_view>

#include "proto/own_names.h"

namespace bitacora::wal {

enum class OriginPolicy {
  kAuto,  // all but what a receiver of ours applied: it would come back to where it was written
  kNone,  // what was written on this server itself
  kAny,   // everything
};

// `name` as pgoutput's Origin message has it, which transactions without an origin lack.
inline bool ships(OriginPolicy policy, std::string_view name) {
  if (policy == OriginPolicy::kAuto) return !name.starts_with(proto::kOriginPrefix);
  return policy == OriginPolicy::kAny;
}

}  // namespace bitacora::wal
