#include "proto/differences.h"

namespace bitacora::proto {

bool has_differences(pb::Part::KindCase kind) {
  return kind == pb::Part::kBegin || kind == pb::Part::kCommit || kind == pb::Part::kIdlePosition;
}

void make_differences(pb::Part& part, Differences& differences) {
  if (part.has_begin()) {
    auto& begin = *part.mutable_begin();
    begin.set_xid(differences.xid_less(static_cast<std::uint32_t>(begin.xid())));
    begin.set_commit_lsn(differences.lsn_less(begin.commit_lsn()));
    begin.set_commit_time_usec(differences.time_less(begin.commit_time_usec()));
  } else if (part.has_commit()) {
    auto& commit = *part.mutable_commit();
    commit.set_commit_lsn(differences.lsn_less(commit.commit_lsn()));
    commit.set_end_lsn(differences.lsn_less(commit.end_lsn()));
  } else if (part.has_idle_position()) {
    auto& position = *part.mutable_idle_position();
    position.set_lsn(differences.lsn_less(position.lsn()));
  }
}

void undo_differences(pb::Part& part, Differences& differences) {
  if (part.has_begin()) {
    auto& begin = *part.mutable_begin();
    begin.set_xid(differences.xid_more(begin.xid()));
    begin.set_commit_lsn(differences.lsn_more(begin.commit_lsn()));
    begin.set_commit_time_usec(differences.time_more(begin.commit_time_usec()));
  } else if (part.has_commit()) {
    auto& commit = *part.mutable_commit();
    commit.set_commit_lsn(differences.lsn_more(commit.commit_lsn()));
    commit.set_end_lsn(differences.lsn_more(commit.end_lsn()));
  } else if (part.has_idle_position()) {
    auto& position = *part.mutable_idle_position();
    position.set_lsn(differences.lsn_more(position.lsn()));
  }
}

}  // namespace bitacora::proto
