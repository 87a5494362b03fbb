// Marks what a session applies, by a replication origin, so that a sender on the same server does
// not ship it again. It only marks: how far the standby is says the progress row (rule I3). Source:
// https://www.postgresql.org/docs/current/replication-origins.html
#pragma once

#include <optional>
#include <string>

#include "apply/standby_session.h"
#include "base/error.h"

namespace bitacora::apply {

// Why the server does not mark what the session writes, and the statements that mend it.
struct OriginRefusal {
  std::string reason;
  std::string mend;
};

// Everything the session writes from here on, as long as its connection lives. An origin is one
// session's at a time: the first of bitacora_1, bitacora_2, ... that nobody has is taken, and made
// where there is none. They stay, and are whoever's comes next: so there are as many as the server
// ever had such sessions at the same time, of whatever receivers. One round trip. An error is the
// connection's: what the server refuses is the answer, and the session goes on without a mark.
Result<std::optional<OriginRefusal>> mark_session(StandbySession& standby);

// The same, and says once in this process what is refused.
Result<void> mark_what_is_applied(StandbySession& standby);

// A statement that becomes the first change of its transaction, and leaves nothing. Of a
// transaction that is streamed while it is in progress the master tells the origin of the first
// change only, and one to the catalogue (TRUNCATE, CREATE) has none: this goes before it.
const std::string& first_change_sql();

}  // namespace bitacora::apply
