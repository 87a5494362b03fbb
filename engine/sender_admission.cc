// Who is let in by a sender, and to what; who is forgotten.
#include <utility>

#include <fmt/format.h>

#include "engine/publication_keeper.h"
#include "engine/receiver_name.h"
#include "engine/sender.h"
#include "proto/relation.h"
#include "wal/published_tables.h"

namespace bitacora::engine {
namespace {

// The ports are open before the master is looked at: an address that is taken, or an error in a
// certificate, is found before anything is made there.
Error starting() { return {ErrorCode::kNetwork, "the sender is starting", {}, Recovery::kRetry}; }

Error options_changed() {
  return {ErrorCode::kNetwork, "the sender has read its file again", {}, Recovery::kRetry};
}

// A standby that started anew lets us in before it has replayed what it had before.
Error not_replayed_yet(const std::string& receiver, MasterLsn resume, MasterLsn wal_end) {
  return {ErrorCode::kMaster,
          fmt::format("receiver {} has changes up to {}, the standby has replayed up to {}",
                      receiver, to_string(resume), to_string(wal_end)),
          {},
          Recovery::kRetry};
}

}  // namespace

void Sender::take_options(const SenderOptions& fresh, bool publication_changed) {
  const bool grants_changed = take_grants(fresh.receivers);
  copies_->take_options(shipped_patterns(fresh));
  if (!publication_changed && !grants_changed) return;
  if (publication_changed) publication_changed_ = true;
  ++options_taken_;
  hub_.disconnect_all();  // each learns of the tables when it comes back
  wake_up_.signal();
}

void Sender::narrow_grants(const SenderOptions& running, const SenderOptions& fresh) {
  if (running.receivers == fresh.receivers) return;
  if (!take_grants(fresh.receivers.within(running.receivers))) return;
  ++options_taken_;
  hub_.disconnect_all();
}

bool Sender::take_grants(const ReceiverGrants& fresh) {
  const std::lock_guard lock(grants_mutex_);
  if (grants_ == fresh) return false;
  grants_ = fresh;
  return true;
}

Result<Grant> Sender::grant_for(const std::string& receiver, const transport::Peer& peer) const {
  RETURN_IF_ERROR(check_receiver_name(receiver));
  RETURN_IF_ERROR(registry_->check_owner(receiver, peer));
  const std::lock_guard lock(grants_mutex_);
  return grants_.find(receiver, peer);
}

// `identity` is what the receiver's state belongs to; null on its first start.
Result<void> Sender::check_caller(const std::string& stream, const pb::Identity* identity) const {
  if (!ready_) return starting();
  if (stream != options_.stream) {
    return Error{ErrorCode::kConfiguration,
                 fmt::format("this sender ships stream {}, not {}", options_.stream, stream),
                 "give the receiver the sender's --stream"};
  }
  if (identity == nullptr || proto::same_identity(*identity, master_.identity)) return {};
  return Error{ErrorCode::kState,
               fmt::format("the receiver follows ({}), this sender ships ({})",
                           proto::describe(*identity), proto::describe(master_.identity)),
               "point --sender at the right one, or give this pair its own --name and --data-dir"};
}

Result<CopyServer::Served> Sender::serve(const pb::Caller& caller,
                                         const transport::Peer& peer) const {
  RETURN_IF_ERROR(
      check_caller(caller.stream(), caller.has_identity() ? &caller.identity() : nullptr));
  ASSIGN_OR_RETURN(auto grant, grant_for(caller.receiver(), peer));
  return CopyServer::Served{master_.identity, std::move(grant),
                            hub_.is_registered(caller.receiver())};
}

Result<transport::Admission> Sender::admit(const pb::Hello& hello, const transport::Peer& peer) {
  RETURN_IF_ERROR(check_caller(hello.stream(), hello.has_identity() ? &hello.identity() : nullptr));
  const auto options_taken = options_taken_.load();
  ASSIGN_OR_RETURN(const auto grant, grant_for(hello.receiver(), peer));
  ASSIGN_OR_RETURN(const auto scope, grant.scope({hello.tables().begin(), hello.tables().end()}));
  hub_.on_attempt(hello.receiver());  // it is not away, whatever the master says
  const std::lock_guard lock(query_mutex_);
  ASSIGN_OR_RETURN(auto published, wal::published_tables(query_session_, options_.publication()));
  const auto idle = scope.idle_patterns(published);
  const auto tables = scope.narrowed(std::move(published));
  transport::Admission admission;
  admission.takes = scope.takes();
  ASSIGN_OR_RETURN(admission.subscription, let_in(hello));
  // Before the Welcome: what it promises must outlive us.
  const auto noted = options_taken == options_taken_
                         ? registry_->note_registered(*admission.subscription, peer)
                         : Result<void>(options_changed());
  if (!noted.ok()) {
    hub_.leave(admission.subscription);
    registry_->forget_unnoted(hello.receiver());
    return noted.error();
  }
  pb::Welcome& welcome = admission.welcome;
  welcome.set_wire_version(proto::kWireVersion);
  *welcome.mutable_identity() = master_.identity;
  welcome.set_start_lsn(admission.subscription->start_lsn().value);
  welcome.set_timeline(master_.history.timeline);
  welcome.set_server_version(static_cast<std::uint32_t>(master_.server_version));
  welcome.mutable_relations()->Assign(tables.relations.begin(), tables.relations.end());
  welcome.mutable_types()->Assign(tables.types.begin(), tables.types.end());
  welcome.mutable_idle_patterns()->Assign(idle.begin(), idle.end());
  return admission;
}

// From where the receiver continues; kState names the exact range that nobody has any more.
transport::SlotHold::Joined Sender::let_in(const pb::Hello& hello) {
  ASSIGN_OR_RETURN(const auto confirmed, slot_position());
  const MasterLsn resume{hello.resume_lsn()};
  if (!resume.valid()) return hold_.join_new(hello.receiver(), hello.instance(), confirmed);
  ASSIGN_OR_RETURN(const auto wal_end, query_session_.current_wal_lsn());
  if (resume > wal_end) {
    ASSIGN_OR_RETURN(const bool standby, query_session_.in_recovery());
    if (standby) return not_replayed_yet(hello.receiver(), resume, wal_end);
    return Error{
        ErrorCode::kState,
        fmt::format("receiver {} has changes up to {}, the master's WAL ends at {}: it is an older "
                    "state of the master",
                    hello.receiver(), to_string(resume), to_string(wal_end)),
        "find out which of the two is right; to follow this master begin the receiver anew"};
  }
  if (hello.timeline() != 0) {
    RETURN_IF_ERROR(wal::check_shared(master_.history, hello.receiver(), hello.timeline(), resume));
  }
  auto joined = hold_.join_at(hello.receiver(), hello.instance(), resume, confirmed);
  if (joined.ok() || joined.error().code != ErrorCode::kState) return joined;
  return registry_->explained(joined.error(), hello.receiver());
}

// What the status page is asked to have done. From its threads.
Result<std::string> Sender::control(const ControlRequest& request) {
  if (request.command != "forget") {
    return Error{ErrorCode::kState,
                 fmt::format("this is a sender, which knows no {}", request.command),
                 "give the receiver's --http"};
  }
  if (!ready_) return starting();
  return registry_->forget(request.argument);
}

}  // namespace bitacora::engine
